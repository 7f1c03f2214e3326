package cause

import (
	"math"

	"github.com/strata-edge/strata/edge/diag"
	"github.com/strata-edge/strata/edge/graph"
)

// evidence is what the rules say of one candidate.
type evidence struct {
	score float64   // 0: the rule does not hold
	code  diag.Code // the evidence that weighs most
	value float64
	met   bool // some `any` evidence reached its minimum, whatever the other conditions said
}

// judge weighs cause c on node i by the rules of causes.yaml alone.
func judge(g *graph.Graph, i int, c *diag.Cause) evidence {
	var e evidence
	miss := 1.0
	best := 0.0
	for _, a := range c.Any {
		v := seen(g, i, c, a)
		if v < a.Min || v <= 0 {
			continue
		}
		s := strength(a.Code, v/a.Min)
		miss *= 1 - s
		if s > best {
			best, e.code, e.value = s, a.Code, v
		}
	}
	if best == 0 {
		return e
	}
	for _, o := range c.Over {
		if total := seen(g, i, c, diag.CodeMin{Code: o.Code}); total > 0 && e.value < o.Min*total {
			return e
		}
	}
	if c.Spread > 0 {
		if first, latest := span(g, &candidate{node: i, ev: e}); latest.Sub(first).Seconds() < c.Spread {
			return e
		}
	}
	e.met = true
	for _, a := range c.All {
		if seen(g, i, c, a) < a.Min {
			return e
		}
	}
	for _, n := range c.None {
		if g.Node(i).Value(n) > 0 {
			return e
		}
	}
	if c.Peers > 0 && sickBelow(g, i) < c.Peers {
		return e
	}
	e.score = min(1-miss, 0.97)
	return e
}

// strength turns how far a code is above its minimum into a score: 0.6 at the minimum,
// towards 1 well above it. A state either holds or not.
func strength(code diag.Code, ratio float64) float64 {
	if info, _ := code.Info(); info.Kind == diag.KindState {
		return 0.9
	}
	return 1 - 0.4*math.Exp(-(ratio-1)/2)
}

// seen gives what node i shows of a code. A host also shows what at least two of the
// services on it show, and a next hop what services of at least two hosts behind it show:
// then the common ground is the better root.
func seen(g *graph.Graph, i int, c *diag.Cause, a diag.CodeMin) float64 {
	own := g.Node(i).Value(a.Code)
	if own >= max(a.Min, 1e-9) || g.Node(i).Scope.Kind != diag.ScopeHost || !c.On(diag.ScopeService) {
		return own
	}
	sum, services := 0.0, 0
	near := false
	hosts := map[int]bool{}
	for _, j := range g.Below(i) {
		if g.Node(j).Scope.Kind != diag.ScopeService {
			continue
		}
		v := g.Node(j).Value(a.Code)
		if v < max(a.Min, 1e-9) {
			continue
		}
		sum += v
		services++
		hosts[g.Above(j)[0]] = true
		near = near || g.Above(j)[0] == i
	}
	if services >= 2 && (near || len(hosts) >= 2) {
		return sum
	}
	return own
}

func sickBelow(g *graph.Graph, i int) (n int) {
	for _, j := range g.Below(i) {
		if sick(g.Node(j)) {
			n++
		}
	}
	return n
}

func sick(n *diag.Node) bool {
	for k := range n.Observations {
		if n.Observations[k].Symptom() {
			return true
		}
	}
	return false
}
