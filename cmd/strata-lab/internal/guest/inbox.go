package guest

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/strata-edge/strata/edge/diag"
)

// inbox collects what arrives at the broker.
type inbox struct {
	mu       sync.Mutex
	findings []received
	bad      []string // what went wrong: a payload on a finding topic that is no finding, a lost subscription
	news     chan struct{}
}

// received is one message about a finding. An update carries only what changed, so cause
// and scope are those of the message that opened it.
type received struct {
	diag.Finding
	at   time.Time
	size int
}

func newInbox() *inbox { return &inbox{news: make(chan struct{}, 1)} }

func (b *inbox) receive(topic string, payload []byte) {
	if !strings.HasSuffix(topic, "/finding") {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	r := received{at: time.Now(), size: len(payload)}
	if err := json.Unmarshal(payload, &r.Finding); err != nil || r.ID == "" {
		b.bad = append(b.bad, fmt.Sprintf("%s: %.200s", topic, payload))
	} else {
		for _, old := range b.findings {
			if old.ID == r.ID && r.Cause == "" {
				r.Cause = old.Cause
			}
			if old.ID == r.ID && r.Scope.ID == "" {
				r.Scope = old.Scope
			}
		}
		b.findings = append(b.findings, r)
	}
	select {
	case b.news <- struct{}{}:
	default:
	}
}

// all gives what has come since from.
func (b *inbox) all(from time.Time) (out []received) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range b.findings {
		if !f.at.Before(from) {
			out = append(out, f)
		}
	}
	return out
}

func (b *inbox) fault(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bad = append(b.bad, what)
}

func (b *inbox) faults() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.bad...)
}

// wait gives the first message since from that ok accepts.
func (b *inbox) wait(ctx context.Context, from time.Time, limit time.Duration, ok func(received) bool) (received, error) {
	end := time.After(limit)
	for {
		for _, f := range b.all(from) {
			if ok(f) {
				return f, nil
			}
		}
		select {
		case <-b.news:
		case <-end:
			return received{}, fmt.Errorf("nothing of the kind within %v; came: %s", limit, list(b.all(from)))
		case <-ctx.Done():
			return received{}, ctx.Err()
		}
	}
}

func list(fs []received) string {
	if len(fs) == 0 {
		return "nothing"
	}
	var s []string
	for _, f := range fs {
		s = append(s, fmt.Sprintf("%s %s on %s", f.State, f.Cause, f.Scope.ID))
	}
	return strings.Join(s, ", ")
}
