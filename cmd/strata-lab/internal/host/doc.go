// Package host is the fault lab's host stage: a small site of network namespaces (LAN
// clients, the gateway that Strata watches, a router, servers) with real Go clients and
// servers, faults injected one after another, and a judge that compares what Strata says
// with what was done.
//
// It is for `strata-lab demo` (does each fault get the right finding in time?) and
// `strata-lab record` (labelled feature rows for the model).
//
// A Plan is drawn from a seed and never changes. A Stage is the plan brought up: it lives
// from Open to Close, owns its namespaces, processes and a lock, and touches nothing
// else; leftovers of a lab that was killed are removed by the next one. Several stages may
// run side by side, in one process or in many. A Stage's methods are for one goroutine,
// its recorder may be read from any.
//
// Every process inside a namespace is this same binary, started as `strata-lab node`; it
// reads commands on its standard input and ends when that closes.
package host
