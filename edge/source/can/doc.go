// Package can turns the state of CAN controllers and their error frames into signals on
// can:IF.
//
// The agent runs one Source. Run blocks until its context ends, works in the caller's
// goroutine alone (it waits on all sockets with one poll) and emits from there. It reads
// the links once an interval and error frames as they come: a change of state is emitted
// at once, error frames are added up and emitted with the next interval, so that a bus
// that floods them costs a bounded number of signals. What a controller does not report
// is a signal of its own ("unobservable"), never silence.
//
// Good frames tell noise from a wrong bit rate, but a busy bus has thousands a second:
// each interval the source takes a few (Config.Frames) through the socket, then has the
// kernel drop the rest and uses the link's packet count for them.
package can
