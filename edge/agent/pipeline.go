package agent

import (
	"fmt"
	"time"

	"github.com/strata-edge/strata/edge/cause"
	"github.com/strata-edge/strata/edge/diag"
	"github.com/strata-edge/strata/edge/matrix"
	"github.com/strata-edge/strata/edge/window"
)

// Pipeline is the one way from signals to findings, for the live agent and for a replay
// alike: matrix, window and cause in event time. It starts no goroutine and belongs to one.
type Pipeline struct {
	matrix *matrix.Matrix
	window *window.Window
	cause  *cause.Engine
	clock  func() diag.Clock
	next   diag.Time // of the next look
	last   diag.Time // of the latest look
	urgent bool
}

// NewPipeline joins the parts. clock gives the current relation of event time to wall time.
func NewPipeline(m *matrix.Matrix, w *window.Window, c *cause.Engine, clock func() diag.Clock) *Pipeline {
	return &Pipeline{matrix: m, window: w, cause: c, clock: clock}
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

// describe says in a few words how the pipeline is set up.
func (p *Pipeline) describe() string {
	return fmt.Sprintf("%d rules, window %s", p.matrix.Rules().Len(), p.window.Slide()*5)
}
