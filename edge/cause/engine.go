package cause

import (
	"fmt"
	"math"
	"time"

	"github.com/strata-edge/strata/edge/diag"
	"github.com/strata-edge/strata/edge/graph"
	"github.com/strata-edge/strata/model"
)

// Scorer is what the engine needs of a model: rows of the schema's width in, one
// probability a class and row out.
type Scorer interface {
	Score(x []float32, rows int, out []float32) error
}

// Row is one weighed candidate scope, as training data wants it. X is borrowed.
type Row struct {
	Time     time.Time
	Episode  uint64
	Scope    diag.Scope
	Symptoms int
	Schema   string // hash of the schema that X follows
	X        []float32
	Rules    map[string]float64
	Model    map[string]float64
}

// Config sets up an Engine. Only Schema is a must.
type Config struct {
	Schema *model.Schema
	Scorer Scorer         // nil: rules and chains decide alone
	Model  *diag.ModelRef // names the scorer in findings
	Device string         // the device's name in findings
	Rows   func(Row)      // called for every weighed candidate; nil where nobody records
	Quiet  time.Duration  // how long a cause must be gone before its finding resolves; 10 s
}

// Engine decides. See the package comment for its use.
type Engine struct {
	cfg     Config
	extract *extractor
	classes []*diag.Cause
	x       []float32
	out     []float32
	life    lifeTable
	failed  uint64
}

// New gives an engine. It fails where the schema names a code or cause that this build
// does not know.
func New(cfg Config) (*Engine, error) {
	if cfg.Quiet <= 0 {
		cfg.Quiet = 10 * time.Second
	}
	x, err := newExtractor(cfg.Schema)
	if err != nil {
		return nil, fmt.Errorf("set up the decision: %w", err)
	}
	e := &Engine{cfg: cfg, extract: x, life: lifeTable{}}
	for _, id := range cfg.Schema.Classes {
		c, ok := diag.CauseByID(id)
		if !ok {
			return nil, fmt.Errorf("set up the decision: schema class %q is no cause", id)
		}
		e.classes = append(e.classes, c)
	}
	e.x = make([]float32, maxCandidates*len(cfg.Schema.Features))
	e.out = make([]float32, maxCandidates*len(e.classes))
	return e, nil
}

// ScoreFailures counts the episodes that the model could not score; the rules decided
// those alone.
func (e *Engine) ScoreFailures() uint64 { return e.failed }

// Decide weighs the episodes of one window that ends at now, and emits the findings that
// open, change or resolve by it. Call it for windows without episodes too: that is how
// findings resolve.
func (e *Engine) Decide(now diag.Time, episodes []diag.Episode, clock diag.Clock, emit func(diag.Finding)) {
	for i := range episodes {
		e.episode(now, &episodes[i], clock)
	}
	e.life.settle(now, clock, e.cfg, emit)
}

func (e *Engine) episode(now diag.Time, ep *diag.Episode, clock diag.Clock) {
	g := graph.New(ep)
	nodes := suspects(g)
	scored := e.score(g, nodes)
	var cands []candidate
	for r, i := range nodes {
		rules := e.weigh(g, i, r, scored, &cands)
		e.record(g, i, r, ep, clock, scored, rules)
	}
	byBoth := roots(cands, func(c *candidate) float64 { return c.p })
	byRule := roots(cands, func(c *candidate) float64 { return c.rule })
	byModel := roots(cands, func(c *candidate) float64 {
		if math.IsNaN(c.model) {
			return 0
		}
		return c.model
	})
	for _, k := range byBoth {
		c := &cands[k]
		v := verdict{
			candidate: *c,
			scope:     g.Node(c.node).Scope,
			path:      scopes(g, c.depends),
			chain:     chain(g, c, clock, 6),
			attrs:     attrs(g, c),
			rules:     nearest(g, cands, byRule, c),
			model:     nearest(g, cands, byModel, c),
			others:    alternatives(g, cands, c),
		}
		v.first, v.latest = span(g, c)
		if !scored {
			v.model = ""
		}
		e.life.see(now, v)
	}
	if len(byBoth) == 0 {
		e.life.unsure(now, g, cands, clock)
	}
}

// score fills e.x and e.out for the scopes; false where no model took part.
func (e *Engine) score(g *graph.Graph, nodes []int) bool {
	width := len(e.cfg.Schema.Features)
	if len(nodes) == 0 || (e.cfg.Scorer == nil && e.cfg.Rows == nil) {
		return false
	}
	for r, i := range nodes {
		e.extract.row(g, i, e.x[r*width:(r+1)*width])
	}
	if e.cfg.Scorer == nil {
		return false
	}
	if err := e.cfg.Scorer.Score(e.x[:len(nodes)*width], len(nodes), e.out[:len(nodes)*len(e.classes)]); err != nil {
		e.failed++
		return false
	}
	return true
}

// weigh appends the candidates of one scope and gives the rules' scores.
func (e *Engine) weigh(g *graph.Graph, i, r int, scored bool, cands *[]candidate) map[string]float64 {
	var rules map[string]float64
	for _, c := range diag.Causes() {
		if !c.On(g.Node(i).Scope.Kind) {
			continue
		}
		ev := judge(g, i, c)
		m := math.NaN()
		if k := e.class(c); scored && k >= 0 {
			m = float64(e.out[r*len(e.classes)+k])
		}
		if ev.score > 0 && e.cfg.Rows != nil {
			if rules == nil {
				rules = map[string]float64{}
			}
			rules[c.ID] = round(ev.score)
		}
		cand := candidate{node: i, cause: c, ev: ev, rule: ev.score, model: m, p: blend(ev.score, m)}
		// A cause without a single piece of its own evidence cannot be explained to anyone.
		if !ev.met {
			cand.p = 0
			if !(m >= openAt) {
				continue
			}
		}
		cand.depends = dependencies(g, &cand)
		*cands = append(*cands, cand)
	}
	return rules
}

func (e *Engine) class(c *diag.Cause) int {
	for k, o := range e.classes {
		if o == c {
			return k
		}
	}
	return -1
}

func (e *Engine) record(g *graph.Graph, i, r int, ep *diag.Episode, clock diag.Clock, scored bool, rules map[string]float64) {
	if e.cfg.Rows == nil {
		return
	}
	width := len(e.cfg.Schema.Features)
	row := Row{Time: clock.Wall(ep.End), Episode: ep.ID, Scope: g.Node(i).Scope, Schema: e.cfg.Schema.Hash, X: e.x[r*width : (r+1)*width], Rules: rules}
	for k := range g.Node(i).Observations {
		if g.Node(i).Observations[k].Symptom() {
			row.Symptoms++
		}
	}
	if scored {
		row.Model = map[string]float64{}
		for k, c := range e.classes {
			if p := float64(e.out[r*len(e.classes)+k]); p >= 0.01 {
				row.Model[c.ID] = round(p)
			}
		}
	}
	e.cfg.Rows(row)
}

// scopes gives the names of nodes.
func scopes(g *graph.Graph, nodes []int) []diag.Scope {
	out := make([]diag.Scope, len(nodes))
	for k, i := range nodes {
		out[k] = g.Node(i).Scope
	}
	return out
}

// span gives when the candidate's own evidence was first and last seen, on its node or,
// where that has none, below.
func span(g *graph.Graph, c *candidate) (first, latest diag.Time) {
	any := false
	take := func(i int) {
		if o := g.Node(i).Observation(c.ev.code); o != nil && o.Value > 0 {
			if !any || o.First < first {
				first = o.First
			}
			latest, any = max(latest, o.Last), true
		}
	}
	take(c.node)
	if !any {
		for _, j := range g.Below(c.node) {
			take(j)
		}
	}
	return first, latest
}

// attrs gives the details that came with the candidate's evidence.
func attrs(g *graph.Graph, c *candidate) []diag.Attr {
	if o := g.Node(c.node).Observation(c.ev.code); o != nil && len(o.Attrs) > 0 {
		return o.Attrs
	}
	for _, j := range g.Below(c.node) {
		if o := g.Node(j).Observation(c.ev.code); o != nil && len(o.Attrs) > 0 {
			return o.Attrs
		}
	}
	return nil
}

// nearest gives the cause that another judge alone would have named for the same trouble:
// its most probable root on the candidate's node or on one that depends on it or that it
// depends on.
func nearest(g *graph.Graph, cands []candidate, ranked []int, c *candidate) string {
	for _, k := range ranked {
		o := &cands[k]
		if o.node == c.node || g.DependsOn(o.node, c.node) || g.DependsOn(c.node, o.node) {
			return o.cause.ID
		}
	}
	return "none"
}

// alternatives gives the next causes on the same node.
func alternatives(g *graph.Graph, cands []candidate, c *candidate) []diag.Alternative {
	var out []diag.Alternative
	for k := range cands {
		o := &cands[k]
		if o.node == c.node && o.cause != c.cause && o.p >= keepAt && len(out) < 3 {
			out = append(out, diag.Alternative{Cause: o.cause.ID, Confidence: math.Round(o.p*100) / 100})
		}
	}
	return out
}
