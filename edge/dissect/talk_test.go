package dissect

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"sort"
	"strings"
	"testing"
	"time"
)

// talk writes down a TCP conversation as segments.
type talk struct {
	key  Key
	segs []Segment
	next [2]uint32
	now  int64
	mss  int
}

func newTalk(port uint16) *talk {
	k := &talk{
		key: Key{A: netip.MustParseAddrPort("192.0.2.1:40000"), B: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.2"), port), Proto: TCP},
		now: 1_700_000_000_000_000_000, mss: 1448,
	}
	k.next = [2]uint32{4_294_967_000, 77} // one wraps soon
	k.add(A, SYN, nil)
	k.add(B, SYN|ACK, nil)
	return k
}

func (k *talk) add(from Side, flags Flags, data []byte) {
	k.segs = append(k.segs, Segment{
		Key: k.key, From: from, Flags: flags, Seq: k.next[from], Ack: k.next[from^1], Length: len(data), Payload: data,
		Time: k.now, Wall: k.now,
	})
	k.next[from] += uint32(len(data))
	if flags&(SYN|FIN) != 0 {
		k.next[from]++
	}
	k.now += int64(time.Millisecond)
}

func (k *talk) say(from Side, data string) {
	for len(data) > 0 {
		n := min(len(data), k.mss)
		k.add(from, ACK, []byte(data[:n]))
		data = data[n:]
	}
}

func (k *talk) end() {
	k.add(A, FIN|ACK, nil)
	k.add(B, FIN|ACK, nil)
}

// hear feeds segments to a table and keeps the messages.
func hear(t *Table, segs []Segment) []*Message {
	var all []*Message
	keep := func(m *Message) { all = append(all, m.Clone()) }
	for i := range segs {
		t.Feed(&segs[i], keep)
	}
	t.Flush(keep)
	return all
}

// text gives a message on one line, without times.
func text(m *Message) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s %s", m.Kind, m.From, m.Protocol)
	for _, f := range m.Fields {
		if !strings.HasSuffix(f.Name, "duration_ms") {
			fmt.Fprintf(&b, " %s=%s", f.Name, f)
		}
	}
	return b.String()
}

// statement holds a message against the truth: the kind, the sender and all its fields
// must be those of one true message, and a duration must be that message's.
func statement(m *Message, truth []*Message) error {
	err := fmt.Errorf("never said: %s", text(m))
	for _, x := range truth {
		if x.Kind != m.Kind || x.From != m.From || x.Time != m.Time {
			continue
		}
		words := map[string]bool{}
		for _, f := range x.Fields {
			words[f.Name+"="+f.String()] = true
		}
		bad := ""
		for _, f := range m.Fields {
			if !words[f.Name+"="+f.String()] {
				bad = f.Name + "=" + f.String()
			}
		}
		if bad == "" && (!m.Paired || x.Paired && x.Elapsed == m.Elapsed) {
			return nil
		}
		err = fmt.Errorf("not said: %q in %s; true is %s", bad, text(m), text(x))
	}
	return err
}

// randomHTTP is a conversation of several exchanges.
func randomHTTP(r *rand.Rand) *talk {
	k := newTalk(80)
	k.mss = 100 + r.IntN(1400)
	body := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = "abcdefghijklmnop 0123456789\n<>"[r.IntN(30)]
		}
		return string(b)
	}
	pipelined := r.IntN(4) == 0
	var answers []string
	for i := range 3 + r.IntN(20) {
		method := []string{"GET", "POST", "HEAD", "PUT"}[r.IntN(4)]
		q := fmt.Sprintf("%s /path/%d?secret=%d HTTP/1.1\r\nHost: h%d.example:8080\r\nCookie: c=%s\r\n", method, i, i, i, "hidden")
		if method == "POST" || method == "PUT" {
			b := body(r.IntN(5000))
			q += fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(b), b)
		} else {
			q += "\r\n"
		}
		status := []int{200, 204, 304, 404, 500, 503}[r.IntN(6)]
		a := ""
		if r.IntN(8) == 0 {
			a = "HTTP/1.1 100 Continue\r\n\r\n"
		}
		a += fmt.Sprintf("HTTP/1.1 %d X\r\nX-N: %d\r\n", status, i)
		switch b := body(r.IntN(20000)); {
		case status == 204 || status == 304:
			a += "\r\n"
		case method == "HEAD":
			a += fmt.Sprintf("Content-Length: %d\r\n\r\n", len(b))
		case r.IntN(2) == 0:
			a += fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(b), b)
		default:
			a += "Transfer-Encoding: chunked\r\n\r\n"
			for len(b) > 0 {
				n := 1 + r.IntN(len(b))
				a += fmt.Sprintf("%x\r\n%s\r\n", n, b[:n])
				b = b[n:]
			}
			a += "0\r\n\r\n"
		}
		k.say(A, q)
		answers = append(answers, a)
		if !pipelined || r.IntN(3) == 0 {
			for _, a := range answers {
				k.say(B, a)
			}
			answers = nil
		}
	}
	for _, a := range answers {
		k.say(B, a)
	}
	k.end()
	return k
}

func mqttString(s string) string { return string([]byte{byte(len(s) >> 8), byte(len(s))}) + s }

func mqttPack(first byte, body string) string {
	head := []byte{first}
	for n := len(body); ; {
		c := byte(n & 0x7f)
		if n >>= 7; n > 0 {
			head = append(head, c|0x80)
			continue
		}
		return string(append(head, c)) + body
	}
}

// randomMQTT is a session; level is 4 or 5.
func randomMQTT(r *rand.Rand, level byte) *talk {
	k := newTalk(1883)
	k.mss = 50 + r.IntN(1400)
	props := ""
	if level == 5 {
		props = "\x05\x11\x00\x00\x00\x0a"
	}
	will := props[:min(len(props), 0)]
	if level == 5 {
		will = "\x00"
	}
	k.say(A, mqttPack(0x10, mqttString("MQTT")+string([]byte{level, 0xc6, 0, 60})+props+mqttString("client-7")+
		will+mqttString("will/topic")+mqttString("hiddenwill")+mqttString("hiddenuser")+mqttString("hiddenpass")))
	if level == 5 {
		k.say(B, mqttPack(0x20, "\x00\x00\x00"))
	} else {
		k.say(B, mqttPack(0x20, "\x00\x00"))
	}
	for i := range 5 + r.IntN(20) {
		payload := make([]byte, r.IntN(4000))
		for j := range payload {
			payload[j] = byte(r.Uint32())
		}
		p := mqttString(fmt.Sprintf("plant/%d/value", i)) + "\x00\x07"
		if level == 5 {
			p += "\x00"
		}
		k.say(A, mqttPack(0x32, p+string(payload)))
		k.say(B, mqttPack(0x40, "\x00\x07"))
		if r.IntN(3) == 0 {
			k.say(A, "\xc0\x00")
			k.say(B, "\xd0\x00")
		}
	}
	k.say(A, "\xe0\x00")
	k.end()
	return k
}

func seeded(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("STRATA_SEED"); s != "" {
		fmt.Sscan(s, &seed)
	}
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

func randomTalk(t *testing.T, r *rand.Rand) *talk {
	switch r.IntN(5) {
	case 0:
		return randomMQTT(r, 4)
	case 1:
		return randomMQTT(r, 5)
	case 2:
		return tlsTalk(t, tlsCase{version: []uint16{0x0303, 0x0304}[r.IntN(2)], reject: r.IntN(2) == 0, mss: 200 + r.IntN(1248)})
	}
	return randomHTTP(r)
}

// TestDamageTellsNothingWrong joins late, drops and cuts, and holds what is said
// against what the whole conversation said.
func TestDamageTellsNothingWrong(t *testing.T) {
	r := seeded(t)
	told, true_ := 0, 0
	for round := range 400 {
		k := randomTalk(t, r)
		truth := hear(New(Config{}), k.segs)
		loss := []float64{0, 0.02, 0.1, 0.3}[r.IntN(4)]
		cut := []float64{0, 0.05, 0.3}[r.IntN(3)]
		acks := r.IntN(2) == 0
		join := 0
		if r.IntN(2) == 0 {
			join = r.IntN(len(k.segs))
		}
		whole := pipelined(truth)
		if whole {
			join = 0 // see http1.go: a late join cannot tell pipelining that it has not seen
		}
		var heard []Segment
		for _, s := range k.segs[join:] {
			if r.Float64() < loss && !(whole && s.Flags&SYN != 0) {
				continue
			}
			if r.Float64() < cut && len(s.Payload) > 0 {
				s.Payload = s.Payload[:r.IntN(len(s.Payload))]
			}
			if !acks {
				s.Flags &^= ACK
			}
			heard = append(heard, s)
		}
		said := hear(New(Config{}), heard)
		for _, m := range said {
			if err := statement(m, truth); err != nil {
				for _, m := range said {
					t.Logf("%d %s %v %v", m.Time/1e6%1e6, text(m), m.Paired, m.Elapsed)
				}
				for _, m := range truth {
					t.Logf("true %d %s %v", m.Time/1e6%1e6, text(m), m.Elapsed)
				}
				t.Fatalf("round %d (join %d, loss %v, cut %v, acks %v): %v", round, join, loss, cut, acks, err)
			}
		}
		told += len(said)
		true_ += len(truth)
	}
	t.Logf("%d of %d messages told", told, true_)
}

func pipelined(all []*Message) bool {
	open := 0
	for _, m := range all {
		switch m.Kind {
		case HTTPRequest:
			if open++; open > 1 {
				return true
			}
		case HTTPResponse:
			if m.Status >= 200 {
				open--
			}
		}
	}
	return false
}

// TestDisorderTellsTheSame swaps, repeats and splits segments: nothing is lost, so the
// same must be said.
func TestDisorderTellsTheSame(t *testing.T) {
	r := seeded(t)
	for round := range 300 {
		k := randomTalk(t, r)
		want := hear(New(Config{}), k.segs)
		var segs []Segment
		for _, s := range k.segs {
			s.Flags &^= ACK
			if n := len(s.Payload); n > 1 && r.IntN(3) == 0 {
				i, j := r.IntN(n), r.IntN(n)
				left, right := s, s
				left.Payload, left.Length = s.Payload[:max(i, j)], max(i, j) // overlapping halves
				right.Payload, right.Seq = s.Payload[min(i, j):], s.Seq+uint32(min(i, j))
				right.Length = len(right.Payload)
				segs = append(segs, left, right)
			} else {
				segs = append(segs, s)
			}
			if r.IntN(5) == 0 {
				segs = append(segs, s)
			}
		}
		for i := range segs {
			// Neighbours of one direction change places.
			if i > 2 && r.IntN(6) == 0 && segs[i].From == segs[i-1].From && (segs[i].Flags|segs[i-1].Flags)&(SYN|FIN|RST) == 0 {
				segs[i], segs[i-1] = segs[i-1], segs[i]
			}
		}
		got := hear(New(Config{}), segs)
		a, b := make([]string, 0, len(want)), make([]string, 0, len(got))
		for _, m := range want {
			a = append(a, text(m))
		}
		for _, m := range got {
			b = append(b, text(m))
		}
		sort.Strings(a)
		sort.Strings(b)
		if strings.Join(a, "\n") != strings.Join(b, "\n") {
			t.Fatalf("round %d (%s): told %d, want %d:\n%s\n--- want\n%s", round, k.key.B, len(b), len(a), strings.Join(b, "\n"), strings.Join(a, "\n"))
		}
	}
}

// TestRedaction looks for what must not leave in all that is told.
func TestRedaction(t *testing.T) {
	r := seeded(t)
	http := newTalk(80)
	http.say(A, "GET http://hiddenuser:hiddenpass@shop.example/a;jsessionid=hidden1?token=hidden2#hidden3 HTTP/1.1\r\n"+
		"Host: hiddenuser:hiddenpass@shop.example\r\nAuthorization: Basic hidden4\r\nCookie: id=hidden5\r\nReferer: /?q=hidden6\r\n\r\n")
	http.say(B, "HTTP/1.1 401 hidden7\r\nSet-Cookie: hidden8\r\nLocation: /?hidden9\r\nContent-Length: 7\r\n\r\nhidden0")
	http.say(A, "CONNECT hiddenuser:hiddenpass@shop.example:443 HTTP/1.1\r\nProxy-Authorization: Basic hidden\r\n\r\n")
	talks := []*talk{http}
	for range 20 {
		talks = append(talks, randomMQTT(r, 4), randomMQTT(r, 5), randomHTTP(r))
	}
	count := 0
	for _, k := range talks {
		for i := range k.segs { // also cut, so that partial heads are told
			segs := append([]Segment(nil), k.segs...)
			if n := len(segs[i].Payload); n > 0 && i < 8 {
				segs[i].Payload = segs[i].Payload[:r.IntN(n)]
			} else if i > 0 {
				continue
			}
			for _, m := range hear(New(Config{}), segs) {
				count++
				if s := text(m) + string(m.AppendFieldsJSON(nil)); strings.Contains(s, "hidden") || strings.Contains(s, "secret") {
					t.Fatalf("told %s", s)
				}
			}
		}
	}
	t.Logf("%d messages", count)
}
