// Package canbus reads what a SocketCAN controller says of its bus: state, error
// counters, bit timing and statistics over rtnetlink, and error frames over a CAN_RAW
// socket or from a candump log.
//
// It serves the CAN source and the command line and knows no diagnosis. The netlink
// attributes and the error frames are decoded here, because the class of an error frame
// is a mask of several bits, and a link tells what it does not report: an absent error
// counter or bus-error reporting that is switched off is a fact of its own
// (Link.HasCounters, Link.BusErrorReporting), not a zero.
//
// Decoders are pure functions of bytes and allocate nothing they need not. A Socket
// belongs to one goroutine; Links opens and closes its own socket for each call.
package canbus
