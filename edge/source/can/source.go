package can

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-edge/strata/canbus"
	"github.com/strata-edge/strata/edge/diag"
)

// Limits and defaults.
const (
	defaultInterval = time.Second
	minInterval     = 100 * time.Millisecond
	defaultFrames   = 64
	maxBuses        = 32
	batch           = 512 // frames taken from one bus before the others get their turn
	sourceName      = "can"
)

// Socket is what the source needs of canbus.Socket.
type Socket interface {
	Fd() int
	Read(*canbus.Frame) error
	Frames(on bool) error
	Dropped() (uint32, error)
	Close() error
}

// Config says what to read. Zero fields take the defaults.
type Config struct {
	Interfaces []string         // empty: every CAN interface, also ones that appear later
	Interval   time.Duration    // between two readings of the links; default 1 s
	Frames     int              // good frames taken from each bus in an interval; default 64
	Now        func() diag.Time // event time; default CLOCK_BOOTTIME
	Log        *slog.Logger     // default: discards

	Links func() ([]canbus.Link, error)     // default canbus.Links
	Open  func(name string) (Socket, error) // default canbus.OpenSocket
}

// Source watches CAN buses.
type Source struct {
	cfg   Config
	buses map[string]*bus
	wake  []unix.PollFd
	order []*bus // beside wake, from its second entry on

	failed bool // the last listing of links failed
}

// New gives a Source; Run does the work.
func New(cfg Config) *Source {
	if cfg.Interval <= 0 {
		cfg.Interval = defaultInterval
	}
	cfg.Interval = max(cfg.Interval, minInterval)
	if cfg.Frames <= 0 {
		cfg.Frames = defaultFrames
	}
	if cfg.Now == nil {
		cfg.Now = bootTime
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Links == nil {
		cfg.Links = canbus.Links
	}
	if cfg.Open == nil {
		cfg.Open = func(name string) (Socket, error) { return canbus.OpenSocket(name) }
	}
	return &Source{cfg: cfg, buses: map[string]*bus{}}
}

func bootTime() diag.Time {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return diag.Time(ts.Nano())
}

// Run watches until ctx ends and returns nil then. A kernel without CAN is no error: the
// source finds no interface and looks again at each interval.
func (s *Source) Run(ctx context.Context, emit func(diag.Signal)) error {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return fmt.Errorf("can source: make wake-up pipe: %w", err)
	}
	defer unix.Close(pipe[0])
	defer s.close()
	told := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		unix.Close(pipe[1])
		close(told)
	})
	defer func() {
		if stop() {
			unix.Close(pipe[1])
		} else {
			<-told
		}
	}()
	next := time.Now()
	for ctx.Err() == nil {
		if wait := time.Until(next); wait <= 0 {
			s.tick(emit)
			next = time.Now().Add(s.cfg.Interval)
			s.arm(pipe[0])
		}
		if err := s.wait(time.Until(next)); err != nil {
			return fmt.Errorf("can source: %w", err)
		}
		s.drain(emit)
	}
	return nil
}

// arm lists what to wait on.
func (s *Source) arm(stop int) {
	s.wake = append(s.wake[:0], unix.PollFd{Fd: int32(stop), Events: unix.POLLIN})
	s.order = s.order[:0]
	for _, b := range s.buses {
		if b.socket != nil {
			s.wake = append(s.wake, unix.PollFd{Fd: int32(b.socket.Fd()), Events: unix.POLLIN})
			s.order = append(s.order, b)
		}
	}
}

func (s *Source) wait(d time.Duration) error {
	millis := int((max(d, 0) + time.Millisecond - 1) / time.Millisecond)
	_, err := unix.Poll(s.wake, millis)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("wait for frames: %w", err)
	}
	return nil
}

// drain takes the frames that wait.
func (s *Source) drain(emit func(diag.Signal)) {
	for i, b := range s.order {
		revents := s.wake[i+1].Revents
		s.wake[i+1].Revents = 0
		if b.socket == nil || revents == 0 {
			continue
		}
		for range batch {
			err := b.socket.Read(&b.frame)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				// The interface went down or away: opened again once it is up.
				s.cfg.Log.Debug("can source", "if", b.name, "err", err)
				b.drop()
				s.wake[i+1].Fd = -1 // poll passes over it
				break
			}
			b.take(s.cfg.Now(), s.cfg.Frames, emit)
		}
	}
}

// tick reads the links and reports what was added up.
func (s *Source) tick(emit func(diag.Signal)) {
	now := s.cfg.Now()
	links, err := s.cfg.Links()
	if err != nil {
		if !s.failed {
			s.cfg.Log.Warn("can source", "err", err)
		}
		s.failed = true
		for _, b := range s.buses {
			b.blind(now, emit, "the link cannot be read")
		}
		return
	}
	s.failed = false
	seen := map[string]bool{}
	for i := range links {
		l := &links[i]
		if len(s.cfg.Interfaces) > 0 && !slices.Contains(s.cfg.Interfaces, l.Name) {
			continue
		}
		b := s.buses[l.Name]
		if b == nil {
			if len(s.buses) >= maxBuses {
				continue
			}
			b = newBus(l.Name)
			s.buses[l.Name] = b
		}
		seen[l.Name] = true
		if b.index != l.Index {
			b.drop()
			b.known, b.index = false, l.Index
		}
		s.open(b, l)
		b.report(now, l, emit)
	}
	for _, name := range s.cfg.Interfaces {
		if s.buses[name] == nil && len(s.buses) < maxBuses {
			s.buses[name] = newBus(name)
		}
	}
	for name, b := range s.buses {
		if seen[name] {
			continue
		}
		b.drop()
		b.known = false
		if slices.Contains(s.cfg.Interfaces, name) {
			b.to(now, emit, canbus.StateStopped)
			b.blind(now, emit, "no such interface")
			continue
		}
		b.end(now, emit)
		delete(s.buses, name)
	}
}

// open opens the socket of a bus that is up, and lets good frames in again.
func (s *Source) open(b *bus, l *canbus.Link) {
	if !l.Up {
		b.drop()
		return
	}
	if b.socket == nil {
		socket, err := s.cfg.Open(b.name)
		if err != nil {
			if b.openErr == "" {
				s.cfg.Log.Warn("can source", "err", err)
			}
			b.openErr = err.Error()
			return
		}
		b.socket, b.openErr, b.drops = socket, "", 0
	}
	b.listen()
}

func (s *Source) close() {
	for _, b := range s.buses {
		b.drop()
	}
}
