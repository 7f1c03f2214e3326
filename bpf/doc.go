// Package bpf is the kernel side: tc classifiers that count every packet of a port into
// flows, neighbours, ports and totals, mark what is suspicious, and deliver the payload
// of admitted flows only, with the SYN, FIN and RST that frame it.
//
// It is for edge/source/flow, live and in a replay. It knows no diagnosis and imports
// nothing of Strata's. The C programs are in this folder: strata.h is the wire, and
// types.go its twin.
//
// A Probe lives from Load to Close; Close detaches from every port and frees the maps.
// Ports may come and go meanwhile. A Probe's methods may be called from several
// goroutines, except that Flows, HalfOpen and Neighbours each serve one caller at a
// time, as does Packet; a PayloadReader has one reader. Nothing here starts a goroutine.
//
// Programs attach by tcx, or by a clsact queueing discipline where the kernel refuses
// tcx. They use UAPI types only and need neither BTF nor anything newer than Linux 5.8.
// Totals are per CPU, and packets and bytes of a flow are added atomically: they are
// exact. A flow's other counters are added to without locks; where two CPUs carry one
// direction at the same moment, a count may be lost.
package bpf
