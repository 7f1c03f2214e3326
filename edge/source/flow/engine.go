package flow

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/strata-edge/strata/edge/diag"
)

// sourceName is the Signal.Source of everything emitted here.
const sourceName = "flow"

// Bounds of the engine's memory.
const (
	defaultFlows  = 16384 // entries of the kernel's flow table
	maxEndpoints  = 2048
	maxHosts      = 1024
	maxNeighbours = 2048
	maxInterfaces = 256
)

// What admission asks for: long enough for the next connection attempts to be seen from
// their first packet, few enough bytes for a slow processor to parse.
const (
	admitFor   = 60 * time.Second
	admitBytes = 256 << 10
	portDNS    = 53
)

// pauseAfter is the silence between two harvests after which the device is taken to have
// slept: silences are timed anew from there.
const pauseAfter = 10 * time.Second

// Config sets up an Engine.
type Config struct {
	Tables   Tables
	Resolver Resolver
	Clock    func() diag.Clock // for certificates' dates; consulted only when synced. nil: never synced
	Flows    int               // entries of the kernel's flow table; 0: 16,384
	Deep     bool              // everything is admitted anyway: ask for nothing
}

// Counters is what an Engine did and what it had to drop, for the agent's own metrics.
type Counters struct {
	Harvests         uint64
	Flows            uint64 // flow entries read, over all harvests
	Restarted        uint64 // entries that were evicted and came back
	NoSlot           uint64 // flows that found no slot
	EndpointsEvicted uint64
	HostsEvicted     uint64
	Admissions       uint64
	AdmissionErrors  uint64
	Payloads         uint64 // payload records fed to edge/dissect
	PayloadsTwice    uint64 // records of a flow's other port, not parsed again
	Messages         uint64
	TalliesFull      uint64 // messages of too many kinds and services in one harvest
	MessagesUnkeyed  uint64 // messages dropped: neither side names a service
	Undecodable      uint64
}

// Engine turns table contents and payload into signals. Not safe for concurrent use.
type Engine struct {
	tables   Tables
	resolver Resolver
	clock    func() diag.Clock
	deep     bool

	now, previous diag.Time
	resumed       diag.Time // end of the latest sleep
	gen           uint32
	seen          int // slots that the present harvest met
	slots         *slots
	fresh         []freshFlow // flows without a slot in the harvest before
	endpoints     *lru[Endpoint, endpoint]
	hosts         *lru[[16]byte, host]
	neighbours    *lru[neighbourKey, neighbour]
	ifs           map[uint32]*ifState
	ifNames       map[uint32]ifName
	messages      messages

	// The callbacks are made once, so that a harvest allocates nothing for them.
	onFlow      func(*Flow)
	onNeighbour func(*Neighbour)
	onInterface func(*Interface)
	emit        func(diag.Signal)
	counters    Counters
}

type ifName struct {
	scope diag.Scope
	until diag.Time
}

type freshFlow struct {
	slot int32
	flow Flow
}

// NewEngine makes an Engine.
func NewEngine(c Config) (*Engine, error) {
	if c.Tables == nil || c.Resolver == nil {
		return nil, errors.New("flow engine: tables and resolver are needed")
	}
	if c.Flows == 0 {
		c.Flows = defaultFlows
	}
	if c.Clock == nil {
		c.Clock = func() diag.Clock { return diag.Clock{} }
	}
	e := &Engine{
		tables: c.Tables, resolver: c.Resolver, clock: c.Clock, deep: c.Deep,
		slots:      newSlots(c.Flows),
		endpoints:  newLRU[Endpoint, endpoint](maxEndpoints),
		hosts:      newLRU[[16]byte, host](maxHosts),
		neighbours: newLRU[neighbourKey, neighbour](maxNeighbours),
		ifs:        make(map[uint32]*ifState),
		ifNames:    make(map[uint32]ifName),
	}
	e.onFlow, e.onNeighbour, e.onInterface = e.flow, e.neighbour, e.iface
	e.messages.init(e)
	return e, nil
}

// Counters gives what was done and dropped so far.
func (e *Engine) Counters() Counters {
	c := e.counters
	c.NoSlot = e.slots.missed
	c.EndpointsEvicted = e.endpoints.evicted
	c.HostsEvicted = e.hosts.evicted
	return c
}

// Harvest reads the tables once and emits what changed since the harvest before.
func (e *Engine) Harvest(now diag.Time, emit func(diag.Signal)) error {
	e.counters.Harvests++
	e.previous, e.now = e.now, now
	if e.previous == 0 || now.Sub(e.previous) > pauseAfter {
		e.resumed = now
	}
	if e.previous == 0 {
		// What the tables held before the first harvest has its own times.
		e.resumed = 0
	}
	e.emit = emit
	defer func() { e.emit = nil }()

	e.gen++
	e.fresh = e.fresh[:0]
	e.seen = 0
	errFlows := e.tables.Flows(e.onFlow)
	for i := range e.fresh {
		e.settle(&e.fresh[i])
	}
	if errFlows == nil && e.seen < e.slots.live {
		e.slots.sweep(e.gen)
	}
	errNeighbours := e.tables.Neighbours(e.onNeighbour)
	errInterfaces := e.tables.Interfaces(e.onInterface)
	e.messages.expire(now)
	e.reportMessages()
	e.report()
	if err := errors.Join(errFlows, errNeighbours, errInterfaces); err != nil {
		return fmt.Errorf("harvest: %w", err)
	}
	return nil
}

// settling is how long an entry that began on the way out waits for the entry of its way
// in: a walk of the table may have passed the one and meet the other.
const settling = 200 * time.Millisecond

// closedFor is how long a flow that ended stays in the table for stragglers.
const closedFor = 5 * time.Second

// flow takes one entry of the walk.
func (e *Engine) flow(f *Flow) {
	e.counters.Flows++
	i := e.slots.find(&f.Key)
	if i < 0 {
		if !f.Ingress && e.now.Sub(f.First) < settling && e.now > f.First {
			return
		}
		if i = e.slots.add(&f.Key); i < 0 {
			return
		}
		s := &e.slots.list[i]
		s.gen, s.first, s.ingress = e.gen, f.First, f.Ingress
		e.seen++
		e.fresh = append(e.fresh, freshFlow{slot: i, flow: *f})
		return
	}
	s := &e.slots.list[i]
	if s.gen == e.gen {
		return // moved between the kernel's tables during the walk
	}
	s.gen = e.gen
	e.seen++
	if s.first != f.First {
		e.counters.Restarted++
		*s = slot{key: s.key, next: s.next, gen: e.gen, first: f.First, ingress: f.Ingress}
	} else if s.last == f.Last && !s.watch && s.icmp == f.ICMP {
		if f.Closed && e.now.Sub(f.Last) > closedFor {
			e.forget(f)
		}
		return
	}
	e.count(i, f)
}

func (e *Engine) settle(n *freshFlow) { e.count(n.slot, &n.flow) }

func (e *Engine) forget(f *Flow) {
	// The entry may be gone already; the table counts what fails.
	_ = e.tables.Forget(&f.Key)
}

// count adds what f shows beyond its slot to the service it belongs to.
func (e *Engine) count(i int32, f *Flow) {
	s := &e.slots.list[i]
	if d := f.BadChecksums - s.badSums; d > 0 {
		e.ifFor(f.Key.If).badSums += uint32(d)
	}
	if e.slots.primary(i) == i {
		index := f.Key.If
		var twin *slot
		if j := e.slots.other(i); j >= 0 {
			twin = &e.slots.list[j]
			index = e.towards(f, twin)
		} else if f.Ingress {
			index = e.routed(f)
		}
		key := Endpoint{Addr: f.Key.B, Port: f.Key.BPort, Proto: f.Key.Proto}
		switch f.Key.Proto {
		case protoTCP, protoUDP:
			p := e.endpointFor(key, index)
			p.client = f.Key.A
			before := p.troubles()
			if f.Key.Proto == protoTCP {
				e.countTCP(p, s, twin, f)
			} else {
				e.countUDP(p, s, f)
			}
			e.countErrors(p, s, f, index)
			if n := p.troubles() - before; n > 0 && f.Dir[BA].Packets > 0 {
				var port uint32
				if f.Ingress {
					port = f.Key.If
				}
				p.trouble.note(f.Key.A, port, n, e.now)
			}
		default:
			// An entry without an identifier is the errors' own way back; what they are
			// about was charged too.
			if f.Key.BPort != 0 {
				e.countErrors(nil, s, f, index)
			}
		}
	}
	s.last, s.dir, s.icmp = f.Last, f.Dir, f.ICMP
	s.badSums = f.BadChecksums
	s.responses, s.responseSum, s.responseMax = f.Responses, f.ResponseSum, f.ResponseMax
	s.established, s.refused, s.resetMidway = f.Established, f.Refused, f.ResetMidway
}

// towards gives the port that faces the server: the one where the initiator's first
// packet went out or, where that was not seen, the one of the route.
func (e *Engine) towards(f *Flow, twin *slot) uint32 {
	if !f.Midstream {
		if f.Ingress {
			return twin.key.If
		}
		return f.Key.If
	}
	if index := e.routed(f); index == f.Key.If {
		return index
	}
	return twin.key.If
}

// routed gives the port of the route to the server, for a flow that was only seen coming
// in (it has not left yet, or never will) or whose beginning was missed. The route is
// looked up once in pathLife for each service; where there is none it is the flow's port.
func (e *Engine) routed(f *Flow) uint32 {
	p := e.endpoints.peek(Endpoint{Addr: f.Key.B, Port: f.Key.BPort, Proto: f.Key.Proto})
	if p == nil || p.path == nil || e.now >= p.pathUntil {
		if _, index, ok := e.resolver.NextHop(addr(f.Key.B)); ok {
			return index
		}
		return f.Key.If
	}
	return p.pathIf
}

// countErrors charges ICMP errors: a refusal is the service's, the rest the host's.
func (e *Engine) countErrors(p *endpoint, s *slot, f *Flow, index uint32) {
	if s.icmp == f.ICMP {
		return
	}
	var h *host
	for c := range f.ICMP {
		d := uint32(f.ICMP[c] - s.icmp[c])
		if d == 0 {
			continue
		}
		switch {
		case c == ICMPPort && p != nil:
			p.counts[cPortUnreachable] += d
		case c == ICMPProhibited && p != nil:
			p.counts[cProhibited] += d
		case c == ICMPOther:
		default:
			if h == nil {
				h = e.hostFor(f.Key.B, index, true)
			}
			h.icmp[c] += d
			if f.MTU > 0 {
				h.mtu = f.MTU
			}
		}
	}
}

// since gives how long something has lasted, not counting a sleep of the device.
func (e *Engine) since(t diag.Time) time.Duration { return e.now.Sub(max(t, e.resumed)) }

// report emits what the harvest added up and clears it.
func (e *Engine) report() {
	for n := e.endpoints.root.next; n != &e.endpoints.root; n = n.next {
		if n.value.touched {
			e.reportEndpoint(&n.key, &n.value)
		}
	}
	for n := e.hosts.root.next; n != &e.hosts.root; n = n.next {
		if n.value.touched {
			e.reportHost(&n.value)
		}
	}
}

// admit asks for the payload of p's flows, unless it comes up anyway.
func (e *Engine) admit(key *Endpoint, p *endpoint) {
	if e.deep || p.admitUntil.Sub(e.now) > admitFor/2 {
		return
	}
	until := e.now.Add(admitFor)
	e.counters.Admissions++
	if err := e.tables.Admit(*key, until, admitBytes); err != nil {
		e.counters.AdmissionErrors++
		return
	}
	p.admitUntil = until
}

func isUnicast(a [16]byte) bool {
	ip := addr(a)
	if ip.IsMulticast() || ip.IsUnspecified() {
		return false
	}
	return !ip.Is4() || ip != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}
