// Package disk turns what drives report of themselves, and what the kernel counts about
// them, into signals on disk:SERIAL.
//
// The agent runs one Source. Run blocks until its context ends and emits from its own
// goroutine only. Each drive is read by a goroutine of its own, at most one at a time:
// an ioctl to a hung drive cannot be interrupted, so Run reports such a drive as
// unobservable, goes on with the others, and at its end waits for a reading no longer
// than Config.Grace. A rotating drive that nobody has used since it was last read is
// not read again, so that it can fall asleep; one that sleeps is left asleep.
package disk
