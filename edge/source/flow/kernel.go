package flow

import (
	"fmt"

	"github.com/strata-edge/strata/bpf"
	"github.com/strata-edge/strata/edge/diag"
	"github.com/strata-edge/strata/edge/dissect"
)

// Probe is the part of bpf.Probe that the engine reads and steers.
type Probe interface {
	Flows(func(*bpf.FlowKey, *bpf.FlowValue) bool) error
	HalfOpen(func(*bpf.FlowKey, *bpf.FlowValue) bool) error
	Neighbours(func(*bpf.NeighbourKey, *bpf.Neighbour) bool) error
	Interfaces(func(uint32, *bpf.InterfaceCounters) bool) error
	DeleteFlows([]bpf.FlowKey) (int, error)
	AdmitEndpoint(key bpf.EndpointKey, until uint64, bytes uint32) error
}

// maxForget is how many ended flows one harvest removes at most.
const maxForget = 4096

// kernel is Tables over a Probe.
type kernel struct {
	probe  Probe
	flow   Flow
	fn     func(*Flow)
	onFlow func(*bpf.FlowKey, *bpf.FlowValue) bool

	present bpf.FlowKey // of the flow that fn is looking at
	half    bool
	forget  []bpf.FlowKey
}

// NewTables reads and steers p.
func NewTables(p Probe) Tables {
	k := &kernel{probe: p}
	k.onFlow = k.each
	return k
}

func (k *kernel) each(key *bpf.FlowKey, v *bpf.FlowValue) bool {
	k.present = *key
	View(key, v, &k.flow)
	k.fn(&k.flow)
	return true
}

// Flows walks the half-open table first: an entry that moves meanwhile is then met twice
// rather than not at all.
func (k *kernel) Flows(fn func(*Flow)) error {
	k.fn, k.forget = fn, k.forget[:0]
	defer func() { k.fn = nil }()
	k.half = true
	if err := k.probe.HalfOpen(k.onFlow); err != nil {
		return fmt.Errorf("read half-open flows: %w", err)
	}
	k.half = false
	if err := k.probe.Flows(k.onFlow); err != nil {
		return fmt.Errorf("read flows: %w", err)
	}
	if len(k.forget) > 0 {
		if n, err := k.probe.DeleteFlows(k.forget); err != nil {
			return fmt.Errorf("remove %d ended flows (%d done): %w", len(k.forget), n, err)
		}
	}
	return nil
}

// Forget notes the flow that Flows is at; it is removed when the walk has ended.
func (k *kernel) Forget(*Key) error {
	if !k.half && len(k.forget) < maxForget {
		k.forget = append(k.forget, k.present)
	}
	return nil
}

func (k *kernel) Neighbours(fn func(*Neighbour)) error {
	var n Neighbour
	err := k.probe.Neighbours(func(key *bpf.NeighbourKey, v *bpf.Neighbour) bool {
		n = Neighbour{
			If: key.Ifindex, VLAN: key.VLAN, Addr: key.IP,
			Requests: v.Requests, Replies: v.Replies,
			Unanswered: v.Unanswered, UnansweredSince: diag.Time(v.FirstUnanswered),
			MAC: v.MAC, OtherMAC: v.OtherMAC,
		}
		// One claim by another station may be an address that moved; the first station's
		// return proves that both are alive.
		if v.Flips >= 2 {
			n.Conflicts = v.Conflicts
		}
		fn(&n)
		return true
	})
	if err != nil {
		return fmt.Errorf("read neighbours: %w", err)
	}
	return nil
}

func (k *kernel) Interfaces(fn func(*Interface)) error {
	err := k.probe.Interfaces(func(index uint32, c *bpf.InterfaceCounters) bool {
		n := Interface{
			If:        index,
			Frames:    c.Ingress.Packets + c.Egress.Packets,
			Broadcast: c.Ingress.Broadcast + c.Ingress.Multicast + c.Egress.Broadcast + c.Egress.Multicast,
		}
		fn(&n)
		return true
	})
	if err != nil {
		return fmt.Errorf("read interfaces: %w", err)
	}
	return nil
}

func (k *kernel) Admit(e Endpoint, until diag.Time, bytes uint32) error {
	key := bpf.EndpointKey{IP: e.Addr, Port: e.Port, Proto: e.Proto}
	if err := k.probe.AdmitEndpoint(key, uint64(until), bytes); err != nil {
		return fmt.Errorf("admit %s: %w", serviceScope(&e), err)
	}
	return nil
}

// View gives the kernel's entry from the initiator's point of view.
func View(key *bpf.FlowKey, v *bpf.FlowValue, f *Flow) {
	hi := initiatorHi(key, v)
	a, b := &v.Dir[0], &v.Dir[1]
	f.Key = Key{
		A: key.Lo, B: key.Hi, APort: key.LoPort, BPort: key.HiPort,
		If: key.Ifindex, VLAN: key.VLAN, InnerVLAN: key.InnerVLAN, Proto: key.Proto,
	}
	if hi {
		a, b = b, a
		f.Key.A, f.Key.B, f.Key.APort, f.Key.BPort = key.Hi, key.Lo, key.HiPort, key.LoPort
	}
	f.First, f.Last = diag.Time(v.First), diag.Time(v.Last)
	f.Ingress = v.Flags&bpf.FlowFirstEgress == 0
	if hi != (v.Flags&bpf.FlowInitiatorHi != 0) {
		// The first packet seen was the responder's: the initiator's go the other way.
		f.Ingress = !f.Ingress
	}
	f.Established = v.Flags&bpf.FlowEstablished != 0
	f.Closed = v.Flags&bpf.FlowClosed != 0
	f.Refused = v.Flags&bpf.FlowRefused != 0
	f.ResetMidway = v.Flags&bpf.FlowResetMidway != 0
	f.Reused = v.Flags&bpf.FlowReused != 0
	f.Midstream = v.Flags&bpf.FlowInitiatorKnown == 0 && key.Proto == protoTCP
	f.Acked = int32(b.LastAck-a.NextSeq) >= 0
	f.RTT = a.SmoothedRTT
	if f.RTT == 0 {
		f.RTT = v.SYNTime
	}
	f.Responses, f.ResponseSum = v.Responses, v.ResponseSum
	f.ResponseLast, f.ResponseMax = v.ResponseLast, v.ResponseMax
	f.Outstanding = diag.Time(v.WaitSince)
	f.ICMP, f.MTU, f.BadChecksums = v.ICMP, v.MTU, v.BadChecksums
	fillDir(&f.Dir[AB], a)
	fillDir(&f.Dir[BA], b)
}

func fillDir(d *Dir, k *bpf.FlowDir) {
	*d = Dir{
		Packets: k.Packets, Payload: k.PayloadPackets,
		Retransmits: k.Retransmits, LargeRetransmit: k.RetransmitsLarge,
		OutOfOrder: k.OutOfOrder, DupAcks: k.DupAcks, Gaps: k.Gaps, ZeroWindows: k.ZeroWindows,
		SYN: uint32(k.SYN), FIN: uint32(k.FIN), RST: uint32(k.RST),
		Stuck: uint32(k.Stuck), StuckLarge: uint32(k.StuckLarge),
		ZeroSince: diag.Time(k.ZeroSince),
	}
}

// ephemeralFrom is where Linux and most others begin to take their clients' ports from;
// systemPorts (IANA) end below 1024.
const (
	systemPorts   = 1024
	ephemeralFrom = 32768
)

// initiatorHi says which end began. Where the handshake was not seen the kernel guesses
// by who sent first and by system ports; an ephemeral port against one that is none
// tells more.
func initiatorHi(key *bpf.FlowKey, v *bpf.FlowValue) bool {
	hi := v.Flags&bpf.FlowInitiatorHi != 0
	if v.Flags&bpf.FlowInitiatorKnown != 0 || key.Proto != protoTCP {
		return hi
	}
	from, to := key.LoPort, key.HiPort
	if hi {
		from, to = to, from
	}
	if from >= systemPorts && from < ephemeralFrom && to >= ephemeralFrom {
		return !hi
	}
	return hi
}

// Segment gives a payload record as edge/dissect takes it. The payload stays borrowed.
func Segment(p *bpf.Payload, out *Payload) {
	*out = Payload{}
	s := &out.Segment
	lo, hi := p.Key.LoAddr(), p.Key.HiAddr()
	s.Key = dissect.Key{A: lo, B: hi, If: p.Key.Ifindex, VLAN: p.Key.VLAN, Proto: dissect.Proto(p.Key.Proto)}
	if p.Flags&bpf.PayloadInitiatorHi != 0 {
		s.Key.A, s.Key.B = hi, lo
	}
	s.From = dissect.B
	if p.FromInitiator() {
		s.From = dissect.A
	}
	s.Time = int64(p.Time)
	s.Seq, s.Ack = p.Seq, p.Ack
	s.Payload = p.Data
	s.Length = int(p.PayloadLen - min(p.Offset, p.PayloadLen))
	last := p.Flags&bpf.PayloadMore == 0
	if !last {
		s.Length = len(p.Data)
	}
	s.Flags = tcpFlags(p.TCPFlags, p.Offset == 0, last)
	out.Blind = p.Flags&bpf.PayloadCut != 0
}

// TCP header flags (RFC 9293, section 3.1).
const (
	headerFIN = 1 << 0
	headerSYN = 1 << 1
	headerRST = 1 << 2
	headerACK = 1 << 4
)

// tcpFlags keeps SYN for the first and FIN for the last record of a packet.
func tcpFlags(header uint8, first, last bool) dissect.Flags {
	var f dissect.Flags
	if first && header&headerSYN != 0 {
		f |= dissect.SYN
	}
	if last && header&headerFIN != 0 {
		f |= dissect.FIN
	}
	if last && header&headerRST != 0 {
		f |= dissect.RST
	}
	if header&headerACK != 0 {
		f |= dissect.ACK
	}
	return f
}
