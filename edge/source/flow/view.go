package flow

import (
	"net/netip"

	"github.com/strata-edge/strata/edge/diag"
)

// IP protocol numbers (IANA).
const (
	protoTCP = 6
	protoUDP = 17
)

// Key names one flow on one port of the device. Addresses are 16 bytes, IPv4 mapped
// into IPv6. A is the initiator, B the responder.
type Key struct {
	A, B         [16]byte
	If           uint32 // kernel interface index
	APort, BPort uint16
	VLAN         uint16 // outer tag, 0 without
	InnerVLAN    uint16 // second tag of QinQ
	Proto        uint8
}

// tuple is what a flow's sides on several ports have in common.
type tuple struct {
	a, b         [16]byte
	aPort, bPort uint16
	proto        uint8
}

func (k *Key) tuple() tuple {
	return tuple{a: k.A, b: k.B, aPort: k.APort, bPort: k.BPort, proto: k.Proto}
}

// Direction indexes Flow.Dir.
const (
	AB = 0 // initiator to responder
	BA = 1 // responder to initiator
)

// ICMP error classes, indexes of Flow.ICMP.
const (
	ICMPUnreachable = iota // net or host
	ICMPPort
	ICMPFragNeeded
	ICMPTTLExceeded
	ICMPProhibited
	ICMPOther
	ICMPClasses
)

// Dir is what was counted for one direction of a flow since its first packet. A count
// is about what its sender did: ZeroWindow of BA are windows of zero that the responder
// advertised.
type Dir struct {
	Packets, Payload             uint32 // frames; frames that carry payload
	Retransmits, LargeRetransmit uint32
	OutOfOrder, DupAcks, Gaps    uint32
	ZeroWindows                  uint32
	SYN, FIN, RST                uint32
	// Stuck is how many retransmits in a row brought no progress of the peer's
	// acknowledgement, now; StuckLarge how many of these were full size.
	Stuck, StuckLarge uint32
	ZeroSince         diag.Time // since when the advertised window is zero; 0 when it is not
}

// Flow is one entry of the kernel's flow table: cumulative since First. Counts wrap.
type Flow struct {
	Key         Key
	First, Last diag.Time
	Ingress     bool // the first packet came in through the port
	Established bool
	Closed      bool // both sides are done, or a reset ended it
	Refused     bool // the SYN was answered by a reset
	ResetMidway bool // reset after data, before both sides were done
	Reused      bool // another connection has begun on the same ports
	Acked       bool // all that the initiator sent is acknowledged
	Midstream   bool // who began is a guess: the first packets were not seen

	RTT          uint32    // between this port and the responder, smoothed, microseconds; 0 unknown
	Responses    uint32    // exchanges whose first response byte was seen
	ResponseSum  uint32    // their times from request to first response, microseconds
	ResponseLast uint32    // the latest of them
	ResponseMax  uint32    // the longest of them
	Outstanding  diag.Time // since when a request waits for its response; 0 none
	ICMP         [ICMPClasses]uint16
	MTU          uint16 // of the latest "fragmentation needed"
	BadChecksums uint16
	Dir          [2]Dir
}

// Neighbour is one address on one port as ARP or neighbour discovery saw it.
type Neighbour struct {
	If              uint32
	VLAN            uint16
	Addr            [16]byte
	Requests        uint32 // requests for the address
	Replies         uint32
	Unanswered      uint32    // requests since the last answer
	UnansweredSince diag.Time // of the first of these; 0 none
	Conflicts       uint32    // times that another station claimed the address while the first was alive
	MAC, OtherMAC   [6]byte
}

// Interface is what passed one port, both ways.
type Interface struct {
	If                uint32
	Frames, Broadcast uint64 // Broadcast includes multicast
}

// Endpoint is the responder's side of a service, for admission.
type Endpoint struct {
	Addr  [16]byte
	Port  uint16
	Proto uint8
}

// Tables is what the engine reads and steers. Values handed to the callbacks are
// borrowed. Reading must give each entry at most once a call.
type Tables interface {
	Flows(func(*Flow)) error
	Neighbours(func(*Neighbour)) error
	Interfaces(func(*Interface)) error
	// Admit asks for the payload of the endpoint's flows until the given time, at most
	// so many bytes.
	Admit(e Endpoint, until diag.Time, bytes uint32) error
	// Forget removes a flow that has ended and was harvested. It is called from within
	// Flows.
	Forget(*Key) error
}

func addr(a [16]byte) netip.Addr { return netip.AddrFrom16(a).Unmap() }
