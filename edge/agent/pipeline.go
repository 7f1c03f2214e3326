package agent

import (
	"errors"
	"fmt"
	"time"

	"github.com/strata-edge/strata/edge/cause"
	"github.com/strata-edge/strata/edge/diag"
	"github.com/strata-edge/strata/edge/matrix"
	"github.com/strata-edge/strata/edge/window"
	"github.com/strata-edge/strata/model"
)

// Pipeline is the one way from signals to findings, for the live agent and for a replay
// alike: matrix, window and cause in event time. It starts no goroutine and belongs to one;
// Reload alone may come from another.
type Pipeline struct {
	matrix *matrix.Matrix
	window *window.Window
	cause  *cause.Engine
	model  learnt
	absent error // why there is no model
	clock  func() diag.Clock
	next   diag.Time // of the next look
	last   diag.Time // of the latest look
	urgent bool
}

// PipelineOptions are what differs between the live agent and a replay.
type PipelineOptions struct {
	Device string
	Clock  func() diag.Clock // the present relation of event time to wall time
	Rows   func(cause.Row)   // called for every weighed candidate; nil where nobody records
}

// OpenPipeline loads the rules and, where it is there, the model. A missing model is no
// error: ModelAbsent says why.
func OpenPipeline(cfg Config, opt PipelineOptions) (*Pipeline, error) {
	schema, err := model.Default()
	if err != nil {
		return nil, err
	}
	p := &Pipeline{window: window.New(window.Config{}), clock: opt.Clock}
	if p.matrix, err = matrix.New(cfg.Rules); err != nil {
		return nil, err
	}
	if p.model, err = openModel(cfg.Model, schema); err != nil {
		p.absent = err
	}
	decide := cause.Config{Schema: schema, Model: p.model.ref, Device: opt.Device, Rows: opt.Rows}
	if p.model.scorer != nil {
		decide.Scorer = p.model.scorer
	}
	if p.cause, err = cause.New(decide); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// ModelAbsent says why the rules decide alone; nil with a model.
func (p *Pipeline) ModelAbsent() error { return p.absent }

// Reload takes changed rule files; see matrix.Matrix.Reload.
func (p *Pipeline) Reload() (changed bool, err error) { return p.matrix.Reload() }

// Close frees the model.
func (p *Pipeline) Close() error {
	if p.model.scorer == nil {
		return nil
	}
	return p.model.scorer.Close()
}

// Feed takes one signal.
func (p *Pipeline) Feed(s diag.Signal) {
	p.matrix.Map(s, func(e diag.Event) {
		p.urgent = p.window.Add(max(s.Time, p.last), e) || p.urgent
	})
}

// minLook keeps a burst of decisive events from costing a look each.
const minLook = 200 * time.Millisecond

// Advance looks at the windows that ended by now, each slide and at once after a decisive
// event, and emits what opens, changes or resolves.
func (p *Pipeline) Advance(now diag.Time, emit func(diag.Finding)) {
	slide := diag.Time(p.window.Slide())
	if p.next == 0 {
		p.next = (now/slide + 1) * slide
	}
	if gap := now - p.next; gap > 100*slide {
		// Event time jumped (suspend, a hole in a capture): nothing happened in between,
		// two looks are enough to let everything resolve.
		p.look(p.next, emit)
		p.next += (gap / slide) * slide
	}
	for now >= p.next {
		p.look(p.next, emit)
		p.next += slide
	}
	if p.urgent && now.Sub(p.last) >= minLook {
		p.look(now, emit)
	}
}

func (p *Pipeline) look(at diag.Time, emit func(diag.Finding)) {
	p.urgent = false
	p.last = at
	p.cause.Decide(at, p.window.Episodes(at), p.clock(), emit)
}

// PipelineStats counts what the pipeline lost.
type PipelineStats struct {
	Matrix        matrix.Stats
	Window        window.Stats
	ScoreFailures uint64
}

// Stats gives the counts since the start.
func (p *Pipeline) Stats() PipelineStats {
	return PipelineStats{Matrix: p.matrix.Stats(), Window: p.window.Stats(), ScoreFailures: p.cause.ScoreFailures()}
}

// Describe says in a few words who decides.
func (p *Pipeline) Describe() string {
	who := "rules, chains and " + p.model.about
	if p.absent != nil {
		who = "rules and chains alone; no model: " + p.absent.Error()
	}
	return fmt.Sprintf("%s (%d rules, window %s)", who, p.matrix.Rules().Len(), p.window.Slide()*5)
}
