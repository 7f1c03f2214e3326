package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-edge/strata/edge/diag"
	"github.com/strata-edge/strata/smart"
)

// Limits and defaults.
const (
	defaultInterval = 60 * time.Second
	minInterval     = time.Second
	counterInterval = 5 * time.Second // sysfs counters cost two small reads
	maxDisks        = 64
	sourceName      = "disk"
)

// Config says how to read. Zero fields take the defaults.
type Config struct {
	Interval time.Duration    // between two readings of a drive; default 60 s, at least 1 s
	Hung     time.Duration    // a reading that takes longer makes the drive unobservable; default 30 s
	Grace    time.Duration    // how long Run waits for readings at its end; default 1 s
	Sys      fs.FS            // sysfs; default /sys
	Now      func() diag.Time // event time; default CLOCK_BOOTTIME
	Log      *slog.Logger     // default: discards

	// Read reads one drive; default smart.NewReader().Read.
	Read func(smart.Device) (smart.Health, error)
}

// Source reads all drives of the machine.
type Source struct {
	cfg     Config
	disks   map[string]*drive // by device name
	results chan result
	tooMany bool
}

type result struct {
	name   string
	health smart.Health
	err    error
}

// New gives a Source; Run does the work.
func New(cfg Config) *Source {
	if cfg.Interval <= 0 {
		cfg.Interval = defaultInterval
	}
	cfg.Interval = max(cfg.Interval, minInterval)
	if cfg.Hung <= 0 {
		cfg.Hung = 30 * time.Second
	}
	if cfg.Grace <= 0 {
		cfg.Grace = time.Second
	}
	if cfg.Sys == nil {
		cfg.Sys = os.DirFS("/sys")
	}
	if cfg.Now == nil {
		cfg.Now = bootTime
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Read == nil {
		cfg.Read = smart.NewReader().Read
	}
	// One place for each drive: a reading that ends after Run has gone does not block.
	return &Source{cfg: cfg, disks: map[string]*drive{}, results: make(chan result, maxDisks)}
}

func bootTime() diag.Time {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return diag.Time(ts.Nano())
}

// Run reads all drives at once and then at every interval, until ctx ends. It returns
// nil then, and an error only where the drives cannot even be listed at the start.
func (s *Source) Run(ctx context.Context, emit func(diag.Signal)) error {
	if err := s.discover(emit); err != nil {
		return fmt.Errorf("disk source: %w", err)
	}
	s.counters(emit)
	s.start(emit)
	read := time.NewTicker(s.cfg.Interval)
	defer read.Stop()
	count := time.NewTicker(min(counterInterval, s.cfg.Interval))
	defer count.Stop()
	for {
		select {
		case <-ctx.Done():
			s.join()
			return nil
		case r := <-s.results:
			s.take(r, emit)
		case <-count.C:
			s.counters(emit)
		case <-read.C:
			if err := s.discover(emit); err != nil {
				s.cfg.Log.Warn("disk source", "err", err)
			}
			s.start(emit)
		}
	}
}

// discover brings the list of drives up to date. A drive that is gone ends its states.
func (s *Source) discover(emit func(diag.Signal)) error {
	devices, err := smart.Discover(s.cfg.Sys)
	if err != nil {
		return err
	}
	if len(devices) > maxDisks {
		if !s.tooMany {
			s.cfg.Log.Warn("too many drives, the rest is not watched", "drives", len(devices), "watched", maxDisks)
		}
		s.tooMany, devices = true, devices[:maxDisks]
	}
	seen := map[string]bool{}
	for _, dev := range devices {
		seen[dev.Name] = true
		d := s.disks[dev.Name]
		switch {
		case d == nil:
			d = newDrive()
			s.disks[dev.Name] = d
		case dev.Serial != d.dev.Serial && dev.Serial != "" && d.dev.Serial != "":
			// Another drive in the same bay: nothing of the old one holds.
			d.end(s.cfg.Now(), emit)
			busy, since := d.busy, d.since
			*d = *newDrive()
			d.busy, d.since = busy, since
		}
		d.dev = dev
		if d.scope.IsZero() {
			d.scope = s.scope(dev.Name, dev.Serial)
		}
	}
	for name, d := range s.disks {
		if !seen[name] {
			d.end(s.cfg.Now(), emit)
			if !d.busy { // else its reading comes back first, so that none is started beside it
				delete(s.disks, name)
			}
		}
	}
	return nil
}

// scope names a drive by its serial number, so that it is the same in another bay and
// after a reboot; by its device name where it has none or two claim one number.
func (s *Source) scope(name, serial string) diag.Scope {
	id := strings.Join(strings.Fields(serial), "_")
	if id == "" {
		id = name
	}
	want := diag.Scope{Kind: diag.ScopeDisk, ID: id}
	for other, d := range s.disks {
		if other != name && d.scope == want {
			want.ID += "@" + name
			break
		}
	}
	return want
}

// start begins a reading of each drive that is due.
func (s *Source) start(emit func(diag.Signal)) {
	now := s.cfg.Now()
	for name, d := range s.disks {
		if d.busy {
			if now.Sub(d.since) >= s.cfg.Hung {
				d.blind(now, emit, "a command has not come back")
			}
			continue
		}
		ios, counted := d.dev.IOs(s.cfg.Sys)
		if d.read && d.dev.Rotating && counted && ios == d.ios {
			s.levels(d, now, emit) // nobody used it: what was read stands
			continue
		}
		d.ios, d.busy, d.since = ios, true, now
		dev := d.dev
		go func() {
			h, err := s.cfg.Read(dev)
			s.results <- result{name, h, err}
		}()
	}
}

// join waits for the readings that are under way, but not for one that hangs.
func (s *Source) join() {
	busy := 0
	for _, d := range s.disks {
		if d.busy {
			busy++
		}
	}
	late := time.NewTimer(s.cfg.Grace)
	defer late.Stop()
	for ; busy > 0; busy-- {
		select {
		case <-s.results:
		case <-late.C:
			s.cfg.Log.Warn("drives did not answer before the end", "drives", busy)
			return
		}
	}
}

// take reports one reading.
func (s *Source) take(r result, emit func(diag.Signal)) {
	d := s.disks[r.name]
	if d == nil {
		return
	}
	now := s.cfg.Now()
	d.busy = false
	if d.counted {
		d.ioErrors += r.health.OwnErrors // they are ours, not the drive's
	}
	if scope := s.scope(r.name, r.health.Serial); r.health.Serial != "" && scope != d.scope {
		d.end(now, emit)
		d.scope = scope
	}
	if r.err != nil {
		if !smart.IsAsleep(r.err) && !errors.Is(r.err, fs.ErrNotExist) {
			s.cfg.Log.Debug("drive cannot be read", "err", r.err)
		}
		d.blind(now, emit, reason(r.err))
		return
	}
	d.state(now, emit, "unobservable", false)
	d.health, d.read = r.health, true
	d.report(now, emit)
	s.levels(d, now, emit)
}

func reason(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return "no permission"
	case smart.IsAsleep(err):
		return "asleep"
	}
	return err.Error()
}

// counters reports what the kernel counted since the last time.
func (s *Source) counters(emit func(diag.Signal)) {
	now := s.cfg.Now()
	for _, d := range s.disks {
		if d.busy && now.Sub(d.since) < s.cfg.Hung {
			continue // a reading raises the count itself and says by how much when it is done
		}
		n, ok := d.dev.IOErrors(s.cfg.Sys)
		if !ok {
			continue
		}
		if d.counted && n > d.ioErrors {
			d.emit(now, emit, "io_errors", float64(n-d.ioErrors), 0)
		}
		d.ioErrors, d.counted = n, true
	}
}
