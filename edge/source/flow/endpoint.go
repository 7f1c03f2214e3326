package flow

import (
	"net/netip"
	"time"

	"github.com/strata-edge/strata/edge/diag"
)

// count indexes what a harvest adds up for one service.
type count uint8

const (
	cSegments count = iota
	cPayload
	cSYN
	cEstablished
	cSYNRetry
	cSYNUnanswered
	cRefused
	cResetMidway
	cRetransmits
	cRetransmitsLarge
	cStuck
	cOutOfOrder
	cDupAcks
	cGap
	cLargeLost
	cLoss
	cSlow
	cSilent
	cDatagrams
	cUDPUnanswered
	cPortUnreachable
	cProhibited
	cZeroWindow
	counts
)

var countNames = [counts]string{
	"tcp.segments", "tcp.payload", "tcp.syn", "tcp.established", "tcp.syn_retry", "tcp.syn_unanswered",
	"tcp.refused", "tcp.reset_midway", "tcp.retransmits", "tcp.retransmits_large", "tcp.stuck",
	"tcp.out_of_order", "tcp.dup_acks", "tcp.gap", "path.large_lost", "path.loss", "server.slow",
	"server.silent", "udp.datagrams", "udp.unanswered", "icmp.port_unreachable", "icmp.prohibited",
	"tcp.zero_window",
}

// suspicious are the counts after which the endpoint's payload is worth its cost: what
// the transport shows may have its reason in a message.
const suspicious = 1<<cSYNUnanswered | 1<<cResetMidway | 1<<cStuck | 1<<cLargeLost | 1<<cSlow |
	1<<cSilent | 1<<cUDPUnanswered | 1<<cZeroWindow

// troubles are the counts that may have their reason at the client's end of the path.
const troubles = 1<<cResetMidway | 1<<cRetransmits | 1<<cStuck | 1<<cLoss | 1<<cLargeLost | 1<<cSilent

// troubled is the one client that has most of a service's trouble, where there is one: then
// the service's symptoms depend on that client's end of the path, too.
type troubled struct {
	client [16]byte
	port   uint32 // through which the client's packets come in; 0: this device
	votes  uint32 // of its trouble
	total  uint32 // of everybody's
	until  diag.Time
	path   []diag.Scope // the service's path and the client's
	of     *diag.Scope  // first element of the service's path that path was made from
}

// troubleLife is how long a client is remembered: as long as a window sees its symptoms.
const troubleLife = 10 * time.Second

// note counts n troubles of a client's flow.
func (t *troubled) note(client [16]byte, port, n uint32, now diag.Time) {
	// Old trouble weighs half with each harvest: who had it then may be well now.
	if age := min(now.Sub(t.until.Add(-troubleLife))/(2*time.Second), 31); age > 0 {
		t.votes >>= age
		t.total >>= age
	}
	switch {
	case now >= t.until || t.client != client && n > t.votes:
		total := t.total
		if now >= t.until {
			total = 0
		}
		*t = troubled{client: client, port: port, votes: n, total: total + n}
	case t.client == client:
		t.votes, t.total = t.votes+n, t.total+n
	default:
		t.total += n
	}
	t.until = now.Add(troubleLife)
}

// alone says whether the client has at least three quarters of the trouble.
func (t *troubled) alone() bool { return 4*uint64(t.votes) >= 3*uint64(t.total) }

// troubles adds up the counts that may have their reason at the client's end.
func (p *endpoint) troubles() (n uint32) {
	for c, v := range p.counts {
		if troubles&(1<<c) != 0 {
			n += v
		}
	}
	return n
}

// dependsOn gives the path of p's signals: the way to the service and, where just one
// client has trouble, the way to that one.
func (e *Engine) dependsOn(p *endpoint) []diag.Scope {
	t := &p.trouble
	if !t.alone() || t.port == 0 || e.now >= t.until || len(p.path) == 0 {
		return p.path
	}
	if t.path == nil || t.of != &p.path[0] {
		client := hostScope(addr(t.client))
		t.path = append(append([]diag.Scope{}, p.path...), client, e.ifScope(t.port))
		t.of = &p.path[0]
	}
	return t.path
}

// baseline is an endpoint's own level of one reading: an average that forgets slowly
// upwards, so that a fault that lasts does not soon become the normal state.
type baseline struct {
	mean float64
	n    uint32
}

// Weights of a new reading: below the mean, and above it.
const (
	weightDown = 1.0 / 8
	weightUp   = 1.0 / 32
)

func (b *baseline) add(v float64) {
	b.n++
	w := weightDown
	if v > b.mean {
		w = weightUp
	}
	// The first readings count alike: an average needs some before it can be an anchor.
	if first := 1 / float64(b.n); first > w {
		w = first
	}
	b.mean += (v - b.mean) * w
}

// share is how often something was so. It rises with each of the first readings alike and
// falls slowly later: a fault must not become the endpoint's habit while it lasts.
type share struct {
	value float64
	n     uint32
}

// Weights of a later reading.
const (
	shareUp    = 1.0 / 16
	shareDown  = 1.0 / 256
	shareFirst = 16
)

func (s *share) add(yes bool) {
	s.n++
	v, w := 0.0, shareDown
	if yes {
		v, w = 1, shareUp
	}
	if s.n <= shareFirst {
		w = 1 / float64(s.n)
	}
	s.value += (v - s.value) * w
}

// mean is an average of readings within one harvest.
type mean struct {
	sum float64
	n   uint32
}

func (m *mean) add(v float64, n uint32) { m.sum += v; m.n += n }

// endpoint is one service: what this harvest added up, and what is normal for it.
type endpoint struct {
	scope     diag.Scope
	path      []diag.Scope
	pathIf    uint32
	pathUntil diag.Time

	counts     [counts]uint32
	touched    bool
	lossBefore uint32 // retransmits whose gap was seen here: lost before this device
	lossAfter  uint32 // retransmits of segments that had passed here
	client     [16]byte
	rtt        mean // milliseconds
	response   mean // milliseconds
	zeroMS     float64
	zeroPeer   [16]byte

	rttBase      baseline // milliseconds
	responseBase baseline // milliseconds, of quick responses
	trouble      troubled
	quick        share // of responses that came within slowMS
	answers      bool  // it has answered datagrams before
	admitUntil   diag.Time
	faultyUntil  diag.Time // a message said fault: keep looking
}

// host is what a harvest added up for one address that is no service.
type host struct {
	scope     diag.Scope
	path      []diag.Scope
	pathIf    uint32
	pathUntil diag.Time
	touched   bool
	icmp      [ICMPClasses]uint32
	mtu       uint16
	zero      uint32
	zeroMS    float64
	peer      Endpoint
}

// Resolver names ports and finds next hops. Both may be slow; the engine asks at most
// once in pathLife for each endpoint. Replay has no next hops.
type Resolver interface {
	// Interface gives the name of the port with that index.
	Interface(index uint32) string
	// NextHop gives the neighbour through which dst is reached, and the port; ok is
	// false where that is not known. A neighbour on the link is its own next hop.
	NextHop(dst netip.Addr) (hop netip.Addr, index uint32, ok bool)
}

// pathLife is how long an endpoint's path is taken for valid: routes change by hand or
// by a routing daemon, both slower than a diagnosis.
const pathLife = 30 * time.Second

func serviceScope(e *Endpoint) diag.Scope {
	proto := "tcp/"
	if e.Proto == protoUDP {
		proto = "udp/"
	}
	return diag.Scope{Kind: diag.ScopeService, ID: proto + netip.AddrPortFrom(addr(e.Addr), e.Port).String()}
}

func hostScope(a netip.Addr) diag.Scope { return diag.Scope{Kind: diag.ScopeHost, ID: a.String()} }

func (e *Engine) ifScope(index uint32) diag.Scope {
	if s, ok := e.ifNames[index]; ok && e.now < s.until {
		return s.scope
	}
	s := ifName{scope: diag.Scope{Kind: diag.ScopeIf, ID: e.resolver.Interface(index)}, until: e.now.Add(pathLife)}
	if len(e.ifNames) >= maxInterfaces {
		clear(e.ifNames)
	}
	e.ifNames[index] = s
	return s.scope
}

// hostPath is what reaching a depends on, behind port index: its next hop, if another,
// and the port.
func (e *Engine) hostPath(a netip.Addr, index uint32, routed bool) []diag.Scope {
	path := make([]diag.Scope, 0, 3)
	if routed {
		if hop, hopIf, ok := e.resolver.NextHop(a); ok && hop != a && hopIf == index {
			path = append(path, hostScope(hop))
		}
	}
	if index != 0 {
		path = append(path, e.ifScope(index))
	}
	return path
}

// servicePath refreshes p's path where it is old or the port towards it changed.
func (e *Engine) servicePath(p *endpoint, key *Endpoint, index uint32) {
	if p.path != nil && p.pathIf == index && e.now < p.pathUntil {
		return
	}
	a := addr(key.Addr)
	p.path = append([]diag.Scope{hostScope(a)}, e.hostPath(a, index, true)...)
	p.pathIf, p.pathUntil = index, e.now.Add(pathLife)
}

func (e *Engine) endpointFor(key Endpoint, index uint32) *endpoint {
	p, fresh := e.endpoints.add(key)
	if fresh {
		p.scope = serviceScope(&key)
	}
	e.servicePath(p, &key, index)
	p.touched = true
	return p
}

func (e *Engine) hostFor(a [16]byte, index uint32, routed bool) *host {
	h, fresh := e.hosts.add(a)
	if fresh {
		h.scope = hostScope(addr(a))
	}
	if h.path == nil || h.pathIf != index || e.now >= h.pathUntil {
		h.path = e.hostPath(addr(a), index, routed)
		h.pathIf, h.pathUntil = index, e.now.Add(pathLife)
	}
	h.touched = true
	return h
}
