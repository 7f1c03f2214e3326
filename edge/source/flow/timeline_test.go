package flow

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/strata-edge/strata/edge/diag"
	"github.com/strata-edge/strata/edge/dissect"
)

// fakeTables holds entries as the kernel's tables would.
type fakeTables struct {
	flows      []*Flow
	neighbours []*Neighbour
	interfaces []*Interface
	admitted   []Endpoint
	forgotten  []Key
}

func (t *fakeTables) Flows(fn func(*Flow)) error {
	for _, f := range t.flows {
		c := *f
		fn(&c)
	}
	return nil
}

func (t *fakeTables) Neighbours(fn func(*Neighbour)) error {
	for _, n := range t.neighbours {
		fn(n)
	}
	return nil
}

func (t *fakeTables) Interfaces(fn func(*Interface)) error {
	for _, n := range t.interfaces {
		fn(n)
	}
	return nil
}

func (t *fakeTables) Admit(e Endpoint, _ diag.Time, _ uint32) error {
	t.admitted = append(t.admitted, e)
	return nil
}

func (t *fakeTables) Forget(k *Key) error {
	t.forgotten = append(t.forgotten, *k)
	return nil
}

// fakeRoutes: port 2 is lan0, 3 is wan0; 203.0.113.0/24 is reached through 198.51.100.1
// behind wan0.
type fakeRoutes struct{}

func (fakeRoutes) Interface(index uint32) string {
	switch index {
	case 2:
		return "lan0"
	case 3:
		return "wan0"
	}
	return fmt.Sprint("if", index)
}

func (fakeRoutes) NextHop(dst netip.Addr) (netip.Addr, uint32, bool) {
	if netip.MustParsePrefix("203.0.113.0/24").Contains(dst) {
		return netip.MustParseAddr("198.51.100.1"), 3, true
	}
	return dst, 3, true
}

// quietNames are denominators: a timeline lists them only where it is about them.
var quietNames = []string{
	"tcp.segments", "tcp.payload", "tcp.syn", "tcp.established", "tcp.rtt_ms", "udp.datagrams", "frames", "broadcast",
	"server.first_response_ms", "tcp.retransmits", "tcp.retransmits_large", "arp.request", "arp.reply",
	"http.request", "http.response", "dns.query", "dns.response", "tls.handshake", "mqtt.connect",
}

// script runs one timeline. Its lines:
//
//	flow NAME tcp A>B in|out@IF [field=value…]   make or change an entry; ab.x and ba.x count up with +=
//	neigh NAME ADDR@IF [field=value…]
//	iface IF frames=N broadcast=N
//	harvest T                                    followed by all that it must emit:
//	> NAME SCOPE VALUE [path=SCOPE,SCOPE] [key=value]
//	admitted SCOPE                               a service that was asked for by now
type script struct {
	t      *testing.T
	engine *Engine
	tables *fakeTables
	flows  map[string]*Flow
	neighs map[string]*Neighbour
	got    []diag.Signal
	at     string
}

const origin = diag.Time(1_000_000_000_000)

func instant(t *testing.T, s string) diag.Time {
	t.Helper()
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return origin.Add(d)
}

func TestTimelines(t *testing.T) {
	files, err := filepath.Glob("testdata/timelines/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no timelines", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { runTimeline(t, file) })
	}
}

func runTimeline(t *testing.T, file string) {
	tables := &fakeTables{}
	e, err := NewEngine(Config{Tables: tables, Resolver: fakeRoutes{}})
	if err != nil {
		t.Fatal(err)
	}
	s := &script{t: t, engine: e, tables: tables, flows: map[string]*Flow{}, neighs: map[string]*Neighbour{}}
	fd, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	lines := bufio.NewScanner(fd)
	for n := 1; lines.Scan(); n++ {
		f := strings.Fields(lines.Text())
		if len(f) == 0 || f[0] == "#" {
			continue
		}
		s.at = fmt.Sprintf("line %d: %s", n, lines.Text())
		s.line(f)
	}
	s.rest()
}

func (s *script) line(f []string) {
	switch f[0] {
	case "flow":
		s.flow(f[1:])
	case "neigh":
		s.neigh(f[1:])
	case "iface":
		s.iface(f[1:])
	case "dns":
		s.dnsQuery(f[1:])
	case "harvest":
		s.rest()
		err := s.engine.Harvest(instant(s.t, f[1]), func(g diag.Signal) { s.got = append(s.got, g) })
		if err != nil {
			s.t.Fatalf("%s: %v", s.at, err)
		}
	case ">":
		s.want(f[1:])
	case "admitted":
		if !slices.ContainsFunc(s.tables.admitted, func(e Endpoint) bool { return serviceScope(&e).String() == f[1] }) {
			s.t.Errorf("%s: admitted %v", s.at, s.tables.admitted)
		}
	case "unadmitted":
		if len(s.tables.admitted) > 0 {
			s.t.Errorf("%s: admitted %v", s.at, s.tables.admitted)
		}
	default:
		s.t.Fatalf("%s: unknown command", s.at)
	}
}

// rest fails for symptoms of the latest harvest that the timeline did not expect.
func (s *script) rest() {
	for _, g := range s.got {
		if !slices.Contains(quietNames, g.Name) {
			s.t.Errorf("before %s: unexpected %s %s %v %v", s.at, g.Name, g.Scope, g.Value, g.Attrs)
		}
	}
	s.got = nil
}

func (s *script) want(f []string) {
	value, err := strconv.ParseFloat(f[2], 64)
	if err != nil {
		s.t.Fatal(s.at, err)
	}
	for i, g := range s.got {
		if g.Name != f[0] || g.Scope.String() != f[1] {
			continue
		}
		if g.Value != value {
			s.t.Errorf("%s: got value %v", s.at, g.Value)
		}
		for _, kv := range f[3:] {
			k, v, _ := strings.Cut(kv, "=")
			if k == "path" {
				var path []string
				for _, p := range g.Path {
					path = append(path, p.String())
				}
				if got := strings.Join(path, ","); got != v {
					s.t.Errorf("%s: got path %s", s.at, got)
				}
				continue
			}
			if !slices.Contains(g.Attrs, diag.Attr{Key: k, Value: v}) {
				s.t.Errorf("%s: got attributes %v", s.at, g.Attrs)
			}
		}
		s.got = slices.Delete(s.got, i, i+1)
		return
	}
	s.t.Errorf("%s: not emitted; got %v", s.at, s.got)
}

func (s *script) flow(f []string) {
	fl := s.flows[f[0]]
	args := f[1:]
	if fl == nil {
		fl = &Flow{}
		s.flows[f[0]] = fl
		s.tables.flows = append(s.tables.flows, fl)
		a, b, _ := strings.Cut(args[1], ">")
		from, to := netip.MustParseAddrPort(a), netip.MustParseAddrPort(b)
		dir, index, _ := strings.Cut(args[2], "@")
		n, err := strconv.Atoi(index)
		if err != nil {
			s.t.Fatal(s.at, err)
		}
		fl.Key = Key{A: from.Addr().As16(), B: to.Addr().As16(), APort: from.Port(), BPort: to.Port(), If: uint32(n), Proto: protoTCP}
		if args[0] == "udp" {
			fl.Key.Proto = protoUDP
		}
		fl.Ingress = dir == "in"
		args = args[3:]
	}
	for _, kv := range args {
		s.set(fl, kv)
	}
}

func (s *script) set(fl *Flow, kv string) {
	k, v, _ := strings.Cut(kv, "=")
	n := func() uint32 {
		i, err := strconv.ParseUint(v, 10, 32)
		if err != nil {
			s.t.Fatal(s.at, err)
		}
		return uint32(i)
	}
	when := func() diag.Time {
		if v == "none" {
			return 0
		}
		return instant(s.t, v)
	}
	if dir, field, ok := strings.Cut(k, "."); ok && (dir == "ab" || dir == "ba") {
		d := &fl.Dir[AB]
		if dir == "ba" {
			d = &fl.Dir[BA]
		}
		counts := map[string]*uint32{
			"packets": &d.Packets, "payload": &d.Payload, "retransmits": &d.Retransmits, "large": &d.LargeRetransmit,
			"ooo": &d.OutOfOrder, "dup": &d.DupAcks, "gaps": &d.Gaps, "zero": &d.ZeroWindows, "syn": &d.SYN,
			"fin": &d.FIN, "rst": &d.RST, "stuck": &d.Stuck, "stucklarge": &d.StuckLarge,
		}
		switch {
		case field == "zerosince":
			d.ZeroSince = when()
		case counts[field] != nil:
			*counts[field] = n()
		default:
			s.t.Fatalf("%s: unknown %s", s.at, kv)
		}
		return
	}
	switch k {
	case "first":
		fl.First = when()
		fl.Last = max(fl.Last, fl.First)
	case "last":
		fl.Last = when()
	case "established":
		fl.Established = true
	case "closed":
		fl.Closed = true
	case "refused":
		fl.Refused, fl.Closed = true, true
	case "midway":
		fl.ResetMidway, fl.Closed = true, true
	case "acked":
		fl.Acked = v != "no"
	case "rtt":
		fl.RTT = n()
	case "responses":
		fl.Responses = n()
	case "response":
		fl.ResponseLast = n()
		fl.ResponseSum += fl.ResponseLast
		fl.ResponseMax = max(fl.ResponseMax, fl.ResponseLast)
	case "waiting":
		fl.Outstanding = when()
	case "icmp.unreachable":
		fl.ICMP[ICMPUnreachable] = uint16(n())
	case "icmp.port":
		fl.ICMP[ICMPPort] = uint16(n())
	case "icmp.frag":
		fl.ICMP[ICMPFragNeeded] = uint16(n())
	case "icmp.ttl":
		fl.ICMP[ICMPTTLExceeded] = uint16(n())
	case "icmp.prohibited":
		fl.ICMP[ICMPProhibited] = uint16(n())
	case "mtu":
		fl.MTU = uint16(n())
	case "badsums":
		fl.BadChecksums = uint16(n())
	default:
		s.t.Fatalf("%s: unknown %s", s.at, kv)
	}
}

func (s *script) neigh(f []string) {
	nb := s.neighs[f[0]]
	args := f[1:]
	if nb == nil {
		a, index, _ := strings.Cut(args[0], "@")
		n, err := strconv.Atoi(index)
		if err != nil {
			s.t.Fatal(s.at, err)
		}
		nb = &Neighbour{If: uint32(n), Addr: netip.MustParseAddr(a).As16(), MAC: [6]byte{2, 0, 0, 0, 0, 1}, OtherMAC: [6]byte{2, 0, 0, 0, 0, 2}}
		s.neighs[f[0]] = nb
		s.tables.neighbours = append(s.tables.neighbours, nb)
		args = args[1:]
	}
	for _, kv := range args {
		k, v, _ := strings.Cut(kv, "=")
		if k == "since" {
			nb.UnansweredSince = instant(s.t, v)
			continue
		}
		n, err := strconv.Atoi(v)
		if err != nil {
			s.t.Fatal(s.at, err)
		}
		switch k {
		case "requests":
			nb.Requests = uint32(n)
		case "replies":
			nb.Replies = uint32(n)
			nb.Unanswered, nb.UnansweredSince = 0, 0
		case "unanswered":
			nb.Unanswered = uint32(n)
		case "conflicts":
			nb.Conflicts = uint32(n)
		default:
			s.t.Fatalf("%s: unknown %s", s.at, kv)
		}
	}
}

func (s *script) iface(f []string) {
	index, err := strconv.Atoi(f[0])
	if err != nil {
		s.t.Fatal(s.at, err)
	}
	i := slices.IndexFunc(s.tables.interfaces, func(n *Interface) bool { return n.If == uint32(index) })
	if i < 0 {
		i = len(s.tables.interfaces)
		s.tables.interfaces = append(s.tables.interfaces, &Interface{If: uint32(index)})
	}
	for _, kv := range f[1:] {
		k, v, _ := strings.Cut(kv, "=")
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			s.t.Fatal(s.at, err)
		}
		if k == "frames" {
			s.tables.interfaces[i].Frames = n
		} else {
			s.tables.interfaces[i].Broadcast = n
		}
	}
}

// dnsQuery feeds a query for example.test: dns A>B@IF T.
func (s *script) dnsQuery(f []string) {
	ends, index, _ := strings.Cut(f[0], "@")
	a, b, _ := strings.Cut(ends, ">")
	n, err := strconv.Atoi(index)
	if err != nil {
		s.t.Fatal(s.at, err)
	}
	query := []byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x04test\x00\x00\x01\x00\x01")
	p := Payload{}
	p.Key = dissect.Key{A: netip.MustParseAddrPort(a), B: netip.MustParseAddrPort(b), If: uint32(n), Proto: dissect.UDP}
	p.Time, p.Length, p.Segment.Payload = int64(instant(s.t, f[1])), len(query), query
	s.engine.Payload(&p)
}
