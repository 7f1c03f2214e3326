package flow

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/strata-edge/strata/edge/diag"
	"github.com/strata-edge/strata/edge/dissect"
)

// manyFlows gives n established flows of as many clients to few services.
func manyFlows(n int) *fakeTables {
	t := &fakeTables{}
	for i := range n {
		f := &Flow{First: origin, Last: origin.Add(1), Ingress: true, Established: true, RTT: 20000, Acked: true}
		f.Key = Key{If: 2, Proto: protoTCP, APort: uint16(20000 + i), BPort: 443}
		f.Key.A = netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).As16()
		f.Key.B = netip.AddrFrom4([4]byte{203, 0, 113, byte(i % 16)}).As16()
		f.Dir[AB] = Dir{Packets: 10, Payload: 4, SYN: 1}
		f.Dir[BA] = Dir{Packets: 9, Payload: 4, SYN: 1}
		t.flows = append(t.flows, f)
	}
	return t
}

// borrowTables hands out its entries themselves, as the kernel's reader does.
type borrowTables struct{ *fakeTables }

func (t borrowTables) Flows(fn func(*Flow)) error {
	for _, f := range t.flows {
		fn(f)
	}
	return nil
}

func newTestEngine(tb testing.TB, t Tables) *Engine {
	tb.Helper()
	e, err := NewEngine(Config{Tables: t, Resolver: fakeRoutes{}})
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

func TestIdleHarvestAllocatesNothing(t *testing.T) {
	e := newTestEngine(t, borrowTables{manyFlows(10000)})
	now := origin.Add(Interval)
	emit := func(diag.Signal) {}
	for range 2 {
		if err := e.Harvest(now, emit); err != nil {
			t.Fatal(err)
		}
		now = now.Add(Interval)
	}
	n := testing.AllocsPerRun(20, func() {
		if err := e.Harvest(now, emit); err != nil {
			t.Fatal(err)
		}
		now = now.Add(Interval)
	})
	if n > 0 {
		t.Errorf("a harvest of 10,000 idle flows makes %v allocations", n)
	}
}

func BenchmarkHarvest(b *testing.B) {
	for name, busy := range map[string]bool{"idle": false, "busy": true} {
		b.Run(name, func(b *testing.B) {
			tables := manyFlows(10000)
			e := newTestEngine(b, borrowTables{tables})
			now := origin.Add(Interval)
			emit := func(diag.Signal) {}
			if err := e.Harvest(now, emit); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(Interval)
				if busy {
					for _, f := range tables.flows {
						f.Last = now.Add(-1)
						f.Dir[AB].Packets += 3
						f.Dir[AB].Payload++
						f.Dir[BA].Packets += 2
					}
				}
				if err := e.Harvest(now, emit); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/10000, "ns/flow")
		})
	}
}

func TestSlotsAreBoundedAndFreed(t *testing.T) {
	tables := manyFlows(50)
	e, err := NewEngine(Config{Tables: tables, Resolver: fakeRoutes{}, Flows: 32})
	if err != nil {
		t.Fatal(err)
	}
	emit := func(diag.Signal) {}
	must := func() {
		t.Helper()
		e.now = e.now.Add(Interval)
		if err := e.Harvest(max(e.now, origin).Add(Interval), emit); err != nil {
			t.Fatal(err)
		}
	}
	must()
	if c := e.Counters(); c.NoSlot != 18 || e.slots.live != 32 {
		t.Errorf("50 flows in 32 slots: %d live, %d without", e.slots.live, c.NoSlot)
	}
	tables.flows = tables.flows[40:]
	must()
	must()
	if e.slots.live != 10 || len(e.slots.heads) != 10 || len(e.slots.list) != 32 {
		t.Errorf("10 flows left: %d live, %d heads, %d slots", e.slots.live, len(e.slots.heads), len(e.slots.list))
	}
}

func TestSidesShareOneChain(t *testing.T) {
	s := newSlots(8)
	k := Key{APort: 1, BPort: 2, Proto: protoTCP, If: 2}
	in := s.add(&k)
	s.list[in].ingress, s.list[in].first = true, 5
	k.If = 3
	out := s.add(&k)
	s.list[out].first = 4
	if s.primary(in) != in || s.primary(out) != in || s.other(in) != out {
		t.Errorf("primary %d %d, other %d; in is %d, out %d", s.primary(in), s.primary(out), s.other(in), in, out)
	}
	s.list[out].gen = 7
	s.sweep(7)
	if s.live != 1 || s.primary(out) != out || s.other(out) >= 0 {
		t.Errorf("after the way in was evicted: %d live, primary %d", s.live, s.primary(out))
	}
}

func TestEndedFlowsAreForgotten(t *testing.T) {
	tables := manyFlows(2)
	tables.flows[0].Closed = true
	e := newTestEngine(t, tables)
	for i := range 4 {
		if err := e.Harvest(origin.Add(Interval+time.Duration(i)*Interval), func(diag.Signal) {}); err != nil {
			t.Fatal(err)
		}
	}
	if len(tables.forgotten) == 0 || tables.forgotten[0] != tables.flows[0].Key {
		t.Errorf("forgotten: %v", tables.forgotten)
	}
}

type failingTables struct{ *fakeTables }

var errTable = errors.New("table is gone")

func (failingTables) Flows(func(*Flow)) error { return errTable }

func TestHarvestTellsOfTablesThatFail(t *testing.T) {
	e := newTestEngine(t, failingTables{&fakeTables{interfaces: []*Interface{{If: 2, Frames: 4}}}})
	var got []diag.Signal
	err := e.Harvest(origin, func(s diag.Signal) { got = append(got, s) })
	if !errors.Is(err, errTable) {
		t.Errorf("error %v", err)
	}
	if len(got) != 1 || got[0].Name != "frames" {
		t.Errorf("the other tables gave %v", got)
	}
}

func TestLRU(t *testing.T) {
	l := newLRU[int, string](2)
	for i, name := range []string{"zero", "one"} {
		v, fresh := l.add(i)
		if !fresh {
			t.Fatal(i)
		}
		*v = name
	}
	l.get(0)
	if v, fresh := l.add(2); !fresh || *v != "" {
		t.Errorf("a new entry holds %q", *v)
	}
	if l.peek(1) != nil || *l.peek(0) != "zero" || l.evicted != 1 {
		t.Errorf("the oldest stayed: %d evicted", l.evicted)
	}
}

// said feeds messages and gives the signals of the next harvest by name.
func said(t *testing.T, e *Engine, messages ...*dissect.Message) map[string]diag.Signal {
	t.Helper()
	for _, m := range messages {
		e.message(m)
	}
	got := map[string]diag.Signal{}
	if err := e.Harvest(max(e.now, origin).Add(Interval), func(s diag.Signal) { got[s.Name] = s }); err != nil {
		t.Fatal(err)
	}
	return got
}

func tlsKey() dissect.Key {
	return dissect.Key{A: netip.MustParseAddrPort("10.0.0.2:40000"), B: netip.MustParseAddrPort("203.0.113.9:443"), If: 2, Proto: dissect.TCP}
}

func TestAlertsAreReadWithTheCertificate(t *testing.T) {
	alert := func(n int, from dissect.Side) *dissect.Message {
		return &dissect.Message{Kind: dissect.TLSAlert, Key: tlsKey(), From: from, Fatal: true, Status: n}
	}
	cert := func(c dissect.Cert) *dissect.Message {
		return &dissect.Message{Kind: dissect.TLSCertificate, Key: tlsKey(), From: dissect.B, Cert: &c}
	}
	for name, c := range map[string]struct {
		messages []*dissect.Message
		want     string // besides tls.alert
	}{
		"expired, by date":          {[]*dissect.Message{cert(dissect.Cert{Expired: true})}, "tls.cert_expired"},
		"not yet valid, by date":    {[]*dissect.Message{cert(dissect.Cert{NotYetValid: true})}, "tls.cert_not_yet_valid"},
		"expired, by alert":         {[]*dissect.Message{alert(alertCertificateExpired, dissect.A)}, "tls.cert_expired"},
		"other name, rejected":      {[]*dissect.Message{cert(dissect.Cert{NameMismatch: true}), alert(alertBadCertificate, dissect.A)}, "tls.cert_name"},
		"other name, accepted":      {[]*dissect.Message{cert(dissect.Cert{NameMismatch: true})}, ""},
		"self-signed, rejected":     {[]*dissect.Message{cert(dissect.Cert{SelfSigned: true}), alert(alertBadCertificate, dissect.A)}, "tls.cert_unknown_ca"},
		"unknown authority":         {[]*dissect.Message{alert(alertUnknownCA, dissect.A)}, "tls.cert_unknown_ca"},
		"rejected without a word":   {[]*dissect.Message{alert(alertBadCertificate, dissect.A)}, "tls.cert_rejected"},
		"the client's, by server":   {[]*dissect.Message{alert(alertUnknownCA, dissect.B)}, ""},
		"version":                   {[]*dissect.Message{alert(alertProtocolVersion, dissect.B)}, "tls.version"},
		"cipher":                    {[]*dissect.Message{alert(alertHandshakeFailure, dissect.B)}, "tls.cipher"},
		"an ordinary end":           {[]*dissect.Message{alert(alertCloseNotify, dissect.A)}, ""},
		"rejection that is no word": {[]*dissect.Message{{Kind: dissect.TLSRejected, Key: tlsKey(), From: dissect.A}}, "tls.cert_rejected"},
	} {
		t.Run(name, func(t *testing.T) {
			got := said(t, newTestEngine(t, &fakeTables{}), c.messages...)
			delete(got, "tls.alert")
			if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || got[c.want].Scope.String() != "service:tcp/203.0.113.9:443") {
				t.Errorf("want %q, got %v", c.want, got)
			}
		})
	}
}

func TestMessagesCarryNumbersAndNoBodies(t *testing.T) {
	key := tlsKey()
	response := &dissect.Message{Kind: dissect.HTTPResponse, Key: key, From: dissect.B, Status: 503, Fields: []dissect.Field{
		{Name: "http.response.status_code", Num: 503}, {Name: "url.path", Text: []byte("/secret")}, {Name: "dns.question.name", Text: make([]byte, 300)},
	}}
	e := newTestEngine(t, &fakeTables{})
	got := said(t, e, response, response)
	s := got["http.response"]
	if s.Value != 2 || len(s.Path) == 0 {
		t.Errorf("got %v", s)
	}
	want := []diag.Attr{{Key: "http.class", Value: "5xx"}, {Key: "http.response.status_code", Value: "503"}}
	for i, a := range want {
		if s.Attrs[i] != a {
			t.Errorf("attribute %d: %v, want %v", i, s.Attrs[i], a)
		}
	}
	for _, a := range s.Attrs {
		if a.Key == "url.path" || len(a.Value) > maxEvidence {
			t.Errorf("attribute %v", a)
		}
	}
}

func TestMQTTAndDNSScopes(t *testing.T) {
	key := tlsKey()
	key.B = netip.MustParseAddrPort("203.0.113.9:1883")
	got := said(t, newTestEngine(t, &fakeTables{}),
		&dissect.Message{Kind: dissect.MQTTConnect, Key: key, From: dissect.A},
		&dissect.Message{Kind: dissect.MQTTConnack, Key: key, From: dissect.B, Status: 5, Fields: []dissect.Field{{Name: "mqtt.reason", Num: 5}}},
		&dissect.Message{Kind: dissect.MQTTDisconnect, Key: key, From: dissect.B, Status: 0x8e, Fields: []dissect.Field{{Name: "mqtt.reason", Num: 0x8e}}},
	)
	for _, name := range []string{"mqtt.connect", "mqtt.connack", "mqtt.disconnect"} {
		if got[name].Scope.String() != "service:tcp/203.0.113.9:1883" {
			t.Errorf("%s: %v", name, got[name])
		}
	}
	if a := got["mqtt.disconnect"].Attrs; len(a) != 1 || a[0].Value != "142" {
		t.Errorf("attributes %v", a)
	}
	// Multicast name resolution is no service.
	key = dissect.Key{A: netip.MustParseAddrPort("10.0.0.2:5353"), B: netip.MustParseAddrPort("224.0.0.251:5353"), Proto: dissect.UDP}
	if got := said(t, newTestEngine(t, &fakeTables{}), &dissect.Message{Kind: dissect.DNSUnanswered, Key: key, From: dissect.A}); len(got) > 0 {
		t.Errorf("got %v", got)
	}
}

func TestTalliesAreBounded(t *testing.T) {
	e := newTestEngine(t, &fakeTables{})
	key := tlsKey()
	for i := range maxTallies + 10 {
		key.B = netip.AddrPortFrom(key.B.Addr(), uint16(i+1))
		e.message(&dissect.Message{Kind: dissect.HTTPRequest, Key: key, From: dissect.A})
	}
	if c := e.Counters(); c.TalliesFull != 10 {
		t.Errorf("%d tallies refused", c.TalliesFull)
	}
}
