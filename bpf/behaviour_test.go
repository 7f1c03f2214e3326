package bpf

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"
)

// script pushes segments, a millisecond apart unless told.
type script struct {
	t   *testing.T
	p   *Probe
	now int64
}

func newScript(t *testing.T, tuning *Tuning) *script {
	return &script{t: t, p: load(t, Config{Replay: true, Tuning: tuning}), now: 1_700_000_000e9}
}

func (s *script) push(all ...segment) {
	s.t.Helper()
	for _, one := range all {
		s.raw(one.frame())
	}
}

func (s *script) raw(frame []byte) {
	s.t.Helper()
	s.now += int64(time.Millisecond)
	if err := s.p.Packet(s.now, frame, len(frame)); err != nil {
		s.t.Fatal(err)
	}
}

// flow gives the only flow, of either table.
func (s *script) flow() (found FlowValue) {
	s.t.Helper()
	n := 0
	for _, each := range []func(func(*FlowKey, *FlowValue) bool) error{s.p.Flows, s.p.HalfOpen} {
		if err := each(func(_ *FlowKey, v *FlowValue) bool {
			n++
			found = *v
			return true
		}); err != nil {
			s.t.Fatal(err)
		}
	}
	if n != 1 {
		s.t.Fatalf("%d flows", n)
	}
	return found
}

// c and r are the segments of a client and of its server.
func talk(v6 bool) (c, r func(flags byte, seq, ackSeq uint32, payload string) segment) {
	client, server := ends(v6)
	make := func(from, to netip.AddrPort) func(byte, uint32, uint32, string) segment {
		return func(flags byte, seq, ackSeq uint32, payload string) segment {
			return segment{from: from, to: to, flags: flags, seq: seq, ack: ackSeq, window: 500, payload: []byte(payload)}
		}
	}
	return make(client, server), make(server, client)
}

func TestMarks(t *testing.T) {
	big := strings.Repeat("x", 1400)
	s := newScript(t, nil)
	c, r := talk(false)
	open := []segment{c(syn, 99, 0, ""), r(syn|ack, 199, 100, ""), c(ack, 100, 200, "")}
	for _, test := range []struct {
		name  string
		send  []segment
		marks Mark
		flags FlowFlag
	}{
		{"handshake", open, 0, FlowEstablished | FlowInitiatorKnown | FlowSYNSeen | FlowSYNACKSeen},
		{"syn retried", []segment{c(syn, 99, 0, ""), c(syn, 99, 0, "")}, MarkSYNRetry | MarkRetransmit, FlowHalfOpen},
		{"refused", []segment{c(syn, 99, 0, ""), r(rst|ack, 0, 100, "")}, MarkRefused, FlowRefused | FlowClosed},
		{"reset midway", append(open[:3:3], c(ack|psh, 100, 200, "hello"), r(rst, 200, 0, "")), MarkResetMidway, FlowResetMidway | FlowClosed},
		{"reset after close", append(open[:3:3], c(fin|ack, 100, 200, ""), r(rst, 200, 0, "")), 0, FlowClosed},
		{"large stuck", append(open[:3:3], c(ack, 100, 200, big), c(ack, 100, 200, big), c(ack, 100, 200, big), c(ack, 100, 200, big)),
			MarkRetransmit | MarkStuck | MarkLargeLost, FlowEstablished},
		{"keep-alive", append(open[:3:3], c(ack, 99, 200, ""), c(ack, 99, 200, "x")), 0, FlowEstablished},
		{"http 404", append(open[:3:3], r(ack, 200, 100, "HTTP/1.1 404 Not Found\r\n")), MarkHTTP4xx, FlowEstablished},
		{"http 200", append(open[:3:3], r(ack, 200, 100, "HTTP/1.1 200 OK\r\n")), 0, FlowEstablished},
		{"tls alert", append(open[:3:3], r(ack, 200, 100, "\x15\x03\x03\x00\x02\x02\x28")), MarkTLSAlert, FlowEstablished},
		{"tls warning", append(open[:3:3], r(ack, 200, 100, "\x15\x03\x03\x00\x02\x01\x00")), 0, FlowEstablished},
		{"mqtt 3 refused", append(open[:3:3], r(ack, 200, 100, "\x20\x02\x00\x05")), MarkMQTTRefused, FlowEstablished},
		{"mqtt 3 accepted", append(open[:3:3], r(ack, 200, 100, "\x20\x02\x01\x00")), 0, FlowEstablished},
		{"mqtt 5 refused", append(open[:3:3], r(ack, 200, 100, "\x20\x03\x00\x87\x00")), MarkMQTTRefused, FlowEstablished},
		{"sip busy", append(open[:3:3], r(ack, 200, 100, "SIP/2.0 486 Busy Here\r\n")), MarkSIPError, FlowEstablished},
		{"modbus exception", append(open[:3:3], r(ack, 200, 100, "\x00\x01\x00\x00\x00\x03\x01\x83\x02")), MarkModbusException, FlowEstablished},
		{"modbus answer", append(open[:3:3], r(ack, 200, 100, "\x00\x01\x00\x00\x00\x05\x01\x03\x02\x00\x01")), 0, FlowEstablished},
		{"http2 reset", append(open[:3:3], r(ack, 200, 100, "\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x02")), MarkHTTP2Error, FlowEstablished},
	} {
		t.Run(test.name, func(t *testing.T) {
			clearFlows(t, s.p)
			s.t = t
			s.push(test.send...)
			v := s.flow()
			if v.Marks != test.marks || v.Flags&test.flags != test.flags {
				t.Errorf("marks %b, want %b; flags %b, want %b", v.Marks, test.marks, v.Flags, test.flags)
			}
		})
	}
}

func TestBadChecksum(t *testing.T) {
	tuning := DefaultTuning()
	tuning.Checksum = 1
	s := newScript(t, &tuning)
	good := udpFrame(false, 10)
	s.raw(good)
	if v := s.flow(); v.Marks != 0 {
		t.Errorf("marks %b on a right checksum", v.Marks)
	}
	good[24] ^= 1
	s.raw(good)
	if v := s.flow(); v.Marks != MarkBadChecksum || v.BadChecksums != 1 {
		t.Errorf("marks %b, %d bad", v.Marks, v.BadChecksums)
	}
}

func TestDNSTelltale(t *testing.T) {
	s := newScript(t, nil)
	client, server := netip.MustParseAddrPort("192.0.2.1:40000"), netip.MustParseAddrPort("192.0.2.53:53")
	s.push(segment{from: client, to: server, payload: []byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00")})
	s.push(segment{from: server, to: client, payload: []byte("\x12\x34\x81\x83\x00\x01\x00\x00\x00\x00\x00\x00")})
	v := s.flow()
	if v.Marks != MarkDNSRcode || v.Responses != 1 || v.ResponseLast < 900 || v.ResponseLast > 1100 {
		t.Errorf("marks %b, %d responses, %d us", v.Marks, v.Responses, v.ResponseLast)
	}
}

// TestScoreHalves expects that marks spread over time do not admit, and marks close
// together do.
func TestScoreHalves(t *testing.T) {
	tuning := DefaultTuning()
	tuning.Weights[MarkZeroWindow.bit()] = 15
	c, _ := talk(false)
	zero := c(ack, 100, 200, "")
	zero.window = 0
	for pause, admitted := range map[time.Duration]bool{time.Millisecond: true, 3 * time.Second: false} {
		s := newScript(t, &tuning)
		for range 4 {
			s.push(zero)
			s.now += int64(pause)
		}
		if v := s.flow(); (v.Flags&FlowAdmitted != 0) != admitted {
			t.Errorf("pause %v: score %d, flags %b", pause, v.Score, v.Flags)
		}
	}
}

func TestICMPErrorIsChargedToTheInnerFlow(t *testing.T) {
	s := newScript(t, nil)
	c, _ := talk(false)
	first := c(syn, 99, 0, "").frame()
	s.raw(first)
	// From a router: unreachable, fragmentation needed, next hop of 1400 bytes.
	inner := first[14 : 14+28]
	frame := append(append(append([]byte{}, macA[:]...), macB[:]...), 8, 0)
	ip := make([]byte, 20)
	ip[0], ip[8], ip[9] = 0x45, 64, 1
	binary.BigEndian.PutUint16(ip[2:], uint16(20+8+len(inner)))
	copy(ip[12:], []byte{192, 0, 2, 254})
	copy(ip[16:], []byte{192, 0, 2, 1})
	binary.BigEndian.PutUint16(ip[10:], internetSum(ip))
	s.raw(append(append(append(frame, ip...), 3, 4, 0, 0, 0, 0, 0x05, 0x78), inner...))
	charged := false
	if err := s.p.HalfOpen(func(_ *FlowKey, v *FlowValue) bool {
		charged = v.ICMP[ICMPFragNeeded] == 1 && v.MTU == 1400 && v.Marks == MarkICMPError
		return true
	}); err != nil {
		t.Fatal(err)
	}
	if !charged {
		t.Error("the half-open flow has no ICMP error")
	}
}

func arpFrame(op byte, mac [6]byte, sender, target string) []byte {
	f := append([]byte{255, 255, 255, 255, 255, 255}, mac[:]...)
	f = append(f, 8, 6, 0, 1, 8, 0, 6, 4, 0, op)
	f = append(append(f, mac[:]...), netip.MustParseAddr(sender).AsSlice()...)
	return append(append(f, 0, 0, 0, 0, 0, 0), netip.MustParseAddr(target).AsSlice()...)
}

func TestNeighbours(t *testing.T) {
	s := newScript(t, nil)
	for range 3 {
		s.raw(arpFrame(1, macA, "192.0.2.1", "192.0.2.9"))
	}
	s.raw(arpFrame(2, macB, "192.0.2.2", "192.0.2.1"))
	s.raw(arpFrame(2, macA, "192.0.2.2", "192.0.2.1"))
	s.raw(arpFrame(2, macB, "192.0.2.2", "192.0.2.1"))
	got := map[string]Neighbour{}
	if err := s.p.Neighbours(func(k *NeighbourKey, v *Neighbour) bool {
		got[k.Addr().String()] = *v
		return true
	}); err != nil {
		t.Fatal(err)
	}
	ports := 0
	if err := s.p.Interfaces(func(_ uint32, c *InterfaceCounters) bool {
		ports++
		if c.Ingress != (InterfaceDir{Packets: 6, Bytes: 6 * 42, Broadcast: 6}) || c.Egress != (InterfaceDir{}) {
			t.Errorf("port: %+v", c)
		}
		return true
	}); err != nil || ports != 1 {
		t.Errorf("%d ports, %v", ports, err)
	}
	if n := got["192.0.2.9"]; n.Requests != 3 || n.Unanswered != 3 || n.FirstUnanswered == 0 || n.Replies != 0 {
		t.Errorf("silent neighbour: %+v", n)
	}
	if n := got["192.0.2.2"]; n.Conflicts != 1 || n.Flips != 2 || n.MAC != macB || n.OtherMAC != macA {
		t.Errorf("contested address: %+v", n)
	}
	if n := got["192.0.2.1"]; n.Conflicts != 0 || n.MAC != macA || n.Unanswered != 0 {
		t.Errorf("asking station: %+v", n)
	}
}

// TestRingOverflow fills the ring, expects the losses to be counted, and delivery to go
// on once it has been drained.
func TestRingOverflow(t *testing.T) {
	tuning := DefaultTuning()
	tuning.DeepAll, tuning.FlowPackets, tuning.FlowBytes = 1, 1<<16, 1<<32-1
	p := load(t, Config{Replay: true, Tuning: &tuning, Ring: 1 << 16})
	client, server := ends(false)
	send := func(i int) {
		if err := p.Packet(1e18+int64(i), segment{from: client, to: server, payload: make([]byte, 1000)}.frame(), 1042); err != nil {
			t.Fatal(err)
		}
	}
	const sent = 200
	for i := range sent {
		send(i)
	}
	r, err := p.Payloads()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	drain := func() (n int) {
		var rec Payload
		for {
			ok, err := r.TryReadInto(&rec)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				return n
			}
			n++
		}
	}
	got := drain()
	c, err := p.Counters()
	if err != nil {
		t.Fatal(err)
	}
	if c.PayloadRingFull == 0 || int(c.PayloadRecords) != got || int(c.PayloadRingFull)+got != sent {
		t.Errorf("%d of %d read, %d counted, %d lost", got, sent, c.PayloadRecords, c.PayloadRingFull)
	}
	send(sent)
	if n := drain(); n != 1 {
		t.Errorf("%d records after draining", n)
	}
}

func TestReadIntoDoesNotAllocate(t *testing.T) {
	tuning := DefaultTuning()
	tuning.DeepAll, tuning.FlowPackets, tuning.FlowBytes = 1, 1<<16, 1<<32-1
	p := load(t, Config{Replay: true, Tuning: &tuning})
	r, err := p.Payloads()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	client, server := ends(false)
	frame := segment{from: client, to: server, payload: make([]byte, 700)}.frame()
	const runs = 200
	for i := range runs + 2 {
		if err := p.Packet(1e18+int64(i), frame, len(frame)); err != nil {
			t.Fatal(err)
		}
	}
	var rec Payload
	if n := testing.AllocsPerRun(runs, func() {
		if ok, err := r.TryReadInto(&rec); !ok || err != nil || len(rec.Data) != 700 {
			t.Fatal(ok, err, len(rec.Data))
		}
	}); n != 0 {
		t.Errorf("%v allocations for a record", n)
	}
	if n := testing.AllocsPerRun(runs, func() {
		if err := p.Packet(2e18, frame, len(frame)); err != nil {
			t.Fatal(err)
		}
	}); n > 3 {
		t.Errorf("%v allocations for a replayed packet", n)
	}
}

// heapBudget is what Load may leave on the heap: BTF of the running kernel alone would
// be 25 MB and more.
const heapBudget = 2 << 20

func TestHeapAfterLoad(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	p := load(t, Config{})
	var peak runtime.MemStats
	runtime.ReadMemStats(&peak)
	runtime.GC()
	runtime.ReadMemStats(&after)
	t.Logf("heap: %d KiB kept, %d KiB allocated while loading", (int64(after.HeapAlloc)-int64(before.HeapAlloc))>>10, (peak.TotalAlloc-before.TotalAlloc)>>10)
	if kept := int64(after.HeapAlloc) - int64(before.HeapAlloc); kept > heapBudget {
		t.Errorf("%d bytes of heap after loading", kept)
	}
	if got := peak.TotalAlloc - before.TotalAlloc; got > 4*heapBudget {
		t.Errorf("%d bytes allocated while loading", got)
	}
	runtime.KeepAlive(p)
}

// TestObjectCarriesNoBTF: without it, nothing asks for the kernel's.
func TestObjectCarriesNoBTF(t *testing.T) {
	spec, err := loadStrata()
	if err != nil {
		t.Fatal(err)
	}
	if spec.Types != nil {
		t.Error("the object has BTF")
	}
}

// TestEvictionsAreCounted floods with flows and expects creates to explain them all.
func TestEvictionsAreCounted(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	p := load(t, Config{Replay: true})
	server := netip.MustParseAddrPort("192.0.2.2:80")
	const flows = 40_000
	seen := map[netip.AddrPort]bool{}
	for len(seen) < flows {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], rnd.Uint32()|1<<24)
		from := netip.AddrPortFrom(netip.AddrFrom4(a), uint16(1024+rnd.IntN(60000)))
		if seen[from] {
			continue
		}
		seen[from] = true
		f := segment{from: from, to: server, payload: []byte("xxxx")}.frame()
		if err := p.Packet(1e18, f, len(f)); err != nil {
			t.Fatal(err)
		}
	}
	present := 0
	if err := p.Flows(func(*FlowKey, *FlowValue) bool { present++; return true }); err != nil {
		t.Fatal(err)
	}
	c, err := p.Counters()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d creates, %d present, %d evicted", c.FlowCreates, present, int(c.FlowCreates)-present)
	if int(c.FlowCreates) != flows || c.FlowFails != 0 || present > DefaultFlows || present < DefaultFlows*8/10 {
		t.Errorf("creates %d, fails %d, present %d", c.FlowCreates, c.FlowFails, present)
	}
}

// FuzzPacket pushes anything through the programs: each packet is counted, none fails.
func FuzzPacket(f *testing.F) {
	for _, frame := range frames() {
		f.Add(frame, 2000)
	}
	f.Add(arpFrame(1, macA, "192.0.2.1", "192.0.2.9"), 60)
	f.Add([]byte{}, 0)
	p := load(f, Config{Replay: true})
	f.Fuzz(func(t *testing.T, frame []byte, length int) {
		before, err := p.Counters()
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Packet(1e18, frame, length&0xffff); err != nil {
			t.Fatal(err)
		}
		after, err := p.Counters()
		if err != nil {
			t.Fatal(err)
		}
		if after.Packets != before.Packets+1 {
			t.Errorf("%d packets counted", after.Packets-before.Packets)
		}
	})
}

// FuzzPayload decodes any record.
func FuzzPayload(f *testing.F) {
	f.Add(make([]byte, payloadHeaderSize+10))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, raw []byte) {
		var rec Payload
		if rec.decode(raw) == nil && len(rec.Data) > len(raw) {
			t.Error("more data than the record has")
		}
	})
}
