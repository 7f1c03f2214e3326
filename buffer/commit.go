package buffer

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

// maxTries bounds what one commit does about a full or damaged file.
const maxTries = 8

// badKey is a stored pair that is no intact record.
type badKey struct {
	lane Priority
	key  string
}

// addBad notes a damaged record for removal. The caller holds mu.
func (q *Queue) addBad(b badKey) {
	for _, have := range q.bad {
		if have == b {
			return
		}
	}
	if len(q.bad) < 4*ackBatch {
		q.bad = append(q.bad, b)
	}
}

// plan is what one commit does.
type plan struct {
	batch    []*entry
	replaced []ID // older records of the batch's keys
	bad      []badKey
	base     state
	marks    map[string][lanes]uint64
	done     [lanes]uint64 // every sink has these and all before
	offsets  map[string]time.Duration
	counters map[string]uint64
	acked    int
	dirty    bool
	expire   bool
	maxAge   time.Duration
	spare    int // pages that the transaction has beyond its own need
	evict    int // records to drop beyond what the accounting asks for
}

// result is what a committed plan has led to.
type result struct {
	st   state
	ids  []ID // of the batch
	gone []delivered
	sent uint64
}

// commit writes at most putBatch waiting records, the acknowledgements and removals in
// one transaction. Who waits in Put gets its error; records of Add stay for the next try.
func (q *Queue) commit() error {
	q.commitMu.Lock()
	defer q.commitMu.Unlock()
	p := q.plan()
	if p == nil {
		return nil
	}
	err := q.apply(p)
	for try := 1; err != nil && try < maxTries; try++ {
		switch {
		case errors.Is(err, errDamaged) && try == 1:
			if err = q.replaceFile(err); err != nil {
				return q.failed(p, err)
			}
			p = q.replan(p)
			err = q.apply(p)
		case full(err) && p.base.count[Urgent]+p.base.count[Normal] > 0:
			// The accounting was too optimistic: the file is at its cap, or its file
			// system is full. Make room first, in a transaction of its own: the pages
			// it frees can be used by the next one only.
			room := q.replan(p)
			room.batch, room.replaced, room.evict = nil, nil, ackBatch<<(try-1)
			if err = q.apply(room); err == nil {
				p = q.replan(p)
				err = q.apply(p)
			}
		default:
			return q.failed(p, err)
		}
	}
	if err != nil {
		return q.failed(p, err)
	}
	return nil
}

// errNoPages says that a put would take pages that are spared for removals.
var errNoPages = errors.New("the file is at its cap")

func full(err error) bool {
	return errors.Is(err, errNoPages) || errors.Is(err, berrors.ErrMaxSizeReached) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// plan takes what waits; nil where there is nothing to write. Entries stay in waiting
// until they are committed, or failed.
func (q *Queue) plan() *plan {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := &plan{dirty: q.dirty}
	for _, want := range []Priority{Urgent, Normal} {
		for _, e := range q.waiting {
			if e.rec.Priority == want && len(p.batch) < putBatch {
				p.batch = append(p.batch, e)
			}
		}
	}
	if now := time.Now(); !now.Before(q.expiryDue) {
		p.expire = true
		q.expiryDue = now.Add(expiryEvery)
	}
	if len(p.batch) == 0 && len(q.bad) == 0 && q.acked == 0 && !q.dirty && !p.expire {
		return nil
	}
	q.fill(p)
	return p
}

// replan gives p again on the queue's present state.
func (q *Queue) replan(p *plan) *plan {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := &plan{batch: p.batch, dirty: true, expire: p.expire}
	q.fill(n)
	return n
}

func (q *Queue) fill(p *plan) {
	p.base, p.bad, p.acked, p.maxAge = q.st, q.bad, q.acked, q.opt.MaxAge
	p.offsets, p.counters = maps.Clone(q.offsets), maps.Clone(q.counters)
	q.dirty = false
	p.marks = make(map[string][lanes]uint64, len(q.cursors))
	first := true
	for name, c := range q.cursors {
		var m [lanes]uint64
		for l := range c.lane {
			m[l] = c.lane[l].mark
			if first || m[l] < p.done[l] {
				p.done[l] = m[l]
			}
		}
		p.marks[name] = m
		first = false
	}
	for _, e := range p.batch {
		if id, ok := q.index.get(e.rec.Key); ok {
			p.replaced = append(p.replaced, id)
		}
	}
}

// apply runs the plan's transaction and takes its result over.
func (q *Queue) apply(p *plan) error {
	now := q.now()
	var r result
	q.dbMu.RLock()
	err := guard(func() error {
		return q.db.Update(func(t *bbolt.Tx) (err error) {
			r, err = write(tx{t}, p, now, q)
			return err
		})
	})
	q.dbMu.RUnlock()
	q.mu.Lock()
	defer q.mu.Unlock()
	if errors.Is(err, berrors.ErrMaxSizeReached) && p.spare >= sparePages {
		err = fmt.Errorf("%w: it asks for more pages than there is data: %w", errDamaged, err)
	}
	if err != nil {
		q.dirty = q.dirty || p.dirty
		return err
	}
	for l := range r.st.lost { // refusals may have been counted meanwhile
		r.st.lost[l] += q.st.lost[l] - p.base.lost[l]
	}
	r.st.coalesced += q.st.coalesced - p.base.coalesced
	q.st = r.st
	q.counts.Commits++
	q.counts.Delivered += r.sent
	for _, d := range r.gone {
		q.recent.add(d)
	}
	q.bad = q.bad[len(p.bad):]
	q.acked -= p.acked
	for i, e := range p.batch {
		if e.rec.Key != "" {
			q.index.set(e.rec.Key, r.ids[i])
		}
		if e.done != nil {
			e.done <- nil
		}
	}
	q.forget(p.batch)
	q.broadcast()
	return nil
}

// forget takes entries out of waiting. The caller holds mu.
func (q *Queue) forget(batch []*entry) {
	if len(batch) == 0 {
		return
	}
	taken := make(map[*entry]struct{}, len(batch))
	for _, e := range batch {
		taken[e] = struct{}{}
	}
	rest := q.waiting[:0]
	for _, e := range q.waiting {
		if _, ok := taken[e]; !ok {
			rest = append(rest, e)
		}
	}
	clear(q.waiting[len(rest):])
	q.waiting, q.since = rest, time.Now()
}

// failed gives err to those who wait for this batch. While no Run is there to try again
// the records of Add are lost with it.
func (q *Queue) failed(p *plan, err error) error {
	err = fmt.Errorf("commit to buffer %s: %w", q.path, err)
	q.mu.Lock()
	defer q.mu.Unlock()
	var gone []*entry
	for _, e := range p.batch {
		if e.done != nil || !q.running {
			if e.done != nil {
				e.done <- err
			}
			q.st.lost[LostWrite]++
			gone = append(gone, e)
		}
	}
	q.forget(gone)
	return err
}
