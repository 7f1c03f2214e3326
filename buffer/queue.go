package buffer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

// Names inside the state folder.
const (
	FileName   = "buffer.db"
	SocketName = "buffer.sock"
)

// The defaults and bounds.
const (
	DefaultMaxBytes = 64 << 20            // the budget of the device's flash (design, 2026-11)
	DefaultReserve  = 16 << 20            // of it, for urgent records only
	DefaultMaxAge   = 30 * 24 * time.Hour // how long a device may be offline
	DefaultLinger   = time.Second         // of the 15 s from symptom to broker
	DefaultRecent   = 64 << 10

	// Measured on 400 B records: 45 KB written a record at 1 and 1, 1.9 KB at 16 and 64.
	putBatch = 16
	ackBatch = 64

	ackMaxAge   = time.Hour // an idle device still gets its acks to the disk
	expiryEvery = time.Hour
	maxWaiting  = 256 // records put and not yet committed
	retryAfter  = 5 * time.Second
	minBytes    = 256 << 10
)

// ErrWaiting is returned by Add while too many records wait for the disk.
var ErrWaiting = errors.New("too many records wait to be committed")

// Options of Open. The zero value takes every default, has no sink and checks the file
// inside this process.
type Options struct {
	MaxBytes int64         // cap of the file, 0: DefaultMaxBytes
	Reserve  int64         // of it, for urgent records only, 0: a quarter of MaxBytes
	MaxAge   time.Duration // 0: DefaultMaxAge
	Linger   time.Duration // how long a normal record waits for company, 0: DefaultLinger
	// Sinks that must acknowledge a record before it goes. A sink that the file knows
	// and the list lacks is forgotten; a new one starts at the oldest record held.
	Sinks []string
	// CheckCommand checks the file in a child process: SelfCheck() where main calls
	// CheckMain. Empty checks in this process, which a damaged file can take down.
	CheckCommand []string
	Recent       int // bytes of delivered records kept in memory for View, 0: DefaultRecent
	Now          func() Stamp
	Logger       *slog.Logger
}

// Report says what Open found.
type Report struct {
	Created    bool          // there was no file
	Damaged    string        // why the old file was put aside; empty when it was not
	Quarantine string        // where the old file is now
	CheckTook  time.Duration // the child's check
}

// Queue is the buffer. Create it with Open.
type Queue struct {
	path string
	opt  Options
	now  func() Stamp
	log  *slog.Logger

	limit, normalLimit int64 // of accounted bytes

	commitMu sync.Mutex   // one writer at a time; before dbMu and mu
	replaced time.Time    // when the file was last put aside while running; under commitMu
	dbMu     sync.RWMutex // held for writing only while the file is replaced
	db       *bbolt.DB

	mu        sync.Mutex
	st        state
	waiting   []*entry
	since     time.Time // when the first waiting record came
	running   bool
	closed    bool
	wake      chan struct{} // for Run, capacity 1
	changed   chan struct{} // closed and replaced after each commit
	cursors   map[string]*Cursor
	index     keyIndex
	recent    recentRing
	bad       []badKey
	acked     int // acknowledged since the last commit
	ackSince  time.Time
	expiryDue time.Time
	offsets   map[string]time.Duration // boot id → wall − boot time, once synced
	counters  map[string]uint64
	dirty     bool // bookkeeping changed without a record
	counts    Counts
}

// entry is a record on its way to the disk.
type entry struct {
	rec  Record
	done chan error // nil for Add
}

// Open opens or creates the queue at path. A file that fails its check is put aside
// (see Report) and a new one begun; an error means that there is no queue at all, e.g.
// because another process holds the file.
func Open(path string, opt Options) (*Queue, Report, error) {
	var rep Report
	q, err := newQueue(path, opt)
	if err != nil {
		return nil, rep, err
	}
	var held census
	switch st, err := os.Stat(path); {
	case errors.Is(err, os.ErrNotExist):
		rep.Created = true
	case err != nil:
		return nil, rep, fmt.Errorf("buffer %s: %w", path, err)
	case st.Size() > 0:
		start := time.Now()
		var err error
		held, err = checkFile(path, q.opt.CheckCommand)
		rep.CheckTook = time.Since(start)
		if errors.Is(err, errLocked) {
			return nil, rep, fmt.Errorf("buffer %s: %w", path, err)
		}
		if err != nil {
			rep.Damaged = err.Error()
		}
	}
	if rep.Damaged == "" {
		err := q.openFile(held)
		if errors.Is(err, errLocked) || errors.Is(err, os.ErrPermission) {
			return nil, rep, fmt.Errorf("buffer %s: %w", path, err)
		}
		if err == nil {
			return q, rep, nil
		}
		rep.Damaged = err.Error()
	}
	if rep.Quarantine, err = quarantine(path); err != nil {
		return nil, rep, err
	}
	if err := q.openFile(census{}); err != nil {
		return nil, rep, fmt.Errorf("buffer %s: begin anew: %w", path, err)
	}
	q.st.lost[LostFile]++
	q.dirty = true
	q.log.Warn("buffer was damaged and put aside", "path", path, "reason", rep.Damaged, "quarantine", rep.Quarantine)
	return q, rep, nil
}

func newQueue(path string, opt Options) (*Queue, error) {
	if opt.MaxBytes == 0 {
		opt.MaxBytes = DefaultMaxBytes
	}
	if opt.Reserve == 0 {
		opt.Reserve = opt.MaxBytes / 4
	}
	if opt.MaxBytes < minBytes || opt.Reserve < 0 || opt.Reserve >= opt.MaxBytes {
		return nil, fmt.Errorf("buffer %s: cap of %d bytes with %d reserved: the cap must be at least %d and above the reserve", path, opt.MaxBytes, opt.Reserve, minBytes)
	}
	if opt.MaxAge == 0 {
		opt.MaxAge = DefaultMaxAge
	}
	if opt.Linger == 0 {
		opt.Linger = DefaultLinger
	}
	if opt.Recent == 0 {
		opt.Recent = DefaultRecent
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	if opt.Now == nil {
		now, err := SystemStamp()
		if err != nil {
			return nil, fmt.Errorf("buffer %s: %w", path, err)
		}
		opt.Now = now
	}
	if len(opt.Sinks) > maxSinks {
		return nil, fmt.Errorf("buffer %s: %d sinks are over %d", path, len(opt.Sinks), maxSinks)
	}
	for _, s := range opt.Sinks {
		if s == "" || len(s) > maxSinkName {
			return nil, fmt.Errorf("buffer %s: sink name %q must have 1 to %d bytes", path, s, maxSinkName)
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("buffer %s: %w", path, err)
	}
	q := &Queue{
		path: path, opt: opt, now: opt.Now, log: opt.Logger,
		wake: make(chan struct{}, 1), changed: make(chan struct{}),
		cursors: map[string]*Cursor{}, offsets: map[string]time.Duration{}, counters: map[string]uint64{},
		recent: recentRing{max: opt.Recent},
	}
	// Pages are 77 % payload at the cap when appended in order; the rest is the free
	// pages that copy-on-write needs. Beyond that MaxSize of bbolt holds.
	q.limit = opt.MaxBytes / 100 * 75
	q.normalLimit = (opt.MaxBytes - opt.Reserve) / 100 * 75
	return q, nil
}

// Put stores the records and returns when they are on the disk: at once when one of them
// is urgent, after at most Options.Linger otherwise, or at once where no Run is active.
// Records of one call share transactions, so who has several should put them together. An
// error other than the context's means that at least one is not stored; with the
// context's some may be.
func (q *Queue) Put(ctx context.Context, records ...Record) error {
	entries := make([]*entry, len(records))
	var first error
	for i := range records {
		entries[i] = &entry{done: make(chan error, 1)}
		if err := q.add(entries[i], records[i], false); err != nil {
			first = err
			entries = entries[:i]
			break
		}
	}
	if err := q.kick(); err != nil && first == nil {
		first = err
	}
	for _, e := range entries {
		select {
		case err := <-e.done:
			if first == nil {
				first = err
			}
		case <-ctx.Done():
			return fmt.Errorf("put record: %w", ctx.Err())
		}
	}
	return first
}

// Add stores r without waiting for the disk: Run commits it within Options.Linger. A
// full waiting room gives ErrWaiting and counts r as lost.
func (q *Queue) Add(r Record) error {
	if err := q.add(&entry{}, r, true); err != nil {
		return err
	}
	return q.kick()
}

// kick wakes Run or, where there is none, commits.
func (q *Queue) kick() error {
	q.mu.Lock()
	running := q.running
	q.mu.Unlock()
	if !running {
		return q.flush()
	}
	q.poke()
	return nil
}

func (q *Queue) add(e *entry, r Record, bounded bool) error {
	r.Payload = append([]byte(nil), r.Payload...)
	if r.Stamp == (Stamp{}) {
		r.Stamp = q.now()
	}
	if _, err := appendRecord(nil, 0, &r); err != nil {
		q.mu.Lock()
		q.st.lost[LostTooLarge]++
		q.mu.Unlock()
		return fmt.Errorf("put record: %w", err)
	}
	e.rec = r

	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return errors.New("put record: the buffer is closed")
	}
	if bounded && len(q.waiting) >= maxWaiting {
		q.st.lost[LostOverflow]++
		q.mu.Unlock()
		return ErrWaiting
	}
	q.counts.Put++
	if len(q.waiting) == 0 {
		q.since = time.Now()
	}
	if !q.replaceWaiting(e) {
		q.waiting = append(q.waiting, e)
	}
	q.mu.Unlock()
	return nil
}

// replaceWaiting lets e take the place of a waiting record of the same key that nobody
// waits for. A record that somebody waits for is committed as it is.
func (q *Queue) replaceWaiting(e *entry) bool {
	if e.rec.Key == "" {
		return false
	}
	for i, w := range q.waiting {
		if w.rec.Key == e.rec.Key && w.done == nil {
			q.waiting = append(q.waiting[:i], q.waiting[i+1:]...)
			q.waiting = append(q.waiting, e)
			q.st.coalesced++
			return true
		}
	}
	return false
}

func (q *Queue) poke() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Run commits what is put until the context ends, then commits the rest and returns nil.
func (q *Queue) Run(ctx context.Context) error {
	q.mu.Lock()
	if q.running {
		q.mu.Unlock()
		return errors.New("run buffer: it runs already")
	}
	q.running = true
	q.mu.Unlock()
	defer func() {
		q.mu.Lock()
		q.running = false
		q.mu.Unlock()
	}()

	timer := time.NewTimer(0)
	defer timer.Stop()
	var pause time.Time // no commit before it
	for {
		wait := max(q.due(), time.Until(pause))
		if wait <= 0 {
			if err := q.commit(); err != nil {
				q.log.Warn("buffer cannot commit, will retry", "path", q.path, "error", err)
				pause = time.Now().Add(retryAfter)
			}
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			q.mu.Lock()
			q.running = false
			q.mu.Unlock()
			return q.flush()
		case <-timer.C:
		case <-q.wake:
		}
	}
}

// due says how long Run may sleep; 0 or less: there is something to commit now.
func (q *Queue) due() time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) >= putBatch || q.acked >= ackBatch || len(q.bad) >= ackBatch {
		return 0
	}
	now := time.Now()
	wait := q.expiryDue.Sub(now)
	if q.acked > 0 {
		wait = min(wait, q.ackSince.Add(ackMaxAge).Sub(now))
	}
	for _, e := range q.waiting {
		if e.rec.Priority == Urgent {
			return 0
		}
	}
	if len(q.waiting) > 0 {
		wait = min(wait, q.since.Add(q.opt.Linger).Sub(now))
	}
	return wait
}

// flush commits everything that waits and gives the first error. It is for when no Run is
// active: a batch that fails then leaves the waiting room too, so that this ends.
func (q *Queue) flush() error {
	var first error
	for {
		err := q.commit()
		if first == nil {
			first = err
		}
		q.mu.Lock()
		rest := len(q.waiting)
		stop := rest == 0 || (err != nil && q.running)
		q.mu.Unlock()
		if stop {
			return first
		}
	}
}

// SetClock tells the queue that the wall clock of boot is known to be offset ahead of
// its CLOCK_BOOTTIME. Records of that boot that were made unsynced are re-dated
// (Item.Shift), also after a restart.
func (q *Queue) SetClock(boot string, offset time.Duration) {
	if boot == "" || len(boot) > maxBoot {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	old, ok := q.offsets[boot]
	if ok && (old-offset).Abs() < time.Second {
		return
	}
	for b := range q.offsets {
		if ok || len(q.offsets) < maxClocks {
			break
		}
		delete(q.offsets, b)
	}
	q.offsets[boot] = offset
	q.dirty = true
}

// Count adds one to a counter that outlives the process and gives the new value; an
// uplink numbers its sessions with it.
func (q *Queue) Count(name string) (uint64, error) {
	q.mu.Lock()
	if _, ok := q.counters[name]; name == "" || len(name) > maxSinkName || (!ok && len(q.counters) >= maxCounters) {
		q.mu.Unlock()
		return 0, fmt.Errorf("buffer %s: counter %q: name of 1 to %d bytes, at most %d counters", q.path, name, maxSinkName, maxCounters)
	}
	q.counters[name]++
	n := q.counters[name]
	q.dirty = true
	q.mu.Unlock()
	return n, q.commit()
}

// Close commits what waits, writes the acks and closes the file.
func (q *Queue) Close() error {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return nil
	}
	q.closed = true
	q.dirty = true
	q.broadcast()
	q.mu.Unlock()
	err := q.flush()
	q.dbMu.Lock()
	defer q.dbMu.Unlock()
	if cerr := q.db.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("close buffer %s: %w", q.path, cerr)
	}
	return err
}

// broadcast wakes everyone who waits for a commit. The caller holds mu.
func (q *Queue) broadcast() {
	close(q.changed)
	q.changed = make(chan struct{})
}
