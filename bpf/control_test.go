package bpf

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// records drains what has been delivered, as "flags seq payload" of each.
func (s *script) records() (all []string) {
	s.t.Helper()
	r, err := s.p.Payloads()
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Close()
	var rec Payload
	for {
		ok, err := r.TryReadInto(&rec)
		if err != nil {
			s.t.Fatal(err)
		}
		if !ok {
			return all
		}
		var flags string
		for bit, name := range map[uint8]string{syn: "S", fin: "F", rst: "R"} {
			if rec.TCPFlags&bit != 0 {
				flags += name
			}
		}
		if rec.TCPFlags&ack != 0 {
			flags += "."
		}
		from := "r"
		if rec.FromInitiator() {
			from = "c"
		}
		if int(rec.CapLen) != len(rec.Data) || rec.Flags&PayloadCut == 0 && int(rec.PayloadLen) != len(rec.Data) {
			s.t.Errorf("record of %d bytes says %d captured, %d on the wire", len(rec.Data), rec.CapLen, rec.PayloadLen)
		}
		all = append(all, fmt.Sprintf("%s %s %d %s", from, flags, rec.Seq, rec.Data))
	}
}

// conversation is a whole connection that the client ends and the server then resets.
func conversation(v6 bool, at uint32) []segment {
	c, r := talk(v6)
	return []segment{
		c(syn, at-1, 0, ""), r(syn|ack, at+99, at, ""), c(ack, at, at+100, ""),
		c(ack|psh, at, at+100, "hello"), r(ack, at+100, at+5, ""), r(ack|psh, at+100, at+5, "world"),
		c(fin|ack, at+5, at+105, ""), r(rst, at+105, 0, ""),
	}
}

func TestControlRecords(t *testing.T) {
	want := func(at uint32) []string {
		return []string{
			fmt.Sprintf("c S %d ", at-1), fmt.Sprintf("r S. %d ", at+99),
			fmt.Sprintf("c . %d hello", at), fmt.Sprintf("r . %d world", at+100),
			fmt.Sprintf("c F. %d ", at+5), fmt.Sprintf("r R %d ", at+105),
		}
	}
	admit := func(s *script, v6 bool, budget uint32) {
		t.Helper()
		_, server := ends(v6)
		if err := s.p.AdmitEndpoint(NewEndpointKey(6, server), uint64(s.now)+uint64(time.Minute), budget); err != nil {
			t.Fatal(err)
		}
	}
	for _, v6 := range []bool{false, true} {
		s := newScript(t, nil)
		s.push(conversation(v6, 1000)[:3]...)
		if got := s.records(); len(got) != 0 {
			t.Errorf("nothing is admitted, delivered: %q", got)
		}
		clearFlows(t, s.p)
		admit(s, v6, 10)
		s.push(conversation(v6, 1000)...)
		if got := s.records(); !slices.Equal(got, want(1000)) {
			t.Errorf("delivered %q", got)
		}
		if v := s.flow(); v.Marks != 0 || v.Dir[0].SentBytes != 5 || v.Dir[1].SentBytes != 5 || v.Dir[0].SentControls != 2 || v.Dir[1].SentControls != 2 {
			t.Errorf("%d and %d bytes, %d and %d records without payload, marks %b",
				v.Dir[0].SentBytes, v.Dir[1].SentBytes, v.Dir[0].SentControls, v.Dir[1].SentControls, v.Marks)
		}
		// The endpoint's ten bytes are spent: a new connection on new ports is not admitted,
		// the same ports are known and keep what frames the stream.
		s.push(conversation(v6, 9000)...)
		if got := s.records(); !slices.Equal(got, []string{want(9000)[0], want(9000)[1], want(9000)[4], want(9000)[5]}) {
			t.Errorf("budget spent, delivered %q", got)
		}
		// A fresh budget: the next connection on the same ports begins anew.
		admit(s, v6, 100)
		s.push(conversation(v6, 20_000)...)
		if got := s.records(); !slices.Equal(got, want(20_000)) {
			t.Errorf("on used ports, delivered %q", got)
		}
	}
}

// TestControlRecordsEveryAdmission: the SYN comes up where everything is admitted, and
// where the flow is sampled; so does a reset that admits by its own mark.
func TestControlRecordsEveryAdmission(t *testing.T) {
	for name, test := range map[string]struct {
		tune func(*Tuning)
		want int
	}{
		"deep":   {func(t *Tuning) { t.DeepAll = 1 }, 6},
		"sample": {func(t *Tuning) { t.SampleEvery = 1 }, 6},
		"score":  {func(*Tuning) {}, 0},
	} {
		tuning := DefaultTuning()
		test.tune(&tuning)
		s := newScript(t, &tuning)
		s.push(conversation(false, 1000)...)
		if got := s.records(); len(got) != test.want {
			t.Errorf("%s: delivered %q", name, got)
		}
	}
	s := newScript(t, nil)
	c, r := talk(false)
	s.push(append(conversation(false, 1000)[:6], r(rst, 1105, 0, ""))...)
	if got := s.records(); !slices.Equal(got, []string{"r R 1105 "}) {
		t.Errorf("reset midway delivered %q", got)
	}
	s.push(c(syn, 49, 0, ""))
	if got := s.records(); !slices.Equal(got, []string{"c S 49 "}) {
		t.Errorf("the next connection delivered %q", got)
	}
}

// TestSampleOfHalfOpen: one in N connections is sampled, whether they were answered or not.
func TestSampleOfHalfOpen(t *testing.T) {
	tuning := DefaultTuning()
	tuning.SampleEvery = 10
	s := newScript(t, &tuning)
	_, server := ends(false)
	flood := func(n int) {
		for range n {
			from := netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), uint16(1024+s.now/int64(time.Millisecond)%50_000))
			s.push(segment{from: from, to: server, flags: syn, seq: 7, window: 500})
		}
	}
	flood(1000)
	// One CPU counts apart from another: the share is kept on each.
	if n := len(s.records()); n < 80 || n > 120 {
		t.Errorf("%d of 1000 SYNs, one in ten is sampled", n)
	}
}

// TestControlRecordsAreBounded: the number is bounded for a flow and, in SYNs, for an
// endpoint under a flood.
func TestControlRecordsAreBounded(t *testing.T) {
	s := newScript(t, nil)
	_, server := ends(false)
	if err := s.p.AdmitEndpoint(NewEndpointKey(6, server), uint64(s.now)+uint64(time.Hour), 1<<20); err != nil {
		t.Fatal(err)
	}
	s.push(conversation(false, 1000)[:6]...)
	c, _ := talk(false)
	for range 100 {
		s.push(c(fin|ack, 1005, 1105, ""))
	}
	if got := s.records(); len(got) != 4+8-1 {
		t.Errorf("%d records, 8 of a direction without payload are the most", len(got))
	}
	total := 0
	for i := range endpointSYNs + 1000 {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 40000)
		s.push(segment{from: from, to: server, flags: syn, seq: 7, window: 500})
		if i%1000 == 999 {
			total += len(s.records())
		}
	}
	total += len(s.records())
	// The first connection's SYN and SYN/ACK have taken two.
	if total != endpointSYNs-2 {
		t.Errorf("%d SYNs of a flood delivered, %d are the most", total, endpointSYNs-2)
	}
}

// TestFINBeyondTheBudget: a FIN whose own payload is beyond the budget comes without it.
func TestFINBeyondTheBudget(t *testing.T) {
	tuning := DefaultTuning()
	tuning.DeepAll, tuning.FlowBytes = 1, 4
	s := newScript(t, &tuning)
	c, _ := talk(false)
	s.push(c(syn, 99, 0, ""), c(ack, 100, 200, "abcdef"), c(fin|ack, 106, 200, "ghi"))
	if got := s.records(); !slices.Equal(got, []string{"c S 99 ", "c . 100 abcd", "c F. 106 "}) {
		t.Errorf("delivered %q", got)
	}
}

// TestHiddenAlert: TLS 1.3 shows no alert, but a client that ends the handshake in place
// of its Finished is told by the length of its record.
func TestHiddenAlert(t *testing.T) {
	record := func(kind byte, n int) string {
		return string(append([]byte{kind, 3, 3, byte(n >> 8), byte(n)}, bytes.Repeat([]byte{0xa5}, n)...))
	}
	const ccs = "\x14\x03\x03\x00\x01\x01"
	hello, flight, finished := record(22, 300), record(22, 120)+ccs+record(23, 900), ccs+record(23, 53)
	for _, test := range []struct {
		name    string
		client  []string // after the server's flight; "" is another answer of the server
		midway  bool     // the connection's beginning was not seen
		flagged bool
	}{
		{"alert", []string{record(23, 19)}, false, true},
		{"alert behind ChangeCipherSpec", []string{ccs + record(23, 19)}, false, true},
		{"alert, CCM-8", []string{record(23, 11)}, false, true},
		{"CCM-8 behind ChangeCipherSpec", []string{ccs + record(23, 11)}, false, true},
		{"beginning not seen", []string{record(23, 19)}, true, false},
		{"close_notify after the handshake", []string{finished, record(23, 19)}, false, false},
		{"close_notify after an answer", []string{finished + record(23, 60), "", record(23, 19)}, false, false},
		{"another length", []string{record(23, 20)}, false, false},
		{"another protocol", []string{strings.Repeat("x", 24)}, false, false},
		{"another protocol of 30", []string{strings.Repeat("x", 30)}, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newScript(t, nil)
			c, r := talk(false)
			if !test.midway {
				s.push(c(syn, 99, 0, ""), r(syn|ack, 999, 100, ""), c(ack, 100, 1000, ""))
			}
			cs, rs := uint32(100), uint32(1000)
			s.push(c(ack|psh, cs, rs, hello))
			cs += uint32(len(hello))
			s.push(r(ack|psh, rs, cs, flight))
			rs += uint32(len(flight))
			for _, text := range test.client {
				if text == "" {
					s.push(r(ack|psh, rs, cs, record(23, 200)))
					rs += 205
					continue
				}
				s.push(c(ack|psh, cs, rs, text))
				cs += uint32(len(text))
			}
			v := s.flow()
			if v.Marks&MarkTLSAlert != 0 != test.flagged || (v.Flags&FlowAdmitted != 0) != test.flagged {
				t.Errorf("marks %b, flags %b", v.Marks, v.Flags)
			}
		})
	}
}

// TestSuspicionRenewsASpentBudget: healthy traffic has used up what an endpoint was
// admitted for; the fault that comes then must be looked at all the same.
func TestSuspicionRenewsASpentBudget(t *testing.T) {
	s := newScript(t, nil)
	_, server := ends(false)
	if err := s.p.AdmitEndpoint(NewEndpointKey(6, server), uint64(s.now)+uint64(time.Minute), 10); err != nil {
		t.Fatal(err)
	}
	s.push(conversation(false, 1000)...)
	s.records()
	clearFlows(t, s.p)
	s.push(conversation(false, 5000)...)
	if got := s.records(); len(got) != 0 {
		t.Errorf("the budget is spent, delivered %q", got)
	}
	clearFlows(t, s.p)
	s.now += int64(3 * time.Second)
	failing := conversation(false, 9000)
	failing[5].payload = []byte("HTTP/1.1 503 Service Unavailable\r\n\r\n")
	s.push(failing[:6]...)
	s.records()
	clearFlows(t, s.p)
	s.push(conversation(false, 20_000)...)
	if got := s.records(); len(got) != 6 {
		t.Errorf("after a tell-tale, of the next connection delivered %q, want all six records", got)
	}
}
