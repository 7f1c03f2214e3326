package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/strata-edge/strata/bpf"
	"github.com/strata-edge/strata/buffer"
	"github.com/strata-edge/strata/edge/budget"
	"github.com/strata-edge/strata/edge/cause"
	"github.com/strata-edge/strata/edge/diag"
	"github.com/strata-edge/strata/edge/source/flow"
	"github.com/strata-edge/strata/edge/upload/mqtt"
	"github.com/strata-edge/strata/edge/upload/otlp"
)

// Options are what the caller of the agent decides, besides the configuration.
type Options struct {
	Config  Config
	Version string
	Rows    func(cause.Row)     // called for every weighed candidate; nil where nobody records
	Show    func(*diag.Finding) // called for every report, once it is stored
	Log     *slog.Logger
}

// Agent is Strata on one device.
type Agent struct {
	opt     Options
	cfg     Config
	log     *slog.Logger
	device  string
	status  Status
	stamp   func() buffer.Stamp
	drops   drops
	budget  budget.Plan
	group   string // folder of the control group
	sampler *budget.Sampler

	queue   *buffer.Queue
	report  buffer.Report
	pipe    *Pipeline
	probe   *bpf.Probe
	ports   *ports
	flow    *flow.Source
	mqtt    *mqtt.Client
	otlp    *otlp.Client
	sources []source
	drains  []drain

	signals chan diag.Signal
	self    selfState
	stats   struct {
		sync.Mutex
		PipelineStats
	}
}

// signalDepth bounds the signals between sources and pipeline: a harvest of a few hundred
// busy services gives some thousand.
const signalDepth = 8192

// New opens everything. What is not there is noted in Status; an error means that the
// agent cannot do its work at all. Close it, whether or not Run was called.
func New(ctx context.Context, opt Options) (a *Agent, err error) {
	a = &Agent{opt: opt, cfg: opt.Config, log: opt.Log, signals: make(chan diag.Signal, signalDepth)}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close())
		}
	}()
	if err := a.cfg.Check(); err != nil {
		return a, fmt.Errorf("configuration: %w", err)
	}
	a.device = a.cfg.Device
	if a.device == "" {
		host, err := os.Hostname()
		if err != nil {
			return a, fmt.Errorf("name the device: %w", err)
		}
		a.device = strings.Map(topicSafe, host)
	}
	a.status = Status{Version: opt.Version, Device: a.device}
	if a.stamp, err = buffer.SystemStamp(); err != nil {
		return a, fmt.Errorf("read the clocks: %w", err)
	}
	if err := a.openBudget(); err != nil {
		return a, err
	}
	if err := a.openPipeline(); err != nil {
		return a, err
	}
	if err := a.openUplinks(ctx); err != nil {
		return a, err
	}
	if err := a.openBuffer(); err != nil {
		return a, err
	}
	if err := a.joinUplinks(); err != nil {
		return a, err
	}
	a.openSources()
	return a, nil
}

// defaultFlows is the number of flows that budget.DefaultMaps is meant for.
const defaultFlows = 16384

func (a *Agent) openBudget() error {
	allowed, err := budget.Read()
	if err != nil {
		a.log.Warn("no limits known from the control group", "error", err)
	}
	plan, err := budget.Divide(budget.Config{
		Memory: int64(a.cfg.Limits.Memory), CPUs: a.cfg.Limits.CPUs,
		// The kernel tables grow with the flows; the default share is for the default number.
		Maps: budget.DefaultMaps * int64(max(a.cfg.Limits.Flows, defaultFlows)) / defaultFlows,
	}, allowed)
	if err != nil {
		return fmt.Errorf("divide the memory: %w", err)
	}
	plan.Apply()
	a.budget, a.group = plan, allowed.Dir
	a.status.Budget = fmt.Sprintf("%d MiB by %s: Go %d, model %d, kernel tables %d; %d threads",
		plan.Memory>>20, plan.Bound, plan.Go>>20, plan.Model>>20, plan.Maps>>20, plan.CPUs)
	return nil
}

// topicSafe keeps what a topic level may hold.
func topicSafe(r rune) rune {
	if nameForm.MatchString(string(r)) {
		return r
	}
	return '-'
}

// Status says what the agent watches, what it cannot watch and why.
func (a *Agent) Status() Status { return a.status }

func (a *Agent) openPipeline() error {
	var err error
	a.pipe, err = OpenPipeline(a.cfg, PipelineOptions{Device: a.device, Clock: a.clock, Rows: a.opt.Rows})
	if err != nil {
		return err
	}
	a.status.Decides = a.pipe.Describe()
	return nil
}

// clock gives the present relation of event time to wall time.
func (a *Agent) clock() diag.Clock {
	s := a.stamp()
	return diag.Clock{Offset: time.Duration(s.Wall.UnixNano()) - s.BootTime, Synced: s.Synced, Boot: s.Boot}
}

func (a *Agent) now() diag.Time { return diag.Time(bpf.Now()) }

func (a *Agent) openBuffer() error {
	if err := os.MkdirAll(a.cfg.State, 0o700); err != nil {
		return fmt.Errorf("make the state folder: %w (name another with --state)", err)
	}
	opt := buffer.Options{
		MaxBytes: int64(a.cfg.Buffer.Size), MaxAge: a.cfg.Buffer.Age, Now: a.stamp,
		CheckCommand: buffer.SelfCheck(), Logger: a.log,
	}
	for _, d := range a.drains {
		opt.Sinks = append(opt.Sinks, d.name)
	}
	var err error
	if a.queue, a.report, err = buffer.Open(filepath.Join(a.cfg.State, buffer.FileName), opt); err != nil {
		return fmt.Errorf("open the buffer: %w", err)
	}
	a.status.Buffer = fmt.Sprintf("%s in %s, up to %s", buffer.FileName, a.cfg.State, a.cfg.Buffer.Size)
	if a.report.Damaged != "" {
		a.status.Buffer += fmt.Sprintf("; the old file was damaged (%s) and put aside as %s", a.report.Damaged, a.report.Quarantine)
	}
	return nil
}

// Run works until ctx ends, and has joined everything it started when it returns. It
// gives an error where a part that the agent cannot do without has failed.
func (a *Agent) Run(ctx context.Context) error {
	// Three stages that end one after the other, so that nothing that was found is lost:
	// sources, then the pipeline and its store, then buffer and uplinks.
	out, stopOut := context.WithCancel(context.WithoutCancel(ctx))
	defer stopOut()
	st := newStore(a.queue, &a.drops, a.log)
	seen := a.showAll(st.shown)

	var uplinks, work, inputs errgroup.Group
	part := func(name string, run func(context.Context) error) {
		uplinks.Go(func() error { return a.part(out, name, run) })
	}
	part("buffer", a.queue.Run)
	part("view", func(ctx context.Context) error {
		return a.queue.Serve(ctx, filepath.Join(a.cfg.State, buffer.SocketName))
	})
	a.startUplinks(part)
	work.Go(st.run)
	work.Go(func() error {
		defer close(st.in)
		return a.decide(st)
	})
	for _, s := range a.sources {
		inputs.Go(func() error { return a.feed(ctx, s) })
	}
	inputs.Go(func() error { return a.tend(ctx) })

	errIn := inputs.Wait()
	close(a.signals)
	errWork := work.Wait()
	select {
	case <-seen:
	case <-time.After(farewell): // a reader who has stopped reading does not hold the end up
	}
	a.drainFor(farewell)
	stopOut()
	return errors.Join(errIn, errWork, uplinks.Wait())
}

// part runs one of the parts that end last. Its failure is told when it happens; the agent
// goes on with the others.
func (a *Agent) part(ctx context.Context, name string, run func(context.Context) error) error {
	err := run(ctx)
	if err != nil && ctx.Err() == nil {
		a.log.Error("a part has ended", "part", name, "error", err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// showAll hands what is stored to Options.Show, and closes done after the last. It is a
// goroutine of its own, the only one that is not waited for without limit: what Show does
// may block for ever.
func (a *Agent) showAll(shown <-chan diag.Finding) (done <-chan struct{}) {
	end := make(chan struct{})
	go func() {
		defer close(end)
		for f := range shown {
			if a.opt.Show != nil {
				a.opt.Show(&f)
			}
		}
	}()
	return end
}

// farewell is how long the uplinks may still send what is in the buffer at the end.
const farewell = time.Second

func (a *Agent) drainFor(d time.Duration) {
	if len(a.drains) == 0 {
		return
	}
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if s := a.queue.Stats(); s.Urgent+s.Normal+uint64(s.Waiting) == 0 {
			return
		}
	}
}

// decide is the pipeline's goroutine: it ends when the signals end.
func (a *Agent) decide(st *store) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case s, more := <-a.signals:
			if !more {
				a.pipe.Advance(a.now(), st.take)
				return nil
			}
			a.pipe.Feed(s)
			for n := len(a.signals); n > 0; n-- {
				if s, more = <-a.signals; more {
					a.pipe.Feed(s)
				}
			}
		case <-tick.C:
		}
		a.pipe.Advance(a.now(), st.take)
		a.stats.Lock()
		a.stats.PipelineStats = a.pipe.Stats()
		a.stats.Unlock()
	}
}

// emit hands a signal to the pipeline and never blocks.
func (a *Agent) emit(s diag.Signal) {
	select {
	case a.signals <- s:
	default:
		a.drops.add(dropSignal)
	}
}

// Close frees what New opened. Call it after Run has returned.
func (a *Agent) Close() error {
	var errs []error
	if a.probe != nil {
		errs = append(errs, a.probe.Close())
	}
	if a.pipe != nil {
		errs = append(errs, a.pipe.Close())
	}
	if a.otlp != nil {
		errs = append(errs, a.otlp.Close())
	}
	if a.queue != nil {
		errs = append(errs, a.queue.Close())
	}
	if a.sampler != nil {
		errs = append(errs, a.sampler.Close())
	}
	return errors.Join(errs...)
}
