package agent

import (
	"context"
	"encoding/json"
	"log/slog"

	"github.com/strata-edge/strata/buffer"
	"github.com/strata-edge/strata/edge/diag"
)

// store is the way of findings from the pipeline to the buffer and to whoever watches the
// agent. It is a step of its own so that a slow disk never holds up the pipeline.
type store struct {
	queue *buffer.Queue
	shown chan diag.Finding // to whoever watches the agent
	in    chan diag.Finding
	drops *drops
	log   *slog.Logger
}

// storeDepth bounds the findings between pipeline and disk: a burst of one for each of
// many services is a hundred or so.
const storeDepth = 512

func newStore(q *buffer.Queue, d *drops, log *slog.Logger) *store {
	return &store{
		queue: q, in: make(chan diag.Finding, storeDepth), shown: make(chan diag.Finding, storeDepth), drops: d, log: log,
	}
}

// take never blocks.
func (s *store) take(f diag.Finding) {
	select {
	case s.in <- f:
	default:
		s.drops.add(dropFinding)
	}
}

// run stores what comes until in is closed; what waits together becomes one commit. A
// finding is shown once it is stored, so that nothing is shown that a crash could lose;
// one that the disk refuses is counted, logged and shown all the same.
func (s *store) run() error {
	defer close(s.shown)
	findings := make([]diag.Finding, 0, storeBatch)
	records := make([]buffer.Record, 0, storeBatch)
	for f := range s.in {
		findings = append(findings[:0], f)
		for n := min(len(s.in), storeBatch-1); n > 0; n-- {
			if f, more := <-s.in; more {
				findings = append(findings, f)
			}
		}
		records = records[:0]
		for i := range findings {
			records = s.record(records, &findings[i])
		}
		if err := s.queue.Put(context.Background(), records...); err != nil {
			s.log.Error("findings were not stored", "findings", len(records), "error", err)
			for range records {
				s.drops.add(dropStore)
			}
		}
		for i := range findings {
			// Who reads along may be slow or gone; the buffer goes on without him.
			select {
			case s.shown <- findings[i]:
			default:
				s.drops.add(dropShown)
			}
		}
	}
	return nil
}

// storeBatch is how many findings one commit takes at most.
const storeBatch = 16

// record appends a finding as a record.
func (s *store) record(records []buffer.Record, f *diag.Finding) []buffer.Record {
	b, err := json.Marshal(f)
	if err != nil {
		s.drops.add(dropStore)
		return records
	}
	r := buffer.Record{Payload: b, Priority: buffer.Normal}
	switch f.State {
	case diag.StateOpen:
		r.Priority = buffer.Urgent
	case diag.StateUpdate:
		// A later report says all that an earlier update says.
		r.Key = f.ID
	}
	return append(records, r)
}
