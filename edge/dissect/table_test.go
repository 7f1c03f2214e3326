package dissect

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unsafe"
)

// checkMessage holds what is true of every message.
func checkMessage(t *testing.T) func(*Message) {
	return func(m *Message) {
		if m.Kind == KindNone || m.Kind >= kindCount || m.Protocol == Unknown {
			t.Errorf("message without kind or protocol: %+v", m)
		}
		if m.Paired && m.Elapsed < 0 {
			t.Errorf("negative duration: %+v", m)
		}
		if b := m.AppendFieldsJSON(nil); !json.Valid(b) {
			t.Errorf("no JSON: %s", b)
		}
	}
}

// benchmark feeds the same segments over and over; ns and bytes are told a message.
func benchmark(b *testing.B, table *Table, segs []Segment, messages int) {
	b.Helper()
	b.ReportAllocs()
	count := 0
	emit := func(*Message) { count++ }
	for b.Loop() {
		for i := range segs {
			table.Feed(&segs[i], emit)
		}
	}
	if count < messages*b.N {
		b.Fatalf("%d messages in %d rounds", count, b.N)
	}
	if count == 0 {
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(segs)), "ns/segment")
		return
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(count), "ns/message")
}

func httpTalk() *talk {
	k := newTalk(80)
	for range 10 {
		k.say(A, "GET /api/v1/devices/42?x=1 HTTP/1.1\r\nHost: fleet.example\r\nUser-Agent: agent/1.0\r\nAccept: */*\r\n\r\n")
		k.say(B, "HTTP/1.1 200 OK\r\nServer: web\r\nContent-Type: text/plain\r\nContent-Length: 1000\r\n\r\n"+strings.Repeat("x", 1000))
	}
	k.end()
	return k
}

func mqttTalk() *talk {
	k := newTalk(1883)
	k.say(A, mqttPack(0x10, mqttString("MQTT")+"\x04\x02\x00\x3c"+mqttString("device-42")))
	k.say(B, "\x20\x02\x00\x00")
	for range 9 {
		k.say(A, mqttPack(0x30, mqttString("fleet/42/telemetry")+strings.Repeat("y", 200)))
		k.say(A, "\xc0\x00")
		k.say(B, "\xd0\x00")
	}
	k.end()
	return k
}

func BenchmarkHTTP(b *testing.B) { benchmark(b, New(Config{}), httpTalk().segs, 20) }

func BenchmarkMQTT(b *testing.B) { benchmark(b, New(Config{}), mqttTalk().segs, 29) }

func BenchmarkTLS13(b *testing.B) {
	benchmark(b, New(Config{}), tlsTalk(b, tlsCase{version: 0x0304}).segs, 2)
}

func BenchmarkTLS12Certificate(b *testing.B) {
	benchmark(b, New(Config{}), tlsTalk(b, tlsCase{version: 0x0303}).segs, 3)
}

// BenchmarkUnknown is the cost of a segment of a flow that nobody knows.
func BenchmarkUnknown(b *testing.B) {
	k := newTalk(9999)
	for range 10 {
		k.say(A, strings.Repeat("\x99", 1400))
	}
	benchmark(b, New(Config{}), k.segs[2:], 0)
}

func TestNoAllocations(t *testing.T) {
	q := question("telemetry.fleet.example", 1, 1)
	for name, segs := range map[string][]Segment{
		"http":   httpTalk().segs,
		"mqtt":   mqttTalk().segs,
		"tls1.3": tlsTalk(t, tlsCase{version: 0x0304}).segs,
		"dns":    {dnsSegment(t, dnsKey, A, 0, q), dnsSegment(t, dnsKey, B, 1e6, reply(q, 0))},
		"small":  func() []Segment { k := httpTalk(); return split(k.segs, 33) }(),
	} {
		table := New(Config{})
		emit := func(*Message) {}
		n := testing.AllocsPerRun(50, func() {
			for i := range segs {
				table.Feed(&segs[i], emit)
			}
		})
		if n > 0 {
			t.Errorf("%s: %v allocations for %d segments", name, n, len(segs))
		}
	}
}

// split cuts the payload of segments into pieces of n bytes.
func split(segs []Segment, n int) []Segment {
	var all []Segment
	for _, s := range segs {
		for len(s.Payload) > n {
			p := s
			p.Payload, p.Length, p.Flags = s.Payload[:n], n, s.Flags&ACK
			all = append(all, p)
			s.Payload, s.Length, s.Seq = s.Payload[n:], s.Length-n, s.Seq+uint32(n)
		}
		all = append(all, s)
	}
	return all
}

// TestMemoryCap opens 2,048 flows that all want to keep as much as they can.
func TestMemoryCap(t *testing.T) {
	config := Config{MaxFlows: 1024, TotalBytes: 2 << 20}
	table := New(config)
	most := 0
	for round := range 40 {
		flows := 2048
		if round > 10 {
			flows = 1000 // which all fit, but not their bytes
		}
		for i := range flows {
			key := Key{A: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 40000),
				B: netip.MustParseAddrPort("192.0.2.2:80"), Proto: TCP}
			payload := []byte(strings.Repeat("X-Filler: "+strings.Repeat("z", 80)+"\r\n", 15))
			if round <= 11 {
				payload = append([]byte("GET / HTTP/1.1\r\n"), payload...)
			}
			// Every other segment leaves a hole, so that both heads and holes are kept.
			s := Segment{Key: key, Seq: uint32(round * 1500), Length: len(payload), Payload: payload, Time: int64(round) * 1e6}
			if round > 20 && round%2 == 0 {
				s.Seq += 700
			}
			table.Feed(&s, func(*Message) {})
			if m := table.Memory(); m > most {
				most = m
			}
		}
	}
	stats := table.Stats()
	t.Logf("at most %d KiB with %d flows; %d evicted for flows, %d for memory, %d over the flow's budget",
		most>>10, table.Len(), stats.Dropped(DropFlowEvicted), stats.Dropped(DropMemory), stats.Dropped(DropFlowBudget))
	if table.Len() > config.MaxFlows {
		t.Errorf("%d flows", table.Len())
	}
	if limit := config.TotalBytes + config.MaxFlows*(flowStruct+2*maxHeld*heldStruct); most > limit {
		t.Errorf("%d bytes, limit %d", most, limit)
	}
	if stats.Dropped(DropFlowEvicted) == 0 || stats.Dropped(DropMemory) == 0 {
		t.Error("nothing was evicted")
	}
	// What Memory says must be what is there.
	used := 0
	for f := table.oldest; f != nil; f = f.newer {
		sum := 0
		for side := range f.half {
			h := &f.half[side]
			sum += cap(h.buf) + cap(h.handshake)
			for _, x := range h.held {
				sum += cap(x.data)
			}
		}
		if sum != f.bytes || sum > maxFlowBytes {
			t.Fatalf("flow holds %d bytes, counts %d", sum, f.bytes)
		}
		used += sum
	}
	if used+table.pool.idling != table.pool.bytes {
		t.Errorf("%d bytes in flows and %d idle, counted %d", used, table.pool.idling, table.pool.bytes)
	}
}

func TestFlowStruct(t *testing.T) {
	t.Logf("a flow has %d bytes, a held segment %d", unsafe.Sizeof(flow{}), unsafe.Sizeof(held{}))
	if size := int(unsafe.Sizeof(flow{})); size+256 > flowStruct || unsafe.Sizeof(held{}) > heldStruct {
		t.Errorf("a flow has %d bytes, counted as %d; held has %d", size, flowStruct, unsafe.Sizeof(held{}))
	}
}

func TestPortReuse(t *testing.T) {
	k := httpTalk()
	all := append([]Segment(nil), k.segs...)
	for _, s := range k.segs { // the same ports again, other sequence numbers, another protocol
		s.Seq += 5_000_000
		s.Ack += 5_000_000
		all = append(all, s)
	}
	if got := len(hear(New(Config{}), all)); got != 40 {
		t.Errorf("%d messages, want 40", got)
	}
}

// TestPortReuseUnseen has a new connection whose SYN was not delivered.
func TestPortReuseUnseen(t *testing.T) {
	for _, jump := range []uint32{5_000_000, 1<<32 - 5_000_000} {
		all := append([]Segment(nil), tlsTalk(t, tlsCase{version: 0x0303}).segs...)
		last := len(all) - 2 // the FINs are not delivered either
		all = all[:last]
		for _, s := range httpTalk().segs {
			s.Key = all[0].Key
			s.Seq += jump
			s.Ack += jump
			if len(s.Payload) > 0 {
				all = append(all, s)
			}
		}
		count := 0
		for _, m := range hear(New(Config{}), all) {
			if m.Protocol == HTTP1 {
				count++
				if m.Kind == HTTPResponse && !m.Paired {
					t.Error("unpaired")
				}
			}
		}
		if count != 20 {
			t.Errorf("%d messages of the second connection, want 20", count)
		}
	}
}

func TestUpgradeAndTunnel(t *testing.T) {
	k := newTalk(80)
	k.say(A, "GET /ws HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
	k.say(B, "HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x05hello")
	k.say(A, "GET /not-http HTTP/1.1\r\nHost: b.example\r\n\r\n")
	if all := hear(New(Config{}), k.segs); len(all) != 2 {
		t.Errorf("upgrade: %d messages", len(all))
	}
	k = newTalk(3128)
	k.say(A, "CONNECT device.example:443 HTTP/1.1\r\nHost: device.example:443\r\n\r\n")
	k.say(B, "HTTP/1.1 200 Connection established\r\n\r\n")
	inner := tlsTalk(t, tlsCase{version: 0x0303})
	for _, s := range inner.segs {
		if len(s.Payload) > 0 {
			k.say(s.From, string(s.Payload))
		}
	}
	k.end()
	m := kinds(hear(New(Config{}), k.segs))
	if m[TLSClientHello] == nil || m[TLSCertificate] == nil || m[Undecodable] != nil {
		t.Errorf("tunnel: %v", m)
	}
}

func TestUndecodable(t *testing.T) {
	k := newTalk(443)
	for _, s := range tlsTalk(t, tlsCase{version: 0x0304}).segs {
		if s.From == A && len(s.Payload) > 0 {
			k.say(A, string(s.Payload))
		} else if len(s.Payload) > 0 {
			break
		}
	}
	k.say(B, "HTTP/1.1 400 Bad Request\r\n\r\n")
	k.end()
	all := hear(New(Config{}), k.segs)
	m := kinds(all)
	if u := m[Undecodable]; u == nil || u.From != B || u.Protocol != TLS || len(all) != 2 {
		t.Errorf("told %v", m)
	}
	// The same, joined late: nothing is told of the answer.
	if m := kinds(hear(New(Config{}), k.segs[2:])); m[Undecodable] != nil {
		t.Error("undecodable although joined late")
	}
}

func TestHoldTime(t *testing.T) {
	k := httpTalk()
	table := New(Config{HoldTime: time.Second})
	count := 0
	emit := func(*Message) { count++ }
	for i, s := range k.segs[:8] {
		if i == 4 {
			continue // the second request
		}
		s.Flags &^= ACK
		table.Feed(&s, emit)
	}
	before := count
	table.Expire(k.now+int64(2*time.Second), emit)
	if count != before+1 {
		t.Errorf("%d messages before, %d after", before, count)
	}
}

// fuzzTalk feeds bytes as both directions of a stream, in pieces, with holes and cuts
// that the second argument chooses.
func fuzzTalk(t *testing.T, port uint16, data, shape []byte) {
	k := newTalk(port)
	k.mss = 64
	table := New(Config{MaxFlows: 4, FlowBytes: 8 << 10, TotalBytes: 64 << 10})
	half := len(data) / 2
	k.say(A, string(data[:half]))
	k.say(B, string(data[half:]))
	k.end()
	for i := range k.segs {
		s := k.segs[i]
		var c byte
		if len(shape) > 0 {
			c = shape[i%len(shape)]
		}
		switch c & 7 {
		case 1:
			continue
		case 2:
			s.Payload = s.Payload[:len(s.Payload)/2]
		case 3:
			s.Seq += uint32(c)
		case 4:
			s.Seq -= uint32(c)
		case 5:
			s.Flags |= SYN
		case 6:
			s.From ^= 1
		}
		table.Feed(&s, checkMessage(t))
		if m := table.Memory(); m > 64<<10+4*(flowStruct+2*maxHeld*heldStruct) {
			t.Fatalf("%d bytes", m)
		}
	}
	table.Expire(k.now+1e10, checkMessage(t))
	table.Flush(checkMessage(t))
}

// seedTalk adds the beginning of a conversation.
func seedTalk(f *testing.F, k *talk) {
	const most = 700 // of each side: small seeds are changed quickly
	var a, b []byte
	for _, s := range k.segs {
		if s.From == A {
			a = append(a, s.Payload...)
		} else {
			b = append(b, s.Payload...)
		}
	}
	a, b = a[:min(len(a), most)], b[:min(len(b), most)]
	n := max(len(a), len(b))
	data := make([]byte, 2*n)
	copy(data, a)
	copy(data[n:], b)
	f.Add(data, []byte{0})
	f.Add(data, []byte{0, 0, 0, 1, 0, 2})
}

func FuzzHTTP(f *testing.F) {
	seedTalk(f, httpTalk())
	f.Add([]byte("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 X\r\n\r\n"), []byte{0})
	f.Fuzz(func(t *testing.T, data, shape []byte) { fuzzTalk(t, 80, data, shape) })
}

func FuzzMQTT(f *testing.F) {
	seedTalk(f, mqttTalk())
	f.Add([]byte("\x10\x0f\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x02id\x20\x03\x00\x87\x00"), []byte{0})
	f.Fuzz(func(t *testing.T, data, shape []byte) { fuzzTalk(t, 1883, data, shape) })
}

func FuzzTLS(f *testing.F) {
	seedTalk(f, tlsTalk(f, tlsCase{version: 0x0303}))
	seedTalk(f, tlsTalk(f, tlsCase{version: 0x0304, reject: true}))
	f.Fuzz(func(t *testing.T, data, shape []byte) { fuzzTalk(t, 443, data, shape) })
}

// FuzzTable feeds arbitrary segments of a few flows.
func FuzzTable(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x10GET / HTTP/1.1\r\n\x02\x00\x00\x05\x08HTTP/1.1"))
	f.Add([]byte("\x10\x00\x00\x00\x04\x10\x02\x00\x04\x10\x00\x00\x00\x04MQTT"))
	f.Fuzz(func(t *testing.T, data []byte) {
		table := New(Config{MaxFlows: 3, FlowBytes: 4 << 10, TotalBytes: 64 << 10, MaxPending: 4})
		ports := [...]uint16{80, 443, 53, 1883, 5353, 9999}
		for i := 0; len(data) >= 5; i++ {
			n := min(int(data[4]), len(data)-5)
			s := Segment{
				Key:  Key{A: netip.MustParseAddrPort("192.0.2.1:40000"), B: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.2"), ports[int(data[0]>>1)%len(ports)]), Proto: TCP},
				From: Side(data[0] & 1), Flags: Flags(data[1] & 15), Seq: uint32(data[2])<<8 | uint32(data[3]), Ack: uint32(data[3]) << 4,
				Length: int(data[4]), Time: int64(i) * 1e8, Wall: int64(i) * 1e8, Payload: data[5 : 5+n],
			}
			if data[1]&0x80 != 0 {
				s.Key.Proto = UDP
			}
			table.Feed(&s, checkMessage(t))
			if i%8 == 7 {
				table.Expire(s.Time, checkMessage(t))
			}
			data = data[5+n:]
		}
		table.Flush(checkMessage(t))
		if table.Len() > 3 || table.pool.bytes > 64<<10 {
			t.Errorf("%d flows, %d bytes", table.Len(), table.pool.bytes)
		}
	})
}

func ExampleMessage_AppendFieldsJSON() {
	m := Message{Fields: []Field{{Name: "a", Text: []byte("x\n\"\xff")}, {Name: "n", Num: 3}, {Name: "a", Text: []byte("y")}, {Name: "f", Num: 1.5}}}
	fmt.Println(string(m.AppendFieldsJSON(nil)))
	// Output: {"a":["x\u000a\"�","y"],"n":3,"f":1.500}
}
