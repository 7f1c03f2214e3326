package flow

import (
	"strconv"

	"github.com/strata-edge/strata/edge/diag"
)

// send emits a signal, except a count of nothing.
func (e *Engine) send(name string, scope diag.Scope, path []diag.Scope, v float64, attrs []diag.Attr) {
	if v == 0 {
		return
	}
	e.emit(diag.Signal{Time: e.now, Source: sourceName, Name: name, Scope: scope, Path: path, Value: v, Attrs: attrs})
}

func (e *Engine) reportEndpoint(key *Endpoint, p *endpoint) {
	p.touched = false
	path := e.dependsOn(p)
	var bad bool
	var loss []diag.Attr
	for c, n := range p.counts {
		if n == 0 {
			continue
		}
		var attrs []diag.Attr
		switch count(c) {
		case cRetransmits, cLoss, cStuck, cLargeLost:
			if loss == nil {
				loss = lossAttrs(p)
			}
			attrs = loss
		case cSYNUnanswered, cRefused, cResetMidway, cSilent, cSlow, cUDPUnanswered, cPortUnreachable, cProhibited:
			attrs = []diag.Attr{{Key: "client.address", Value: addr(p.client).String()}}
		}
		e.send(countNames[c], p.scope, path, float64(n), attrs)
		bad = bad || suspicious&(1<<c) != 0
	}
	if p.zeroMS > 0 {
		e.send("tcp.zero_window_ms", p.scope, path, p.zeroMS, []diag.Attr{{Key: "peer", Value: addr(p.zeroPeer).String()}})
	}
	if p.rtt.n > 0 {
		bad = e.reportRTT(p, path) || bad
	}
	if p.response.n > 0 {
		e.send("server.first_response_ms", p.scope, path, p.response.sum/float64(p.response.n), nil)
	}
	if bad || key.Port == portDNS || e.now < p.faultyUntil {
		e.admit(key, p)
	}
	p.counts = [counts]uint32{}
	p.lossBefore, p.lossAfter, p.zeroMS = 0, 0, 0
	p.rtt, p.response = mean{}, mean{}
}

// reportRTT emits the round trip, and a delay where it is far above the endpoint's own.
func (e *Engine) reportRTT(p *endpoint, path []diag.Scope) (delayed bool) {
	ms := p.rtt.sum / float64(p.rtt.n)
	e.send("tcp.rtt_ms", p.scope, path, ms, nil)
	base := &p.rttBase
	if base.n >= baselineMin && ms > delayPerBase*base.mean && ms > base.mean+delayMS {
		e.send("path.delay_ms", p.scope, path, ms, []diag.Attr{
			{Key: "baseline.ms", Value: strconv.FormatFloat(base.mean, 'f', 1, 64)},
		})
		return true
	}
	base.add(ms)
	return false
}

func lossAttrs(p *endpoint) []diag.Attr {
	side := "after"
	switch {
	case p.lossBefore == 0 && p.lossAfter == 0:
		return nil
	case p.lossBefore > p.lossAfter:
		side = "before"
	}
	return []diag.Attr{{Key: "loss.side", Value: side}}
}

var icmpNames = [ICMPClasses]string{
	ICMPUnreachable: "icmp.unreachable", ICMPPort: "icmp.port_unreachable", ICMPFragNeeded: "icmp.frag_needed",
	ICMPTTLExceeded: "icmp.ttl_exceeded", ICMPProhibited: "icmp.prohibited",
}

func (e *Engine) reportHost(h *host) {
	h.touched = false
	for c, n := range h.icmp {
		var attrs []diag.Attr
		if c == ICMPFragNeeded && h.mtu > 0 && n > 0 {
			attrs = []diag.Attr{{Key: "mtu", Value: strconv.Itoa(int(h.mtu))}}
		}
		e.send(icmpNames[c], h.scope, h.path, float64(n), attrs)
	}
	if h.zero > 0 || h.zeroMS > 0 {
		peer := []diag.Attr{{Key: "peer", Value: serviceScope(&h.peer).ID}}
		e.send("tcp.zero_window", h.scope, h.path, float64(h.zero), peer)
		e.send("tcp.zero_window_ms", h.scope, h.path, h.zeroMS, peer)
	}
	h.icmp = [ICMPClasses]uint32{}
	h.zero, h.zeroMS, h.mtu = 0, 0, 0
}
