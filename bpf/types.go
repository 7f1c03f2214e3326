package bpf

import (
	"encoding/binary"
	"net/netip"
)

// FlowKey names a conversation seen on one port. Lo and Hi are its two ends in an order
// that is fixed by (address, port) alone and says nothing about who began: see
// FlowValue.Initiator. Use NewFlowKey to make one.
type FlowKey struct {
	Lo, Hi         [16]byte // IPv4 as ::ffff:a.b.c.d
	Ifindex        uint32
	LoPort, HiPort uint16 // ICMP: the echo identifier, else 0
	VLAN           uint16 // outer VLAN identifier, 0 without a tag
	InnerVLAN      uint16 // second tag of QinQ
	Proto          uint8  // IP protocol number
	_              [3]uint8
}

// FlowDir is what one end has sent. Counters of 32 bits wrap: take differences.
// Retransmissions, out-of-order, duplicate acks, keep-alives and zero windows follow
// Wireshark's TCP analysis.
type FlowDir struct {
	Bytes            uint64 // frame lengths without FCS
	ZeroSince        uint64 // nanoseconds; 0 while the window is open
	Packets          uint32 // frames: a GRO run counts its segments
	PayloadPackets   uint32
	NextSeq          uint32 // highest sequence number seen + length
	LastAck          uint32
	Retransmits      uint32
	RetransmitsLarge uint32 // ≥ 500 B and ≥ 90 % of MaxPayload
	OutOfOrder       uint32 // filled a gap shortly after
	Gaps             uint32 // jumped ahead of the expected sequence number
	DupAcks          uint32
	ZeroWindows      uint32
	SmoothedRTT      uint32 // microseconds, of this end's data until the peer's ack
	RTTSeq           uint32
	RTTTick          uint32
	NextTick         uint32
	AckTick          uint32
	SentBytes        uint32 // payload delivered to user space since admission
	SentPackets      uint16
	Stuck            uint16 // retransmits since the peer's ack last advanced
	StuckMax         uint16
	StuckLarge       uint16 // of them large
	StuckLargeMax    uint16
	SYN, FIN, RST    uint16
	Keepalives       uint16
	MaxPayload       uint16 // largest of one segment, bytes
	Window           uint16 // as last sent, unscaled
	DupRun           uint16
	TTLMin, TTLMax   uint8
	State            uint8
	SentControls     uint8   // SYN, FIN and RST without payload, delivered since admission
	MAC              [6]byte // last seen source address; zero on a port without Ethernet
	_                [6]uint8
}

// FlowValue is all that the kernel keeps of one flow.
type FlowValue struct {
	First, Last     uint64 // nanoseconds, diag.Time
	WaitSince       uint64 // a request of the initiator is unanswered since; 0 if none
	Flags           FlowFlag
	Marks           Mark
	SYNTime         uint32 // microseconds from SYN to SYN/ACK
	ACKTime         uint32 // microseconds from SYN/ACK to the ACK of the initiator
	Responses       uint32
	ResponseSum     uint32 // microseconds; wraps: take differences
	ResponseLast    uint32 // microseconds from a request to the first byte of its response
	ResponseMax     uint32 // microseconds, since the flow began
	Score           uint32
	ScoreSecond     uint32 // nanoseconds >> 30
	SYNSeq          uint32
	AdmitUntil      uint32 // nanoseconds >> 30
	ICMP            [ICMPClasses]uint16
	MTU             uint16 // next-hop MTU of the latest fragmentation-needed or too-big
	BadChecksums    uint16
	Fragments       uint16
	AdmitGeneration uint16
	_               uint32
	Dir             [2]FlowDir // [0] sent by Lo, [1] sent by Hi
}

// The classes of ICMP errors, indices of FlowValue.ICMP.
const (
	ICMPUnreachable = iota // network, host or no route
	ICMPPort
	ICMPFragNeeded // fragmentation needed, packet too big
	ICMPTTL
	ICMPProhibited
	ICMPOther
	ICMPClasses
)

// FlowFlag is a bit set of what is known of a flow.
type FlowFlag uint32

// The flow flags.
const (
	FlowInitiatorHi    FlowFlag = 1 << iota // Hi sent the first packet, or the SYN
	FlowInitiatorKnown                      // by SYN or SYN/ACK, not by the first packet alone
	FlowFirstEgress                         // the first packet left through this port
	FlowHalfOpen                            // SYN only: lives in the half-open table
	FlowEstablished
	FlowClosed      // FIN of both ends, or RST
	FlowRefused     // SYN answered by RST
	FlowResetMidway // RST after data or handshake
	FlowSYNSeen     // the flow was seen from its beginning
	FlowSYNACKSeen  //
	FlowAdmitted    // payload is delivered while the budget lasts
	FlowByScore     // why it was admitted
	FlowByEndpoint  //
	FlowByUser      //
	FlowBySample    //
	FlowReused      // another connection has begun on the same ports
	FlowIPv6        //
)

// Mark is a bit set of suspicious facts; bit n has weight Tuning.Weights[n].
type Mark uint32

// The marks: transport facts, then tell-tales in the first bytes of a payload.
const (
	MarkSYNRetry Mark = 1 << iota
	MarkRefused
	MarkResetMidway
	MarkRetransmit
	MarkStuck // three retransmits without progress
	MarkZeroWindow
	MarkICMPError
	MarkLargeLost // three large retransmits without progress: MTU
	MarkBadChecksum
	MarkTTLChange
	MarkFragment
	MarkRTTInflation
)

// Tell-tales.
const (
	MarkHTTP4xx Mark = 1 << (16 + iota)
	MarkHTTP5xx
	MarkTLSAlert // fatal and in the clear; or encrypted in place of a TLS 1.3 client's Finished, told by its length
	MarkDNSRcode
	MarkMQTTRefused
	MarkSIPError
	MarkModbusException
	MarkHTTP2Error
)

// NeighbourKey names an address on a port.
type NeighbourKey struct {
	Ifindex uint32
	VLAN    uint16
	_       uint16
	IP      [16]byte // IPv4 as ::ffff:a.b.c.d
}

// Neighbour is what ARP or neighbour discovery showed of an address. Times are
// nanoseconds, 0 for never.
type Neighbour struct {
	FirstUnanswered uint64 // the first request since the last answer
	LastRequest     uint64
	Claimed         uint64 // last claim of the address by MAC
	OtherClaimed    uint64 // last claim by OtherMAC
	Conflict        uint64 // last conflict
	Requests        uint32
	Unanswered      uint32 // requests since the last answer
	Replies         uint32
	Gratuitous      uint32
	Conflicts       uint32 // claims by another MAC within 60 s of the first one's last claim
	Flips           uint32 // claims by another MAC than the claim before; 2 or more: both are alive
	MACChanges      uint32 // another MAC took over after 60 s of silence
	MAC, OtherMAC   [6]byte
}

// InterfaceDir is the traffic of a port in one direction.
type InterfaceDir struct {
	Packets, Bytes, Broadcast, Multicast uint64
}

// InterfaceCounters is the traffic of a port.
type InterfaceCounters struct {
	Ingress, Egress InterfaceDir
}

// EndpointKey names a service: the responder's address, port and protocol.
type EndpointKey struct {
	IP    [16]byte // IPv4 as ::ffff:a.b.c.d
	Port  uint16
	Proto uint8
	_     uint8
}

// Tuning is what can be changed while the programs run.
type Tuning struct {
	Threshold       uint32 // score from which a flow and its endpoint are admitted; 0: never
	DeepAll         uint32 // 1: every flow is admitted
	SampleEvery     uint32 // admit one in N new flows; 0: none
	FlowPackets     uint32 // delivered a direction after admission; ≥ 65535: no limit
	FlowBytes       uint32 // the same in bytes; 2³²−1: no limit
	FlowSeconds     uint32 // how long an admission by score lasts
	EndpointSeconds uint32 // how long its endpoint stays admitted; 0: the flow only
	EndpointBytes   uint32 // payload budget of an endpoint admitted by score
	generation      uint32 // managed by Probe
	Checksum        uint32 // 1: verify IPv4 header checksums on ingress
	_               [2]uint32
	Weights         [32]uint32 // score added by mark bit
}

// Counters are the totals since Load, summed over CPUs.
type Counters struct {
	Packets, Bytes                                uint64
	IPv4, IPv6, ARP                               uint64
	LLC, LLDP, MPLS, OtherL3                      uint64 // counted by kind, not parsed further
	TCP, UDP, ICMP, OtherL4                       uint64
	Fragments, VLAN, Broadcast, Multicast         uint64
	BadL2, BadL3, BadL4, BadChecksum              uint64 // parse rejects by layer
	TCPSYN, TCPFIN, TCPRST                        uint64
	TCPRetransmits, TCPOutOfOrder, TCPGaps        uint64
	TCPDupAcks, TCPZeroWindow, TCPKeepalives      uint64
	ICMPErrors                                    [ICMPClasses]uint64
	ICMPUnmatched                                 uint64 // errors whose inner flow is not known
	NeighbourRequests, NeighbourReplies           uint64
	NeighbourConflicts                            uint64
	FlowCreates, FlowFails                        uint64 // evictions = creates − deleted − present
	HalfCreates, HalfMoves, HalfFails             uint64
	NeighbourFails, InterfaceFails                uint64
	AdmitFlows, AdmitEndpoints, AdmitFails        uint64
	PayloadRecords, PayloadBytes, PayloadRingFull uint64
	PayloadBudget                                 uint64 // packets of admitted flows beyond their budget
	PayloadFails                                  uint64
}

// PayloadFlag says what is special about a payload record.
type PayloadFlag uint8

// The payload flags.
const (
	PayloadMore        PayloadFlag = 1 << iota // another record of this packet follows
	PayloadCut                                 // the budget or the capture ends here, the packet does not
	PayloadTelltale                            // this packet carries the tell-tale
	PayloadEgress                              // it left through the port
	PayloadInitiatorHi                         // FlowInitiatorHi of its flow
	PayloadFirst                               // the first delivered in this direction since admission
)

// PayloadHeader precedes the bytes of a payload record. A SYN, FIN or RST without
// payload is a record, too: CapLen and PayloadLen are 0. They are bounded by number and
// come up when a flow's budget of bytes is spent; one whose own payload is beyond the
// budget has CapLen 0, PayloadLen as on the wire, and PayloadCut.
type PayloadHeader struct {
	Time       uint64 // nanoseconds, diag.Time
	Key        FlowKey
	Seq, Ack   uint32 // TCP; Seq is that of the first byte of this record, of the SYN itself in one
	PayloadLen uint32 // of the whole packet
	Offset     uint32 // of this record within the packet's payload
	CapLen     uint16 // bytes in this record
	Segments   uint16 // of a GRO run; 1 otherwise
	Dir        uint8  // 0: sent by Lo, 1: sent by Hi
	TCPFlags   uint8
	Flags      PayloadFlag
	_          uint8
}

// Payload is one record of the ring buffer. Data is borrowed: it is valid until the
// next read into the same Payload.
type Payload struct {
	PayloadHeader
	Data []byte

	raw []byte // reused by the reader
}

// NewFlowKey makes the key of the conversation between a and b and says whether a is
// its Hi end.
func NewFlowKey(ifindex uint32, vlan, innerVLAN uint16, proto uint8, a, b netip.AddrPort) (key FlowKey, aIsHi bool) {
	key = FlowKey{Ifindex: ifindex, VLAN: vlan, InnerVLAN: innerVLAN, Proto: proto}
	key.Lo, key.Hi = a.Addr().As16(), b.Addr().As16()
	key.LoPort, key.HiPort = a.Port(), b.Port()
	if after(&key.Lo, &key.Hi, key.LoPort, key.HiPort) {
		key.Lo, key.Hi = key.Hi, key.Lo
		key.LoPort, key.HiPort = key.HiPort, key.LoPort
		aIsHi = true
	}
	return key, aIsHi
}

// after is the order of the programs: addresses as two little-endian words, then ports.
func after(a, b *[16]byte, ap, bp uint16) bool {
	for _, at := range []int{0, 8} {
		x, y := binary.LittleEndian.Uint64(a[at:]), binary.LittleEndian.Uint64(b[at:])
		if x != y {
			return x > y
		}
	}
	return ap > bp
}

func addr(a [16]byte) netip.Addr { return netip.AddrFrom16(a).Unmap() }

// LoAddr is the Lo end.
func (k *FlowKey) LoAddr() netip.AddrPort { return netip.AddrPortFrom(addr(k.Lo), k.LoPort) }

// HiAddr is the Hi end.
func (k *FlowKey) HiAddr() netip.AddrPort { return netip.AddrPortFrom(addr(k.Hi), k.HiPort) }

// Ends gives the initiator's and the responder's end.
func (k *FlowKey) Ends(flags FlowFlag) (initiator, responder netip.AddrPort) {
	if flags&FlowInitiatorHi != 0 {
		return k.HiAddr(), k.LoAddr()
	}
	return k.LoAddr(), k.HiAddr()
}

// Initiator is what the initiator has sent.
func (v *FlowValue) Initiator() *FlowDir {
	if v.Flags&FlowInitiatorHi != 0 {
		return &v.Dir[1]
	}
	return &v.Dir[0]
}

// Responder is what the responder has sent.
func (v *FlowValue) Responder() *FlowDir {
	if v.Flags&FlowInitiatorHi != 0 {
		return &v.Dir[0]
	}
	return &v.Dir[1]
}

// Addr is the neighbour's address.
func (k *NeighbourKey) Addr() netip.Addr { return addr(k.IP) }

// NewEndpointKey makes the key of a service.
func NewEndpointKey(proto uint8, at netip.AddrPort) EndpointKey {
	return EndpointKey{IP: at.Addr().As16(), Port: at.Port(), Proto: proto}
}

// FromInitiator says whether the record was sent by the initiator.
func (h *PayloadHeader) FromInitiator() bool {
	return (h.Dir == 1) == (h.Flags&PayloadInitiatorHi != 0)
}

// FromSender gives the sender's end.
func (h *PayloadHeader) FromSender() netip.AddrPort {
	if h.Dir == 1 {
		return h.Key.HiAddr()
	}
	return h.Key.LoAddr()
}
