package flow

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strata-edge/strata/bpf"
	"github.com/strata-edge/strata/edge/diag"
	"github.com/strata-edge/strata/edge/dissect"
)

func kernelFlow(from, to string, index uint32) (bpf.FlowKey, bpf.FlowValue) {
	k, hi := bpf.NewFlowKey(index, 0, 0, protoTCP, netip.MustParseAddrPort(from), netip.MustParseAddrPort(to))
	v := bpf.FlowValue{First: 1000, Last: 2000}
	if hi {
		v.Flags |= bpf.FlowInitiatorHi
	}
	return k, v
}

func TestViewIsFromTheInitiator(t *testing.T) {
	for _, ends := range [][2]string{{"10.0.0.2:40000", "203.0.113.9:443"}, {"203.0.113.9:40000", "10.0.0.2:443"}} {
		k, v := kernelFlow(ends[0], ends[1], 2)
		v.Flags |= bpf.FlowInitiatorKnown | bpf.FlowEstablished | bpf.FlowFirstEgress
		*v.Initiator() = bpf.FlowDir{Packets: 3, SYN: 1, NextSeq: 100, SmoothedRTT: 700}
		*v.Responder() = bpf.FlowDir{Packets: 2, LastAck: 100, ZeroSince: 1500}
		var f Flow
		View(&k, &v, &f)
		if got := netip.AddrPortFrom(addr(f.Key.A), f.Key.APort).String(); got != ends[0] {
			t.Errorf("initiator %s, want %s", got, ends[0])
		}
		if f.Dir[AB].Packets != 3 || f.Dir[BA].Packets != 2 || f.Dir[BA].ZeroSince != 1500 || f.RTT != 700 {
			t.Errorf("directions %+v, rtt %d", f.Dir, f.RTT)
		}
		if !f.Established || f.Ingress || !f.Acked || f.Midstream {
			t.Errorf("flags %+v", f)
		}
	}
}

func TestViewGuessesTheServiceMidstream(t *testing.T) {
	k, v := kernelFlow("203.0.113.9:8883", "10.0.0.2:40000", 2)
	var f Flow
	View(&k, &v, &f)
	if f.Key.BPort != 8883 || !f.Midstream || f.Ingress {
		t.Errorf("responder %d, midstream %v, ingress %v", f.Key.BPort, f.Midstream, f.Ingress)
	}
	v.Flags |= bpf.FlowInitiatorKnown
	View(&k, &v, &f)
	if f.Key.BPort != 40000 || !f.Ingress {
		t.Errorf("a handshake that was seen is no guess: responder %d", f.Key.BPort)
	}
}

func TestSegmentOfAPacketInPieces(t *testing.T) {
	k, hi := bpf.NewFlowKey(2, 5, 0, protoTCP, netip.MustParseAddrPort("10.0.0.2:40000"), netip.MustParseAddrPort("203.0.113.9:80"))
	p := &bpf.Payload{Data: make([]byte, 100)}
	p.Key, p.Time, p.Seq, p.PayloadLen = k, 77, 500, 250
	p.TCPFlags = headerACK | headerFIN
	if hi {
		p.Flags, p.Dir = bpf.PayloadInitiatorHi, 1
	}
	base := p.Flags
	var out Payload
	p.Flags = base | bpf.PayloadMore
	Segment(p, &out)
	if out.From != dissect.A || out.Length != 100 || out.Flags != dissect.ACK || out.Key.VLAN != 5 || out.Key.B.Port() != 80 {
		t.Errorf("first piece: %+v", out.Segment)
	}
	p.Flags, p.Offset, p.Seq = base|bpf.PayloadCut, 200, 700
	p.Data = p.Data[:30]
	Segment(p, &out)
	if out.Length != 50 || len(out.Segment.Payload) != 30 || out.Flags != dissect.ACK|dissect.FIN || !out.Blind {
		t.Errorf("last piece: %+v", out.Segment)
	}
}

// fakeProbe is a probe with one flow and a few records.
type fakeProbe struct {
	key      bpf.FlowKey
	value    bpf.FlowValue
	records  []bpf.Payload
	deadline time.Time
	deleted  []bpf.FlowKey
	counters bpf.Counters
	fail     error
}

func (p *fakeProbe) Flows(fn func(*bpf.FlowKey, *bpf.FlowValue) bool) error {
	fn(&p.key, &p.value)
	return p.fail
}
func (p *fakeProbe) HalfOpen(func(*bpf.FlowKey, *bpf.FlowValue) bool) error { return nil }
func (p *fakeProbe) Neighbours(fn func(*bpf.NeighbourKey, *bpf.Neighbour) bool) error {
	fn(&bpf.NeighbourKey{Ifindex: 2, IP: netip.MustParseAddr("10.0.0.7").As16()}, &bpf.Neighbour{Conflicts: 3, Flips: 1, Requests: 1})
	fn(&bpf.NeighbourKey{Ifindex: 2, IP: netip.MustParseAddr("10.0.0.8").As16()}, &bpf.Neighbour{Conflicts: 3, Flips: 2})
	return nil
}
func (p *fakeProbe) Interfaces(fn func(uint32, *bpf.InterfaceCounters) bool) error {
	fn(2, &bpf.InterfaceCounters{Ingress: bpf.InterfaceDir{Packets: 5, Multicast: 1}, Egress: bpf.InterfaceDir{Packets: 2, Broadcast: 1}})
	return nil
}
func (p *fakeProbe) DeleteFlows(k []bpf.FlowKey) (int, error) {
	p.deleted = append(p.deleted, k...)
	return len(k), nil
}
func (p *fakeProbe) AdmitEndpoint(bpf.EndpointKey, uint64, uint32) error { return nil }
func (p *fakeProbe) Counters() (bpf.Counters, error)                     { return p.counters, nil }
func (p *fakeProbe) SetDeadline(t time.Time)                             { p.deadline = t }

func (p *fakeProbe) ReadInto(to *bpf.Payload) error {
	if len(p.records) == 0 {
		time.Sleep(time.Until(p.deadline))
		return os.ErrDeadlineExceeded
	}
	*to = p.records[0]
	p.records = p.records[1:]
	return nil
}

func TestSourceHarvestsAndStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fakeProbe{}
		p.key, p.value = kernelFlow("10.0.0.2:40000", "203.0.113.9:443", 2)
		p.value.Flags |= bpf.FlowInitiatorKnown | bpf.FlowClosed | bpf.FlowRefused
		p.value.Initiator().SYN, p.value.Initiator().Packets = 1, 1
		query := []byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x04test\x00\x00\x01\x00\x01")
		rec := bpf.Payload{Data: query}
		rec.Key, _ = bpf.NewFlowKey(2, 0, 0, protoUDP, netip.MustParseAddrPort("10.0.0.2:40000"), netip.MustParseAddrPort("10.0.0.9:53"))
		rec.Dir, rec.PayloadLen, rec.Time = 0, uint32(len(query)), uint64(origin)
		if rec.Key.LoPort == 53 {
			rec.Dir, rec.Flags = 1, bpf.PayloadInitiatorHi
		}
		p.records = []bpf.Payload{rec}
		start := time.Now()
		src, err := New(SourceConfig{
			Probe: p, Payloads: p, Resolver: fakeRoutes{}, Logger: slog.New(slog.DiscardHandler),
			Now: func() diag.Time { return origin.Add(time.Since(start)) },
		})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		ctx, stop := context.WithTimeout(t.Context(), 9*time.Second)
		defer stop()
		if err := src.Run(ctx, func(s diag.Signal) { got[s.Name+" "+s.Scope.String()] += s.Value }); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]float64{
			"tcp.refused service:tcp/203.0.113.9:443": 1, "dns.query service:udp/10.0.0.9:53": 1,
			"frames if:lan0": 7, "broadcast if:lan0": 2, "arp.duplicate host:10.0.0.8": 3, "arp.duplicate host:10.0.0.7": 0,
		} {
			if got[name] != want {
				t.Errorf("%s = %v, want %v", name, got[name], want)
			}
		}
		if st := src.Status(); st.Engine.Harvests != 5 || st.Engine.Payloads != 1 || len(p.deleted) == 0 {
			t.Errorf("status %+v, %d flows removed", st.Engine, len(p.deleted))
		}
		if took := time.Since(start); took > 9*time.Second+pollEvery {
			t.Errorf("stopped after %v", took)
		}
	})
}

func TestSourceOutlivesATableThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fakeProbe{fail: errors.New("lookup: bad file descriptor")}
		src, err := New(SourceConfig{
			Probe: p, Payloads: p, Resolver: fakeRoutes{}, Logger: slog.New(slog.DiscardHandler), Now: func() diag.Time { return origin },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithTimeout(t.Context(), 3*time.Second)
		defer stop()
		if err := src.Run(ctx, func(diag.Signal) {}); err != nil {
			t.Fatal(err)
		}
		if src.Status().Engine.Harvests != 2 {
			t.Errorf("%d harvests", src.Status().Engine.Harvests)
		}
	})
}
