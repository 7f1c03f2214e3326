package agent

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/strata-edge/strata/buffer"
	"github.com/strata-edge/strata/edge/diag"
)

// store is the way of findings from the pipeline to the buffer and to whoever watches the
// agent. It is a step of its own so that a slow disk never holds up the pipeline.
type store struct {
	queue *buffer.Queue
	show  func(*diag.Finding)
	in    chan diag.Finding
	drops *drops
}

// storeDepth bounds the findings between pipeline and disk: a burst of one for each of
// many services is a hundred or so.
const storeDepth = 512

func newStore(q *buffer.Queue, show func(*diag.Finding), d *drops) *store {
	return &store{queue: q, show: show, in: make(chan diag.Finding, storeDepth), drops: d}
}

// take never blocks.
func (s *store) take(f diag.Finding) {
	select {
	case s.in <- f:
	default:
		s.drops.add(dropFinding)
	}
}

// run stores what comes until in is closed.
func (s *store) run() error {
	for f := range s.in {
		if s.show != nil {
			s.show(&f)
		}
		if err := s.put(&f); err != nil {
			s.drops.add(dropStore)
		}
	}
	return nil
}

func (s *store) put(f *diag.Finding) error {
	b, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("encode finding %s: %w", f.ID, err)
	}
	r := buffer.Record{Payload: b, Priority: buffer.Normal}
	switch f.State {
	case diag.StateOpen:
		r.Priority = buffer.Urgent
	case diag.StateUpdate:
		// A later report says all that an earlier update says.
		r.Key = f.ID
	}
	return s.queue.Put(context.Background(), r)
}
