package dissect

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

var dnsKey = Key{A: netip.MustParseAddrPort("192.0.2.1:40000"), B: netip.MustParseAddrPort("192.0.2.53:53"), Proto: UDP}

func dnsSegment(t testing.TB, key Key, from Side, at int64, m *dns.Msg) Segment {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return Segment{Key: key, From: from, Time: at, Length: len(b), Payload: b}
}

func question(name string, qtype uint16, id uint16) *dns.Msg {
	m := new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype)
	m.Id = id
	return m
}

func reply(q *dns.Msg, rcode int) *dns.Msg {
	m := new(dns.Msg).SetRcode(q, rcode)
	if rcode == 0 {
		m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: 1, Class: 1, Ttl: 60}, A: []byte{192, 0, 2, 9}})
	}
	m.Compress = true
	return m
}

func TestDNSPairs(t *testing.T) {
	table := New(Config{MaxPending: 2})
	var got []*Message
	keep := func(m *Message) { got = append(got, m.Clone()) }
	q1, q2, q3 := question("one.example", 1, 1), question("two.example", 28, 2), question("three.example", 1, 3)
	r1 := reply(q1, 2)
	r1.Question[0].Name = "ONE.example." // servers may answer in another case
	for _, s := range []Segment{
		dnsSegment(t, dnsKey, A, 0, q1),
		dnsSegment(t, dnsKey, A, 1e6, q2),
		dnsSegment(t, dnsKey, A, 5e6, q1), // repeated: the first time counts
		dnsSegment(t, dnsKey, B, 25e6, r1),
		dnsSegment(t, dnsKey, B, 26e6, reply(question("other.example", 1, 2), 0)), // right id, wrong question
	} {
		table.Feed(&s, keep)
	}
	if m := got[3]; m.Kind != DNSResponse || m.Status != 2 || !m.Paired || m.Elapsed != 25*time.Millisecond {
		t.Errorf("response: %+v", m)
	}
	if m := got[4]; m.Paired {
		t.Error("paired with another question")
	}
	got = nil
	table.Expire(1e9, keep)
	if len(got) != 0 {
		t.Error("unanswered too early")
	}
	table.Expire(2.1e9, keep)
	if len(got) != 1 || got[0].Kind != DNSUnanswered || got[0].Time != 1e6 || got[0].From != A {
		t.Fatalf("unanswered: %+v", got)
	}
	if f, _ := got[0].Get("dns.question.name"); f.String() != "two.example" {
		t.Errorf("unanswered %s", f)
	}
	for i, q := range []*dns.Msg{q1, q2, q3} {
		s := dnsSegment(t, dnsKey, A, int64(3e9)+int64(i), q)
		table.Feed(&s, keep)
	}
	if s := table.Stats(); s.Dropped(DropPending) != 1 {
		t.Errorf("%d forgotten", s.Dropped(DropPending))
	}
	got = nil
	table.Blind(dnsKey)
	table.Expire(9e9, keep)
	if len(got) != 0 {
		t.Error("a blind flow's query told as unanswered")
	}
}

// TestDNSElsewhere holds that another port is believed only once an answer matched.
func TestDNSElsewhere(t *testing.T) {
	key := dnsKey
	key.B = netip.AddrPortFrom(key.B.Addr(), 5300)
	table := New(Config{})
	var got []*Message
	keep := func(m *Message) { got = append(got, m.Clone()) }
	q := question("one.example", 1, 1)
	for i, m := range []*dns.Msg{q, reply(q, 3), question("two.example", 1, 2)} {
		s := dnsSegment(t, key, Side(i%2), int64(i)*1e6, m)
		table.Feed(&s, keep)
	}
	if len(got) != 2 || got[0].Kind != DNSResponse || !got[0].Paired || got[1].Kind != DNSQuery {
		t.Errorf("told %d messages: %+v", len(got), got)
	}
	got = nil
	table.Expire(20e9, keep)
	if len(got) != 1 || got[0].Kind != DNSUnanswered {
		t.Errorf("unanswered: %+v", got)
	}
}

func TestDNSStream(t *testing.T) {
	k := newTalk(53)
	pack := func(m *dns.Msg) string {
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return string(binary.BigEndian.AppendUint16(nil, uint16(len(b)))) + string(b)
	}
	q := question("big.example", 16, 7)
	r := reply(q, 0)
	for range 300 {
		r.Answer = append(r.Answer, &dns.TXT{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: 16, Class: 1}, Txt: []string{strings.Repeat("x", 100)}})
	}
	k.say(A, pack(q)+pack(question("next.example", 1, 8)))
	k.say(B, pack(r)+pack(reply(question("next.example", 1, 8), 5)))
	k.end()
	all := hear(New(Config{}), k.segs)
	if len(all) != 4 || all[2].Kind != DNSResponse || !all[2].Paired || all[3].Status != 5 || !all[3].Paired {
		t.Errorf("%d messages: %+v", len(all), all)
	}
}

// TestDNSAgainstLibrary holds the parser against a library's over random messages, some
// of them damaged.
func TestDNSAgainstLibrary(t *testing.T) {
	r := seeded(t)
	damaged := 0
	for range 20000 {
		labels := make([]string, 1+r.IntN(6))
		for i := range labels {
			b := make([]byte, 1+r.IntN(20))
			for j := range b {
				b[j] = "abcdefghijklmnopqrstuvwxyz0123456789-_ABC"[r.IntN(41)]
			}
			labels[i] = string(b)
		}
		q := question(strings.Join(labels, "."), uint16(1+r.IntN(300)), uint16(r.Uint32()))
		m := q
		if r.IntN(2) == 0 {
			m = reply(q, r.IntN(11))
		}
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		if r.IntN(3) == 0 {
			b[12+r.IntN(len(b)-12)] = byte(r.Uint32())
			damaged++
		}
		var mine dnsMessage
		var lib dns.Msg
		result := parseDNS(b, nil, &mine)
		if lib.Unpack(b) != nil {
			continue
		}
		if result == dnsBad && slices.ContainsFunc(b[12:], func(c byte) bool { return c >= 0xc0 }) {
			continue // the library follows pointers forwards too
		}
		if result == dnsCut && lib.Question[0].Qclass == 0 {
			continue // the library takes a question that ends with its name
		}
		if result != dnsOK {
			t.Fatalf("refuses %x", b)
		}
		if mine.id != lib.Id || mine.rcode() != lib.Rcode&15 || mine.qtype != lib.Question[0].Qtype {
			t.Fatalf("%x: id %d, rcode %d, type %d", b, mine.id, mine.rcode(), mine.qtype)
		}
		if name := strings.TrimSuffix(lib.Question[0].Name, "."); !strings.ContainsAny(name, `\`) && string(mine.name) != name && name != "" {
			t.Fatalf("name %q, want %q", mine.name, name)
		}
	}
	t.Logf("%d of 20000 damaged", damaged)
}

func FuzzDNS(f *testing.F) {
	q := question("one.example", 1, 1)
	for _, m := range []*dns.Msg{q, reply(q, 0), reply(q, 2)} {
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var m dnsMessage
		if parseDNS(b, nil, &m) == dnsOK && m.visible && (len(m.name) == 0 || m.end > len(b)) {
			t.Errorf("name %q, end %d of %d", m.name, m.end, len(b))
		}
		table := New(Config{})
		s := Segment{Key: dnsKey, Length: len(b), Payload: b}
		table.Feed(&s, checkMessage(t))
		s.From = B
		table.Feed(&s, checkMessage(t))
		table.Expire(1e15, checkMessage(t))
	})
}

func TestDNSEscapes(t *testing.T) {
	b := []byte("\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03a.\x07\x02\\\xe9\x00\x00\x01\x00\x01")
	var m dnsMessage
	if parseDNS(b, nil, &m) != dnsOK || string(m.name) != `a\.\007.\\`+"\xe9" {
		t.Errorf("name %q", m.name)
	}
}

func BenchmarkDNS(b *testing.B) {
	q := question("telemetry.fleet.example", 1, 1)
	segs := []Segment{dnsSegment(b, dnsKey, A, 0, q), dnsSegment(b, dnsKey, B, 1e6, reply(q, 0))}
	table := New(Config{})
	benchmark(b, table, segs, len(segs))
}
