package cause

import (
	"fmt"

	"github.com/strata-edge/strata/edge/diag"
	"github.com/strata-edge/strata/edge/graph"
	"github.com/strata-edge/strata/model"
)

// extractor computes the schema's row for a candidate scope. Names are resolved once.
type extractor struct {
	features []resolved
	siblings []int // reused
}

type resolved struct {
	model.Feature
	code, over diag.Code
	kind       diag.ScopeKind
	layer      diag.Layer
}

// newExtractor resolves the schema's names; it fails on one that this build's vocabulary
// does not have.
func newExtractor(s *model.Schema) (*extractor, error) {
	x := &extractor{features: make([]resolved, len(s.Features))}
	for i, f := range s.Features {
		r := resolved{Feature: f}
		var err error
		switch f.Op {
		case model.Log, model.Flag, model.ShareScopes:
			r.code, err = diag.ParseCode(f.Code)
		case model.Ratio:
			if r.code, err = diag.ParseCode(f.Code); err == nil {
				r.over, err = diag.ParseCode(f.Over)
			}
		case model.Kind:
			r.kind, err = diag.ParseScopeKind(f.Code)
		case model.LayerFlag:
			r.layer = diag.Layer(f.Code[0] - '0')
		}
		if err != nil {
			return nil, fmt.Errorf("feature %s: %w", f.Name, err)
		}
		x.features[i] = r
	}
	return x, nil
}

// row writes the features of node i into out, which has one place for each.
func (x *extractor) row(g *graph.Graph, i int, out []float32) {
	x.siblings = g.Siblings(i, x.siblings[:0])
	for k := range x.features {
		out[k] = x.value(g, i, &x.features[k])
	}
}

func (x *extractor) value(g *graph.Graph, i int, f *resolved) float32 {
	b := view{g: g, self: i, block: f.Block}
	switch f.Block {
	case model.Below:
		b.nodes = g.Below(i)
	case model.Above:
		b.nodes = g.Above(i)
	case model.Sibling:
		b.nodes = x.siblings
	}
	switch f.Op {
	case model.Log:
		return model.LogValue(b.sum(f.code))
	case model.Ratio:
		return model.RatioValue(b.sum(f.code), b.sum(f.over))
	case model.Flag:
		return model.FlagValue(b.sum(f.code) > 0)
	case model.ShareScopes:
		return model.ShareValue(b.count(func(n *diag.Node) bool { return n.Value(f.code) > 0 }), b.len())
	case model.Count:
		return model.LogValue(float64(b.len()))
	case model.SymptomScopes:
		return model.LogValue(float64(b.count(sick)))
	case model.LowestLayer:
		return model.LayerValue(b.lowest())
	case model.OnsetLead:
		return model.LeadValue(b.lead())
	case model.Kind:
		return model.FlagValue(g.Node(i).Scope.Kind == f.kind)
	case model.LayerFlag:
		return model.FlagValue(b.count(func(n *diag.Node) bool { return sickOn(n, f.layer) }) > 0)
	}
	return 0
}

// view is one block of scopes as seen from a candidate.
type view struct {
	g     *graph.Graph
	self  int
	block model.Block
	nodes []int
}

func (b *view) len() int {
	switch b.block {
	case model.Self:
		return 1
	case model.Device:
		return b.g.Len()
	}
	return len(b.nodes)
}

func (b *view) each(f func(n *diag.Node)) {
	switch b.block {
	case model.Self:
		f(b.g.Node(b.self))
	case model.Device:
		for i := range b.g.Len() {
			f(b.g.Node(i))
		}
	default:
		for _, i := range b.nodes {
			f(b.g.Node(i))
		}
	}
}

func (b *view) count(is func(*diag.Node) bool) (n int) {
	b.each(func(d *diag.Node) {
		if is(d) {
			n++
		}
	})
	return n
}

// sum adds up counts and states, and takes the largest of levels.
func (b *view) sum(code diag.Code) (v float64) {
	info, _ := code.Info()
	b.each(func(n *diag.Node) {
		if info.Kind == diag.KindLevel {
			v = max(v, n.Value(code))
		} else {
			v += n.Value(code)
		}
	})
	return v
}

func (b *view) lowest() (layer int, ok bool) {
	b.each(func(n *diag.Node) {
		for k := range n.Observations {
			if o := &n.Observations[k]; o.Symptom() && (!ok || int(o.Code.Layer()) < layer) {
				layer, ok = int(o.Code.Layer()), true
			}
		}
	})
	return layer, ok
}

func (b *view) lead() (seconds float64, ok bool) {
	mine, ok := b.g.Node(b.self).Onset()
	if !ok {
		return 0, false
	}
	var theirs diag.Time
	any := false
	b.each(func(n *diag.Node) {
		if t, has := n.Onset(); has && n != b.g.Node(b.self) && (!any || t < theirs) {
			theirs, any = t, true
		}
	})
	return theirs.Sub(mine).Seconds(), any
}

func sickOn(n *diag.Node, layer diag.Layer) bool {
	for k := range n.Observations {
		if o := &n.Observations[k]; o.Symptom() && o.Code.Layer() == layer {
			return true
		}
	}
	return false
}
