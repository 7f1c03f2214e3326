package buffer

import (
	"encoding/binary"
	"slices"
	"time"
)

// maxSeq bounds what can be a sequence number; a greater one is a damaged key.
const maxSeq = 1 << 62

// writer is one transaction under way.
type writer struct {
	tx
	p                  *plan
	r                  result
	limit, normalLimit int64
	recent             int // bytes of delivered records still worth copying
}

// write does what the plan says: removals first, so that their room counts.
func write(t tx, p *plan, now Stamp, q *Queue) (result, error) {
	w := writer{tx: t, p: p, r: result{st: p.base}, limit: q.limit, normalLimit: q.normalLimit, recent: q.recent.max}
	for l := range laneBuckets {
		t.Bucket(laneBuckets[l]).FillPercent = 1 // records are appended in order
	}
	p.spare = w.pagesLeft() - w.pagesFor(p.batch)
	if len(p.batch) > 0 && p.spare < sparePages {
		return result{}, errNoPages
	}
	steps := []func() error{w.removeBad, w.removeDelivered, func() error { return w.removeExpired(now) }, w.removeReplaced, w.evict}
	for _, step := range steps {
		if err := step(); err != nil {
			return result{}, err
		}
	}
	for _, e := range p.batch {
		if err := w.put(&e.rec); err != nil {
			return result{}, err
		}
	}
	return w.r, t.saveMeta(&w.r.st, p)
}

// pagesLeft says how many pages the file can still give: free ones and those up to its cap.
func (w *writer) pagesLeft() int {
	db := w.DB()
	st := db.Stats()
	return st.FreePageN + st.PendingPageN + (db.MaxSize-db.AllocSize-int(w.Size()))/pageSize
}

// pagesFor is an upper estimate of what a batch adds, beside what every commit rewrites.
func (w *writer) pagesFor(batch []*entry) int {
	n := int64(0)
	for _, e := range batch {
		n += accounted(recordHead + len(e.rec.Stamp.Boot) + len(e.rec.Key) + len(e.rec.Payload))
	}
	return int(2*n/pageSize) + 8
}

// oldest gives the oldest pair of a lane; ok is false for an empty one.
func (w *writer) oldest(lane Priority) (id ID, key, value []byte, ok bool) {
	k, v := w.Bucket(laneBuckets[lane]).Cursor().First()
	if k == nil {
		return 0, nil, nil, false
	}
	if len(k) == 8 {
		id = makeID(lane, binary.BigEndian.Uint64(k))
	}
	return id, k, v, true
}

func (w *writer) drop(lane Priority, key, value []byte) error {
	n := accounted(len(value))
	if err := w.Bucket(laneBuckets[lane]).Delete(key); err != nil {
		return err
	}
	st := &w.r.st
	st.bytes[lane] = max(0, st.bytes[lane]-n)
	if st.count[lane] > 0 {
		st.count[lane]--
	}
	return nil
}

func (w *writer) removeDelivered() error {
	for l := Urgent; l < lanes; l++ {
		for w.p.done[l] > 0 {
			id, k, v, ok := w.oldest(l)
			if !ok || len(k) != 8 || id.seq() > w.p.done[l] {
				break
			}
			if _, err := decodeRecord(id, v); err != nil {
				w.r.st.lost[LostCRC]++ // the sinks went past it
			} else {
				if w.recent > 0 {
					w.recent -= len(v)
					w.r.gone = append(w.r.gone, delivered{id, slices.Clone(v)})
				}
				w.r.sent++
			}
			if err := w.drop(l, k, v); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *writer) removeBad() error {
	for _, b := range w.p.bad {
		k := []byte(b.key)
		v := w.Bucket(laneBuckets[b.lane]).Get(k)
		if v == nil {
			continue
		}
		if err := w.drop(b.lane, k, v); err != nil {
			return err
		}
		w.r.st.lost[LostCRC]++
	}
	return nil
}

func (w *writer) removeExpired(now Stamp) error {
	if !w.p.expire {
		return nil
	}
	for l := Urgent; l < lanes; l++ {
		for {
			id, k, v, ok := w.oldest(l)
			if !ok {
				break
			}
			it, err := decodeRecord(id, v)
			reason := LostCRC
			if err == nil {
				if age, known := w.age(it.Stamp, now); !known || age <= w.p.maxAge {
					break
				}
				reason = LostExpired
			}
			if err := w.drop(l, k, v); err != nil {
				return err
			}
			w.r.st.lost[reason]++
		}
	}
	return nil
}

// age is known within one boot, and across boots where both wall times can be trusted:
// a device without a clock at boot must not lose its records for it.
func (w *writer) age(s, now Stamp) (age time.Duration, known bool) {
	if s.Boot == now.Boot {
		return now.BootTime - s.BootTime, true
	}
	off, corrected := w.p.offsets[s.Boot]
	if !now.Synced || !(s.Synced || corrected) {
		return 0, false
	}
	wall := s.Wall
	if !s.Synced {
		wall = time.Unix(0, int64(s.BootTime+off))
	}
	return now.Wall.Sub(wall), true
}

func (w *writer) removeReplaced() error {
	for _, id := range w.p.replaced {
		var k [8]byte
		binary.BigEndian.PutUint64(k[:], id.seq())
		v := w.Bucket(laneBuckets[id.lane()]).Get(k[:])
		if v == nil {
			continue
		}
		if err := w.drop(id.lane(), k[:], v); err != nil {
			return err
		}
		w.r.st.coalesced++
	}
	return nil
}

// evict drops what the plan asks for beyond the accounting.
func (w *writer) evict() error {
	for range w.p.evict {
		if ok, err := w.evictOne(Urgent); !ok || err != nil {
			return err
		}
	}
	return nil
}

// evictOne drops the oldest normal record or, for an urgent one and with no normal left,
// the oldest urgent one.
func (w *writer) evictOne(by Priority) (bool, error) {
	lane, reason := Normal, LostEvicted
	_, k, v, ok := w.oldest(Normal)
	if !ok && by == Urgent {
		lane, reason = Urgent, LostEvictedUrgent
		_, k, v, ok = w.oldest(Urgent)
	}
	if !ok {
		return false, nil
	}
	if err := w.drop(lane, k, v); err != nil {
		return false, err
	}
	w.r.st.lost[reason]++
	return true, nil
}

// put stores r, after dropping what its priority may displace. A normal record that
// finds the file full of urgent ones is itself what is lost.
func (w *writer) put(r *Record) error {
	st, lane := &w.r.st, r.Priority
	id := makeID(lane, st.next[lane])
	v, err := appendRecord(make([]byte, 0, recordHead+len(r.Stamp.Boot)+len(r.Key)+len(r.Payload)), id, r)
	if err != nil {
		return err
	}
	need := accounted(len(v))
	for st.bytes[Urgent]+st.bytes[Normal]+need > w.limit || (lane == Normal && st.bytes[Normal]+need > w.normalLimit) {
		ok, err := w.evictOne(lane)
		if err != nil {
			return err
		}
		if !ok {
			st.lost[LostEvicted]++
			w.r.ids = append(w.r.ids, 0)
			return nil
		}
	}
	var k [8]byte
	binary.BigEndian.PutUint64(k[:], id.seq())
	if err := w.Bucket(laneBuckets[lane]).Put(k[:], v); err != nil {
		return err
	}
	st.next[lane]++
	st.count[lane]++
	st.bytes[lane] += need
	w.r.ids = append(w.r.ids, id)
	return nil
}
