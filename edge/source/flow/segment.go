package flow

import (
	"net"
	"time"

	"github.com/strata-edge/strata/edge/diag"
)

// Thresholds of the local segment.
const (
	arpAge        = 2 * time.Second
	arpTries      = 2
	stormRate     = 1000.0 // broadcasts a second
	stormPerBase  = 20.0
	stormBaseMin  = 10.0 // broadcasts a second: below, the baseline of a quiet segment would make anything a storm
	leastInterval = 500 * time.Millisecond
)

type neighbourKey struct {
	addr [16]byte
	ifx  uint32
	vlan uint16
}

// neighbour remembers what was reported of one address.
type neighbour struct {
	requests, replies, conflicts uint32
	told                         uint32 // of the present run of unanswered requests
	scope                        diag.Scope
	path                         []diag.Scope
	pathUntil                    diag.Time
}

func (e *Engine) neighbour(n *Neighbour) {
	k := neighbourKey{addr: n.Addr, ifx: n.If, vlan: n.VLAN}
	p, fresh := e.neighbours.add(k)
	if fresh {
		p.scope = hostScope(addr(n.Addr))
	}
	unanswered := n.Unanswered
	if n.Unanswered < arpTries && (n.UnansweredSince == 0 || e.since(n.UnansweredSince) < arpAge) {
		unanswered = 0
	}
	if n.Unanswered < p.told || n.Replies != p.replies {
		p.told = 0
	}
	if n.Requests == p.requests && n.Replies == p.replies && n.Conflicts == p.conflicts && unanswered <= p.told {
		return
	}
	if p.path == nil || e.now >= p.pathUntil {
		p.path, p.pathUntil = []diag.Scope{e.ifScope(n.If)}, e.now.Add(pathLife)
	}
	e.send("arp.request", p.scope, p.path, float64(n.Requests-p.requests), nil)
	e.send("arp.reply", p.scope, p.path, float64(n.Replies-p.replies), nil)
	if unanswered > p.told {
		e.send("arp.unanswered", p.scope, p.path, float64(unanswered-p.told), nil)
		p.told = unanswered
	}
	if n.Conflicts != p.conflicts {
		e.send("arp.duplicate", p.scope, p.path, float64(n.Conflicts-p.conflicts), []diag.Attr{
			{Key: "mac.a", Value: net.HardwareAddr(n.MAC[:]).String()},
			{Key: "mac.b", Value: net.HardwareAddr(n.OtherMAC[:]).String()},
		})
	}
	p.requests, p.replies, p.conflicts = n.Requests, n.Replies, n.Conflicts
}

// ifState remembers one port between harvests.
type ifState struct {
	known             bool
	at                diag.Time
	frames, broadcast uint64
	rated             uint64 // Broadcast at the time at
	badSums           uint32
	rate              baseline // broadcasts a second
}

func (e *Engine) ifFor(index uint32) *ifState {
	s := e.ifs[index]
	if s == nil {
		if len(e.ifs) >= maxInterfaces {
			clear(e.ifs)
		}
		s = new(ifState)
		e.ifs[index] = s
	}
	return s
}

func (e *Engine) iface(n *Interface) {
	s := e.ifFor(n.If)
	if !s.known {
		s.known = true
		if s.at = e.previous; e.previous == 0 {
			// Since when the port has been counting is not known.
			s.at, s.rated = e.now, n.Broadcast
		}
	}
	frames, broadcast := n.Frames-s.frames, n.Broadcast-s.broadcast
	s.frames, s.broadcast = n.Frames, n.Broadcast
	scope := e.ifScope(n.If)
	if s.badSums > 0 {
		e.send("ip.bad_checksum", scope, nil, float64(s.badSums), nil)
		s.badSums = 0
	}
	if frames > 0 {
		e.send("frames", scope, nil, float64(frames), nil)
		e.send("broadcast", scope, nil, float64(broadcast), nil)
	}
	e.storm(s, n, scope)
}

// storm compares the rate of broadcasts with the port's own.
func (e *Engine) storm(s *ifState, n *Interface, scope diag.Scope) {
	passed := e.now.Sub(s.at)
	if passed < leastInterval {
		return
	}
	broadcast := n.Broadcast - s.rated
	s.at, s.rated = e.now, n.Broadcast
	if e.resumed == e.now {
		return
	}
	rate := float64(broadcast) / passed.Seconds()
	base := max(s.rate.mean, stormBaseMin)
	if rate > stormRate && rate > stormPerBase*base {
		e.send("storm", scope, nil, float64(broadcast), nil)
		return
	}
	s.rate.add(rate)
}
