package buffer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	maxSinks    = 4
	maxSinkName = 32
	// What one sink may have handed out, or acknowledged beyond an open one.
	maxOutstanding = 256
	nextBytes      = 256 << 10 // payload of one Next
)

// ErrClosed is returned by Next once the queue is closed.
var ErrClosed = errors.New("the buffer is closed")

// Cursor is one sink's way through the queue: urgent records first, the oldest first
// within a priority. It belongs to one goroutine; Ack may come from others.
type Cursor struct {
	q    *Queue
	name string
	lane [lanes]progress // guarded by q.mu
}

// progress is how far a sink has come in one priority. Every record up to mark is done.
type progress struct {
	mark uint64              // on the disk, with the next commit
	read uint64              // handed out up to here
	out  []uint64            // handed out and not acknowledged, ascending
	done map[uint64]struct{} // acknowledged above mark
}

// Sink gives the cursor of a sink that Options.Sinks names.
func (q *Queue) Sink(name string) (*Cursor, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	c, ok := q.cursors[name]
	if !ok {
		return nil, fmt.Errorf("buffer %s: sink %q is not among the options", q.path, name)
	}
	return c, nil
}

// Next hands out up to limit records that were not handed out since the last Rewind. It
// blocks until there is one. The items are the caller's.
func (c *Cursor) Next(ctx context.Context, limit int) ([]Item, error) {
	q := c.q
	for {
		q.mu.Lock()
		if q.closed {
			q.mu.Unlock()
			return nil, ErrClosed
		}
		changed := q.changed
		var from [lanes]uint64
		next := q.st.next
		room, news := limit, false
		for l := range c.lane {
			p := &c.lane[l]
			from[l] = p.read
			news = news || p.read+1 < next[l]
			room = min(room, maxOutstanding-len(p.out)-len(p.done))
		}
		q.mu.Unlock()

		if news && room > 0 {
			db := q.handle()
			items, err := c.read(from, next, room)
			if errors.Is(err, errDamaged) {
				if err = q.heal(db, err); err == nil {
					continue
				}
			}
			if err != nil {
				return nil, fmt.Errorf("next record for %s: %w", c.name, err)
			}
			if len(items) > 0 {
				return items, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("next record for %s: %w", c.name, ctx.Err())
		case <-changed:
		}
	}
}

// read takes records behind from out of the file and enters them as handed out. Those
// up to next were committed before the call: what is missing of them is gone.
func (c *Cursor) read(from, next [lanes]uint64, limit int) ([]Item, error) {
	q := c.q
	var items []Item
	var bad []badKey
	to := from
	err := q.view(func(t tx) error {
		size := 0
		for l := Urgent; l < lanes; l++ {
			all := t.walk(l, from[l]+1, func(id ID, key, value []byte) bool {
				if len(items) >= limit || size >= nextBytes {
					return false
				}
				to[l] = max(to[l], id.seq())
				if c.isDone(id) {
					return true
				}
				it, err := decodeRecord(id, value)
				if err != nil {
					bad = append(bad, badKey{l, string(key)})
					return true
				}
				it.Payload = slices.Clone(it.Payload)
				size += len(it.Payload)
				items = append(items, it)
				return true
			}, func(key []byte) { bad = append(bad, badKey{l, string(key)}) })
			if all {
				to[l] = max(to[l], next[l]-1)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, b := range bad {
		q.addBad(b)
	}
	for i := range items {
		it := &items[i]
		it.Shift = shiftOf(it.Stamp, q.offsets)
		p := &c.lane[it.Priority]
		p.out = append(p.out, it.ID.seq())
	}
	for l := range c.lane {
		p := &c.lane[l]
		p.read = max(p.read, to[l])
		p.advance()
	}
	return items, nil
}

func (c *Cursor) isDone(id ID) bool {
	c.q.mu.Lock()
	defer c.q.mu.Unlock()
	_, ok := c.lane[id.lane()].done[id.seq()]
	return ok
}

// Ack says that the sink has these records for good. Unknown ids are ignored: a record
// may have been evicted meanwhile. The acks reach the disk with a later commit.
func (c *Cursor) Ack(ids ...ID) error {
	q := c.q
	q.mu.Lock()
	n := 0
	for _, id := range ids {
		p := &c.lane[id.lane()]
		i, ok := slices.BinarySearch(p.out, id.seq())
		if !ok {
			continue
		}
		p.out = slices.Delete(p.out, i, i+1)
		p.done[id.seq()] = struct{}{}
		p.advance()
		n++
	}
	if n > 0 && q.acked == 0 {
		q.ackSince = time.Now()
	}
	q.acked += n
	flush := q.acked >= ackBatch
	running := q.running
	q.broadcast()
	q.mu.Unlock()
	if !flush {
		return nil
	}
	if running {
		q.poke()
		return nil
	}
	return q.commit()
}

// Rewind makes Next hand out again what was handed out and not acknowledged.
func (c *Cursor) Rewind() {
	c.q.mu.Lock()
	defer c.q.mu.Unlock()
	for l := range c.lane {
		p := &c.lane[l]
		p.out = p.out[:0]
		p.read = p.mark
	}
}

// advance moves mark over everything that is done.
func (p *progress) advance() {
	mark := p.read
	if len(p.out) > 0 {
		mark = p.out[0] - 1
	}
	for len(p.out) == 0 { // after a rewind: what was done out of order needs no reading
		if _, ok := p.done[mark+1]; !ok {
			break
		}
		mark++
	}
	if mark <= p.mark {
		return
	}
	p.mark, p.read = mark, max(p.read, mark)
	for seq := range p.done {
		if seq <= mark {
			delete(p.done, seq)
		}
	}
}
