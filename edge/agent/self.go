package agent

import (
	"context"
	"time"

	"github.com/strata-edge/strata/edge/diag"
)

// selfState is what the agent has to say about itself.
type selfState struct {
	unobservable []string // sources that could not be opened
	dropped      uint64   // drops told so far
	full         bool
}

func (a *Agent) selfSignal(name string, value float64, attrs ...diag.Attr) diag.Signal {
	return diag.Signal{Time: a.now(), Source: "strata", Name: name, Scope: diag.Device, Value: value, Attrs: attrs}
}

// How often the agent looks after itself.
const (
	tendEvery    = 5 * time.Second
	damageStands = 10 * time.Minute
)

// tend tells how the agent itself stands, picks up changed rules and new interfaces, and
// follows the clock.
func (a *Agent) tend(ctx context.Context) error {
	a.tellStart()
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	for {
		a.followClock()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		a.reloadRules()
		a.tellLosses()
		if a.ports != nil {
			a.ports.refresh(
				func(name, how string) {
					a.log.Info("watching a new interface", "interface", name, "how", how)
					a.emit(a.selfSignal("source_unobservable", 0))
				},
				func(name string, err error) {
					a.log.Debug("cannot watch an interface", "interface", name, "error", err)
				},
			)
		}
	}
}

func (a *Agent) tellStart() {
	if err := a.pipe.ModelAbsent(); err != nil && a.cfg.Model.Enabled {
		a.emit(a.selfSignal("model_absent", 1, diag.Attr{Key: "reason", Value: err.Error()}))
	}
	if a.report.Damaged != "" {
		s := a.selfSignal("buffer_damaged", 1, diag.Attr{Key: "reason", Value: a.report.Damaged}, diag.Attr{Key: "file", Value: a.report.Quarantine})
		s.Hold = damageStands
		a.emit(s)
	}
	for _, what := range a.self.unobservable {
		a.emit(a.selfSignal("source_unobservable", 1, diag.Attr{Key: "source", Value: what}))
	}
}

// followClock tells the buffer the wall clock's offset while that is known to be right.
func (a *Agent) followClock() {
	if c := a.clock(); c.Synced {
		a.queue.SetClock(c.Boot, c.Offset)
	}
}

func (a *Agent) reloadRules() {
	changed, err := a.pipe.Reload()
	switch {
	case err != nil:
		a.log.Error("rules rejected, the last good ones stay", "error", err)
		a.emit(a.selfSignal("rules_rejected", 1, diag.Attr{Key: "error", Value: err.Error()}))
	case changed:
		a.log.Info("rules reloaded")
		a.emit(a.selfSignal("rules_rejected", 0))
	}
}

func (a *Agent) tellLosses() {
	if n := a.drops.total(); n > a.self.dropped {
		a.emit(a.selfSignal("dropped", float64(n-a.self.dropped)))
		a.self.dropped = n
	}
	if full := a.queue.Stats().Full; full != a.self.full {
		a.self.full = full
		v := 0.0
		if full {
			v = 1
		}
		a.emit(a.selfSignal("buffer_full", v))
	}
}
