package agent

import (
	"context"
	"encoding/json"

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

// run stores what comes until in is closed; what waits together becomes one commit.
func (s *store) run() error {
	batch := make([]buffer.Record, 0, storeBatch)
	for f := range s.in {
		batch = s.add(batch[:0], &f)
		for n := min(len(s.in), storeBatch-1); n > 0; n-- {
			if f, more := <-s.in; more {
				batch = s.add(batch, &f)
			}
		}
		if err := s.queue.Put(context.Background(), batch...); err != nil {
			for range batch {
				s.drops.add(dropStore)
			}
		}
	}
	return nil
}

// storeBatch is how many findings one commit takes at most.
const storeBatch = 16

// add shows a finding and makes it a record.
func (s *store) add(batch []buffer.Record, f *diag.Finding) []buffer.Record {
	if s.show != nil {
		s.show(f)
	}
	b, err := json.Marshal(f)
	if err != nil {
		s.drops.add(dropStore)
		return batch
	}
	r := buffer.Record{Payload: b, Priority: buffer.Normal}
	switch f.State {
	case diag.StateOpen:
		r.Priority = buffer.Urgent
	case diag.StateUpdate:
		// A later report says all that an earlier update says.
		r.Key = f.ID
	}
	return append(batch, r)
}
