package upload

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/strata-edge/strata/buffer"
)

// The defaults.
const (
	DefaultBatch       = 16 // in flight; brokers' receive windows start at 20 (MQTT, common defaults)
	DefaultMinBackoff  = time.Second
	DefaultMaxBackoff  = 5 * time.Minute
	DefaultSendTimeout = 60 * time.Second
)

// Source is where records come from: a *buffer.Cursor.
type Source interface {
	Next(ctx context.Context, limit int) ([]buffer.Item, error)
	Ack(ids ...buffer.ID) error
	Rewind()
}

// Sender is where they go. It says which ones the far side has for good, also when it
// fails on others. It may keep the items only until it returns.
type Sender interface {
	Send(ctx context.Context, items []buffer.Item) (acked []buffer.ID, err error)
}

// Delayer is what an error of a Sender may offer: how long the far side asked to be left
// alone (HTTP's Retry-After).
type Delayer interface {
	RetryAfter() time.Duration
}

// Config of a Drain. Zero values take the defaults.
type Config struct {
	Name        string // of the sink, for logs
	Batch       int    // records in flight, at most DefaultBatch
	MinBackoff  time.Duration
	MaxBackoff  time.Duration
	SendTimeout time.Duration // of one batch
	Logger      *slog.Logger
}

// Stats counts since New.
type Stats struct {
	Sent      uint64 // records acknowledged
	Failures  uint64 // batches that failed, in whole or in part
	LastError string // of the latest failure; empty after a success
	LastSent  time.Time
}

// Drain moves records from one source to one sender.
type Drain struct {
	cfg  Config
	src  Source
	dst  Sender
	log  *slog.Logger
	rand func() float64

	mu    sync.Mutex
	stats Stats
}

// New makes a Drain; it does nothing before Run.
func New(cfg Config, src Source, dst Sender) *Drain {
	if cfg.Batch <= 0 || cfg.Batch > DefaultBatch {
		cfg.Batch = DefaultBatch
	}
	if cfg.MinBackoff <= 0 {
		cfg.MinBackoff = DefaultMinBackoff
	}
	if cfg.MaxBackoff < cfg.MinBackoff {
		cfg.MaxBackoff = max(DefaultMaxBackoff, cfg.MinBackoff)
	}
	if cfg.SendTimeout <= 0 {
		cfg.SendTimeout = DefaultSendTimeout
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Drain{cfg: cfg, src: src, dst: dst, log: cfg.Logger.With("sink", cfg.Name), rand: rand.Float64}
}

// Run drains until the context ends or the buffer is closed, and then returns nil.
func (d *Drain) Run(ctx context.Context) error {
	d.src.Rewind()
	wait := time.Duration(0)
	for {
		items, err := d.src.Next(ctx, d.cfg.Batch)
		if ctx.Err() != nil || errors.Is(err, buffer.ErrClosed) {
			return nil
		}
		if err == nil {
			err = d.send(ctx, items)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			wait = 0
			continue
		}
		d.src.Rewind()
		if wait == 0 {
			d.log.Warn("upload fails, will retry", "error", err)
		}
		wait = min(max(2*wait, d.cfg.MinBackoff), d.cfg.MaxBackoff)
		if !d.sleep(ctx, d.delay(wait, err)) {
			return nil
		}
	}
}

// send passes one batch on and acknowledges what arrived.
func (d *Drain) send(ctx context.Context, items []buffer.Item) error {
	bounded, cancel := context.WithTimeout(ctx, d.cfg.SendTimeout)
	defer cancel()
	acked, err := d.dst.Send(bounded, items)
	if len(acked) > 0 {
		if aerr := d.src.Ack(acked...); aerr != nil {
			err = errors.Join(err, fmt.Errorf("acknowledge: %w", aerr))
		}
	}
	if err == nil && len(acked) < len(items) {
		err = fmt.Errorf("%d of %d records were not acknowledged", len(items)-len(acked), len(items))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stats.Sent += uint64(len(acked))
	if len(acked) > 0 {
		d.stats.LastSent = time.Now()
	}
	d.stats.LastError = ""
	if err != nil {
		d.stats.Failures++
		d.stats.LastError = err.Error()
	}
	return err
}

// delay spreads wait over 50 to 100 % of it, so that a fleet does not return as one, and
// keeps to what the far side asked for.
func (d *Drain) delay(wait time.Duration, err error) time.Duration {
	wait = wait/2 + time.Duration(d.rand()*float64(wait/2))
	if asked := Delayer(nil); errors.As(err, &asked) {
		wait = max(wait, min(asked.RetryAfter(), d.cfg.MaxBackoff))
	}
	return wait
}

func (d *Drain) sleep(ctx context.Context, wait time.Duration) bool {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// Stats gives a snapshot.
func (d *Drain) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stats
}
