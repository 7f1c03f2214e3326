// Package flow turns the kernel's flow, neighbour and interface tables, and the payload
// of suspicious flows, into signals for edge/matrix. It is for edge/agent, which runs a
// Source, and for `strata replay`, which drives the same Engine with a capture's times.
//
// The Engine is the whole logic and knows neither goroutines nor clocks: every call
// carries event time. Harvest walks the tables, takes the difference to the previous
// harvest and emits one signal a service, host or interface and kind; Payload feeds
// edge/dissect. An Engine is used by one goroutine at a time.
//
// Each flow is counted once, on its primary side: the port where the initiator's first
// packet came in, or, for a connection of the device itself, the port where it went out.
// The other side says through which port and next hop the server is reached, and their
// difference on which side of the device something was lost.
//
// Memory is bounded: one slot for each entry of the kernel's flow table, and fixed
// numbers of endpoints, hosts and interfaces, the longest unused of which make room for
// new ones. What had to be dropped is in Counters.
//
// Signals hold no payload: message attributes are limited to status codes, names asked
// for and the like, never bodies, credentials or query values.
package flow
