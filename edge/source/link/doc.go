// Package link turns what the kernel knows of network ports into signals on if:NAME:
// carrier, damaged and missed frames, collisions, duplex, a lost address.
//
// The agent runs one Source. Run blocks until its context ends, works in the caller's
// goroutine and emits from there. One rtnetlink socket of the network namespace that Run
// is called in brings changes at once and, every interval, a dump with the counters; both
// are the same message and go one way, so a flap between two dumps is counted too. A port
// that an administrator takes down has lost no carrier.
package link
