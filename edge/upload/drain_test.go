package upload

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strata-edge/strata/buffer"
)

// source is a list of records with a cursor's manners.
type source struct {
	mu     sync.Mutex
	items  []buffer.Item
	at     int
	acked  map[buffer.ID]bool
	closed chan struct{}
}

func newSource(n int) *source {
	s := &source{acked: map[buffer.ID]bool{}, closed: make(chan struct{})}
	for i := range n {
		s.items = append(s.items, buffer.Item{ID: buffer.ID(i + 1)})
	}
	return s
}

func (s *source) Next(ctx context.Context, limit int) ([]buffer.Item, error) {
	s.mu.Lock()
	var out []buffer.Item
	for ; s.at < len(s.items) && len(out) < limit; s.at++ {
		if !s.acked[s.items[s.at].ID] {
			out = append(out, s.items[s.at])
		}
	}
	s.mu.Unlock()
	if len(out) > 0 {
		return out, nil
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.closed:
		return nil, fmt.Errorf("next: %w", buffer.ErrClosed)
	}
}

func (s *source) Ack(ids ...buffer.ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		s.acked[id] = true
	}
	return nil
}

func (s *source) Rewind() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = 0
}

type senderFunc func(ctx context.Context, items []buffer.Item) ([]buffer.ID, error)

func (f senderFunc) Send(ctx context.Context, items []buffer.Item) ([]buffer.ID, error) {
	return f(ctx, items)
}

type later time.Duration

func (l later) Error() string             { return "later" }
func (l later) RetryAfter() time.Duration { return time.Duration(l) }

func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource(50)
		var calls []time.Time
		var sizes []int
		sent := map[buffer.ID]int{}
		dst := senderFunc(func(ctx context.Context, items []buffer.Item) ([]buffer.ID, error) {
			if d, ok := ctx.Deadline(); !ok || time.Until(d) > DefaultSendTimeout {
				t.Error("a batch must be bounded in time")
			}
			calls = append(calls, time.Now())
			sizes = append(sizes, len(items))
			var ids []buffer.ID
			for _, it := range items {
				ids = append(ids, it.ID)
				sent[it.ID]++
			}
			switch len(calls) {
			case 1:
				return nil, errors.New("refused")
			case 2:
				return nil, errors.New("refused")
			case 3:
				return ids[:5], errors.New("broken off")
			case 4:
				return nil, later(90 * time.Second)
			}
			return ids, nil
		})
		d := New(Config{Name: "x", MinBackoff: time.Second, MaxBackoff: time.Hour}, src, dst)
		d.rand = func() float64 { return 1 }
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- d.Run(ctx) }()
		time.Sleep(time.Hour)
		synctest.Wait()

		if len(src.acked) != 50 {
			t.Errorf("%d of 50 acknowledged", len(src.acked))
		}
		var gaps []time.Duration
		for i := 1; i < len(calls); i++ {
			gaps = append(gaps, calls[i].Sub(calls[i-1]))
		}
		// 1, 2, 4 s of back-off, then what the far side asked for, then none.
		if want := []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 90 * time.Second, 0, 0}; !slices.Equal(gaps, want) {
			t.Errorf("waits %v, want %v", gaps, want)
		}
		for _, n := range sizes {
			if n > DefaultBatch {
				t.Errorf("%d in flight", n)
			}
		}
		for id := buffer.ID(1); id <= 5; id++ {
			if sent[id] != 3 {
				t.Errorf("record %d, acknowledged in the third batch, was sent %d times", id, sent[id])
			}
		}
		if s := d.Stats(); s.Sent != 50 || s.Failures != 4 || s.LastError != "" {
			t.Errorf("%+v", s)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestDrainEndsWithTheBuffer(t *testing.T) {
	src := newSource(0)
	close(src.closed)
	if err := New(Config{}, src, nil).Run(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestShortAcknowledgementIsAFailure(t *testing.T) {
	src := newSource(2)
	dst := senderFunc(func(context.Context, []buffer.Item) ([]buffer.ID, error) { return []buffer.ID{1}, nil })
	d := New(Config{}, src, dst)
	if err := d.send(context.Background(), src.items); err == nil || !src.acked[1] || src.acked[2] {
		t.Errorf("%v, %v", err, src.acked)
	}
}

func TestDelayIsSpread(t *testing.T) {
	d := New(Config{}, newSource(0), nil)
	seen := map[time.Duration]bool{}
	for range 50 {
		w := d.delay(10*time.Second, errors.New("x"))
		if w < 5*time.Second || w > 10*time.Second {
			t.Fatalf("%s", w)
		}
		seen[w] = true
	}
	if len(seen) < 40 {
		t.Errorf("%d different waits of 50", len(seen))
	}
	if w := d.delay(time.Second, later(time.Hour)); w != d.cfg.MaxBackoff {
		t.Errorf("a far side may not ask for more than the longest wait: %s", w)
	}
}
