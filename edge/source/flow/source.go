package flow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/strata-edge/strata/bpf"
	"github.com/strata-edge/strata/edge/diag"
	"github.com/strata-edge/strata/edge/dissect"
)

// Interval is the time between two harvests of a live device: a fifth of the windows
// that edge/window cuts.
const Interval = 2 * time.Second

// pollEvery bounds how long a stop or a record below the ring's wake-up mark waits.
const pollEvery = 250 * time.Millisecond

// LiveProbe is the part of bpf.Probe that a Source needs.
type LiveProbe interface {
	Probe
	Counters() (bpf.Counters, error)
}

// Payloads is the part of bpf.PayloadReader that a Source needs. ReadInto blocks until a
// record or the deadline, and gives os.ErrDeadlineExceeded at the latter.
type Payloads interface {
	ReadInto(*bpf.Payload) error
	SetDeadline(time.Time)
}

// SourceConfig sets up a Source.
type SourceConfig struct {
	Probe    LiveProbe
	Payloads Payloads
	Resolver Resolver          // nil: Routes
	Clock    func() diag.Clock // see Config.Clock
	Now      func() diag.Time  // the clock of the probe's times
	Flows    int               // entries of the kernel's flow table; 0: 16,384
	Interval time.Duration     // between two harvests; 0: Interval
	Deep     bool              // the probe admits every flow
	Logger   *slog.Logger
}

// Status is what a Source did until its latest harvest.
type Status struct {
	Engine  Counters
	Kernel  bpf.Counters
	Dissect dissect.Stats
}

// Source reads a live device. Run it once.
type Source struct {
	engine   *Engine
	probe    LiveProbe
	payloads Payloads
	now      func() diag.Time
	interval time.Duration
	log      *slog.Logger
	record   bpf.Payload
	segment  Payload
	ringFull uint64
	failing  bool
	status   atomic.Pointer[Status]
}

// New makes a Source.
func New(c SourceConfig) (*Source, error) {
	if c.Probe == nil || c.Payloads == nil || c.Now == nil || c.Logger == nil {
		return nil, errors.New("flow source: probe, payloads, now and logger are needed")
	}
	if c.Resolver == nil {
		c.Resolver = Routes{}
	}
	e, err := NewEngine(Config{Tables: NewTables(c.Probe), Resolver: c.Resolver, Clock: c.Clock, Flows: c.Flows, Deep: c.Deep})
	if err != nil {
		return nil, err
	}
	if c.Interval <= 0 {
		c.Interval = Interval
	}
	s := &Source{engine: e, interval: c.Interval, probe: c.Probe, payloads: c.Payloads, now: c.Now, log: c.Logger}
	s.status.Store(&Status{})
	return s, nil
}

// Status gives the figures of the latest harvest. It may be called from any goroutine.
func (s *Source) Status() Status { return *s.status.Load() }

// Run reads payload as it comes and harvests each interval, until ctx ends or the
// payload reader fails. A harvest that fails is logged once and tried again.
func (s *Source) Run(ctx context.Context, emit func(diag.Signal)) error {
	next := time.Now()
	for ctx.Err() == nil {
		now := time.Now()
		if !now.Before(next) {
			s.harvest(emit)
			// A late harvest is not made up for: the next one comes a whole interval later.
			next = now.Add(s.interval)
		}
		until := now.Add(pollEvery)
		if next.Before(until) {
			until = next
		}
		s.payloads.SetDeadline(until)
		if err := s.drain(ctx, until); err != nil {
			return fmt.Errorf("read payload: %w", err)
		}
	}
	return nil
}

// drain feeds records until the deadline.
func (s *Source) drain(ctx context.Context, until time.Time) error {
	for ctx.Err() == nil {
		err := s.payloads.ReadInto(&s.record)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return err
		}
		Segment(&s.record, &s.segment)
		s.engine.Payload(&s.segment)
		if !time.Now().Before(until) {
			return nil
		}
	}
	return nil
}

func (s *Source) harvest(emit func(diag.Signal)) {
	c, errCounters := s.probe.Counters()
	now := s.now()
	if c.PayloadRingFull > s.ringFull {
		s.ringFull = c.PayloadRingFull
		s.engine.PayloadLost(now)
	}
	err := errors.Join(errCounters, s.engine.Harvest(now, emit))
	if err != nil && !s.failing {
		s.log.Error("flow tables cannot be read", "error", err)
	}
	s.failing = err != nil
	st := &Status{Engine: s.engine.Counters(), Kernel: c, Dissect: s.engine.Dissected()}
	s.status.Store(st)
}
