package cause

import (
	"cmp"
	"math"
	"slices"

	"github.com/strata-edge/strata/edge/diag"
	"github.com/strata-edge/strata/edge/graph"
)

// candidate is one cause on one node, with what each judge gives it.
type candidate struct {
	node  int
	cause *diag.Cause
	ev    evidence
	rule  float64
	model float64 // NaN: no model took part
	p     float64
	// depends is what the candidate depends on: its node's path and, where the evidence
	// is that of several services, what all of those depend on.
	depends []int
}

// Thresholds of a probability: below keep a candidate is not even an alternative, from
// open on it may open a finding.
const (
	keepAt = 0.2
	openAt = 0.5
)

// maxCandidates bounds the scopes of one episode that are weighed.
const maxCandidates = 64

// suspects gives the nodes worth weighing: those with a symptom and those that a sick
// node depends on; at most maxCandidates, the sickest first kept.
func suspects(g *graph.Graph) []int {
	weight := make([]int, g.Len())
	for i := range weight {
		n := g.Node(i)
		for k := range n.Observations {
			if n.Observations[k].Symptom() {
				weight[i] += 2
			}
		}
		if weight[i] == 0 {
			weight[i] = min(1, sickBelow(g, i))
		}
	}
	var out []int
	for i, w := range weight {
		if w > 0 {
			out = append(out, i)
		}
	}
	if len(out) > maxCandidates {
		slices.SortStableFunc(out, func(a, b int) int { return cmp.Compare(weight[b], weight[a]) })
		out = out[:maxCandidates]
		slices.Sort(out)
	}
	return out
}

// Bounds on what each judge may say: a rule is sure, a model has seen one laboratory. So
// the model lifts weak evidence and damps it, but cannot talk away what is well proven.
const (
	ruleLeast, ruleMost   = 0.05, 0.97
	modelLeast, modelMost = 0.25, 0.97
)

// blend joins rule and model: the mean of their log-odds within these bounds.
func blend(rule, model float64) float64 {
	if math.IsNaN(model) {
		return rule
	}
	l := (logit(clip(rule, ruleLeast, ruleMost)) + logit(clip(model, modelLeast, modelMost))) / 2
	return 1 / (1 + math.Exp(-l))
}

func logit(p float64) float64 { return math.Log(p / (1 - p)) }

func clip(v, lo, hi float64) float64 { return max(lo, min(hi, v)) }

// roots keeps the candidates that no other accounts for, by the probability that by
// gives; the first is the most probable.
func roots(cands []candidate, by func(*candidate) float64) []int {
	var strong []int
	for k := range cands {
		if by(&cands[k]) >= openAt {
			strong = append(strong, k)
		}
	}
	var out []int
	for _, b := range strong {
		covered := false
		for _, a := range strong {
			if a != b && covers(&cands[a], &cands[b]) && !(covers(&cands[b], &cands[a]) && before(&cands[b], &cands[a], by)) {
				covered = true
				break
			}
		}
		if !covered {
			out = append(out, b)
		}
	}
	slices.SortStableFunc(out, func(a, b int) int { return cmp.Compare(by(&cands[b]), by(&cands[a])) })
	return out
}

// dependencies gives what the candidate's evidence depends on.
func dependencies(g *graph.Graph, c *candidate) []int {
	out := slices.Clone(g.Above(c.node))
	if o := g.Node(c.node).Observation(c.ev.code); o != nil && o.Value > 0 {
		return out
	}
	var common []int
	first := true
	for _, j := range g.Below(c.node) {
		if g.Node(j).Value(c.ev.code) <= 0 {
			continue
		}
		if first {
			common, first = slices.Clone(g.Above(j)), false
			continue
		}
		common = slices.DeleteFunc(common, func(k int) bool { return !g.DependsOn(j, k) })
	}
	for _, k := range common {
		if k != c.node && !slices.Contains(out, k) {
			out = append(out, k)
		}
	}
	return out
}

// covers says whether a accounts for b: b sits on the same node or one that depends on
// a's, and b's evidence is something that a's cause brings about.
func covers(a, b *candidate) bool {
	if a.node != b.node && !slices.Contains(b.depends, a.node) {
		return false
	}
	if a.cause == b.cause {
		return a.node != b.node
	}
	return a.cause.Accounts(b.ev.code)
}

// before orders two candidates that account for each other: the lower layer is the root,
// then the more probable.
func before(a, b *candidate, by func(*candidate) float64) bool {
	if a.cause.Layer != b.cause.Layer {
		return a.cause.Layer < b.cause.Layer
	}
	if pa, pb := by(a), by(b); pa != pb {
		return pa > pb
	}
	return a.cause.Class < b.cause.Class
}

// chain gives the steps from the root to its farthest symptom: the root's own evidence,
// then what it accounts for on its node and below, lowest layer and earliest first.
func chain(g *graph.Graph, c *candidate, clock diag.Clock, most int) []diag.Link {
	type step struct {
		node int
		o    *diag.Observation
	}
	var steps []step
	take := func(i int, all bool) {
		n := g.Node(i)
		for k := range n.Observations {
			o := &n.Observations[k]
			if o.Symptom() && (o.Code == c.ev.code && all || c.cause.Accounts(o.Code)) {
				steps = append(steps, step{i, o})
			}
		}
	}
	take(c.node, true)
	own := len(steps)
	for _, j := range g.Below(c.node) {
		take(j, own == 0)
	}
	slices.SortStableFunc(steps, func(a, b step) int {
		if rootA, rootB := a.o.Code == c.ev.code, b.o.Code == c.ev.code; rootA != rootB {
			if rootA {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.o.Code.Layer(), b.o.Code.Layer()), cmp.Compare(a.o.First, b.o.First), cmp.Compare(a.o.Code, b.o.Code))
	})
	var out []diag.Link
	seen := map[diag.Code]bool{}
	for _, s := range steps {
		if seen[s.o.Code] || len(out) == most {
			continue
		}
		seen[s.o.Code] = true
		out = append(out, diag.Link{Layer: s.o.Code.Layer(), Code: s.o.Code, Scope: g.Node(s.node).Scope, Time: clock.Wall(s.o.First), Value: round(s.o.Value)})
	}
	return out
}

// round keeps three significant digits: a finding is read by people and paid by the byte.
func round(v float64) float64 {
	if math.Abs(v) < 1e-300 || math.IsInf(v, 0) || math.IsNaN(v) {
		return 0
	}
	f := math.Pow(10, 3-math.Ceil(math.Log10(math.Abs(v))))
	return math.Round(v*f) / f
}
