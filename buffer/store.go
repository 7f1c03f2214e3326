package buffer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// The file: two buckets of records, keyed by the id's sequence number (8 bytes, big
// endian), and one of bookkeeping that is small enough for bbolt to keep it inside the
// root page, which every transaction writes anyway.
var (
	laneBuckets = [lanes][]byte{[]byte("urgent"), []byte("normal")}
	metaBucket  = []byte("meta")
	stateKey    = []byte("state")
)

const (
	sinkPrefix    = "sink/"
	clockPrefix   = "clock/"
	counterPrefix = "counter/"
	maxClocks     = 4
	maxCounters   = 8

	// Pages that puts leave free at the cap, so that a removal, which writes pages before
	// it frees any, still fits: with none left the queue could never shrink again. A
	// removal writes 6 to 8 (leaf, branches, root, freelist).
	sparePages = 32

	pageSize    = 4096 // pinned: pages of 16K or 64K kernels write 3.5 to 14 times more
	lockTimeout = 2 * time.Second

	// A medium that damages every file must not cost a mapping each time.
	replaceEvery = 10 * time.Minute
)

var errLocked = errors.New("another process holds the file")

// state is the bookkeeping that goes with every commit.
type state struct {
	next      [lanes]uint64 // sequence number of the next record
	count     [lanes]uint64
	bytes     [lanes]int64 // accounted
	coalesced uint64
	lost      [losses]uint64
}

func (s *state) encode(key []byte) []byte {
	var b []byte
	for l := range lanes {
		b = binary.LittleEndian.AppendUint64(b, s.next[l])
		b = binary.LittleEndian.AppendUint64(b, s.count[l])
		b = binary.LittleEndian.AppendUint64(b, uint64(s.bytes[l]))
	}
	b = binary.LittleEndian.AppendUint64(b, s.coalesced)
	for _, v := range s.lost {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return seal(key, b)
}

// decode reads what encode writes; an older file may know fewer reasons.
func (s *state) decode(b []byte) bool {
	const fixed = int(lanes)*24 + 8
	if len(b) < fixed || len(b)%8 != 0 || len(b) > fixed+int(losses)*8 {
		return false
	}
	u := func() (v uint64) { v, b = binary.LittleEndian.Uint64(b), b[8:]; return v }
	for l := range lanes {
		s.next[l], s.count[l], s.bytes[l] = u(), u(), int64(u())
	}
	s.coalesced = u()
	for i := 0; len(b) > 0; i++ {
		s.lost[i] = u()
	}
	return true
}

// seal appends a CRC32C over key and value: bookkeeping that a damaged page has changed
// must not pass for acknowledgements.
func seal(key, value []byte) []byte {
	c := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
	return binary.LittleEndian.AppendUint32(value, c)
}

func unseal(key, value []byte) ([]byte, bool) {
	n := len(value) - 4
	if n < 0 {
		return nil, false
	}
	c := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value[:n])
	return value[:n], c == binary.LittleEndian.Uint32(value[n:])
}

func boltOptions(maxBytes int64, readOnly bool) *bbolt.Options {
	return &bbolt.Options{
		Timeout: lockTimeout, PageSize: pageSize, FreelistType: bbolt.FreelistMapType,
		MaxSize: int(maxBytes), ReadOnly: readOnly, PreLoadFreelist: true,
	}
}

// guard runs fn and turns what a damaged page can cause on this goroutine, a panic of
// bbolt or a fault in the mapped file, into an error that wraps errDamaged.
func guard(fn func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errDamaged, p)
		}
	}()
	return fn()
}

var errDamaged = errors.New("the file is damaged")

// openFile opens path and takes over what it holds, which its check has counted.
func (q *Queue) openFile(held census) error {
	return guard(func() error {
		db, err := bbolt.Open(q.path, 0o600, boltOptions(q.opt.MaxBytes, false))
		if errors.Is(err, berrors.ErrTimeout) {
			return errLocked
		}
		if err != nil {
			return err
		}
		// By default bbolt grows a file by 16 MiB, and refuses to where the cap is nearer.
		db.AllocSize = int(min(max(q.opt.MaxBytes/256, 32<<10), 1<<20))
		// A file from a time of a larger cap does not shrink; it must still take removals.
		if st, err := os.Stat(q.path); err == nil {
			db.MaxSize = max(db.MaxSize, int(st.Size())+db.AllocSize+sparePages*pageSize)
		}
		var st state
		marks := map[string][lanes]uint64{}
		offsets, counters := map[string]time.Duration{}, map[string]uint64{}
		ok := false
		defer func() {
			if !ok {
				_ = db.Close() // the error that is on its way says more
			}
		}()
		err = db.Update(func(t *bbolt.Tx) error {
			for _, name := range append(laneBuckets[:], metaBucket) {
				if _, err := t.CreateBucketIfNotExists(name); err != nil {
					return err
				}
			}
			t2 := tx{t}
			stored := t2.loadMeta(&st, marks, offsets, counters)
			if !stored {
				st = state{}
			}
			st.settle(held, stored)
			for l := range lanes {
				// A record can have survived bookkeeping of an older commit: its
				// number must never be given again.
				if k, _ := t.Bucket(laneBuckets[l]).Cursor().Last(); len(k) == 8 {
					if seq := binary.BigEndian.Uint64(k); seq < maxSeq {
						st.next[l] = max(st.next[l], seq+1)
					}
				}
				st.next[l] = max(st.next[l], 1)
			}
			return t2.forgetSinks(q.opt.Sinks)
		})
		if err != nil {
			return err
		}
		q.mu.Lock()
		defer q.mu.Unlock()
		q.db, q.st, q.offsets, q.counters = db, st, offsets, counters
		q.index = keyIndex{}
		for _, name := range q.opt.Sinks {
			c := q.cursors[name]
			if c == nil {
				c = &Cursor{q: q, name: name}
				q.cursors[name] = c
			}
			for l := range c.lane {
				m := marks[name][l]
				if m >= st.next[l] {
					m = 0
				}
				c.lane[l] = progress{mark: m, read: m, done: map[uint64]struct{}{}}
			}
		}
		ok = true
		return nil
	})
}

// tx is a bbolt transaction in the queue's terms.
type tx struct{ *bbolt.Tx }

// walk calls fn for each record of lane from seq on, until fn says false; bad gets keys
// that are none. It says whether it came to the end.
func (t tx) walk(lane Priority, seq uint64, fn func(id ID, key, value []byte) bool, bad func(key []byte)) bool {
	var from [8]byte
	binary.BigEndian.PutUint64(from[:], seq)
	c := t.Bucket(laneBuckets[lane]).Cursor()
	for k, v := c.Seek(from[:]); k != nil; k, v = c.Next() {
		if len(k) != 8 || v == nil || binary.BigEndian.Uint64(k) >= maxSeq {
			bad(k)
			continue
		}
		if !fn(makeID(lane, binary.BigEndian.Uint64(k)), k, v) {
			return false
		}
	}
	return true
}

// loadMeta says whether the state was there and intact.
func (t tx) loadMeta(st *state, marks map[string][lanes]uint64, offsets map[string]time.Duration, counters map[string]uint64) (ok bool) {
	c := t.Bucket(metaBucket).Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		b, intact := unseal(k, v)
		if !intact {
			continue
		}
		key := string(k)
		switch {
		case key == string(stateKey):
			ok = st.decode(b)
		case strings.HasPrefix(key, sinkPrefix) && len(b) == int(lanes)*8:
			var m [lanes]uint64
			for l := range lanes {
				m[l] = binary.LittleEndian.Uint64(b[l*8:])
			}
			marks[key[len(sinkPrefix):]] = m
		case strings.HasPrefix(key, clockPrefix) && len(b) == 8:
			offsets[key[len(clockPrefix):]] = time.Duration(binary.LittleEndian.Uint64(b))
		case strings.HasPrefix(key, counterPrefix) && len(b) == 8:
			counters[key[len(counterPrefix):]] = binary.LittleEndian.Uint64(b)
		}
	}
	return ok
}

// count counts the records themselves.
func (t tx) count() (held census) {
	for l := Urgent; l < lanes; l++ {
		if t.Bucket(laneBuckets[l]) == nil {
			continue
		}
		t.walk(l, 0, func(_ ID, _, value []byte) bool {
			held.count[l]++
			held.bytes[l] += accounted(len(value))
			return true
		}, func([]byte) {})
	}
	return held
}

// settle takes what is really held into the state; stored says that there was one.
func (s *state) settle(held census, stored bool) {
	for l := range lanes {
		if stored && s.count[l] > held.count[l] {
			s.lost[LostCRC] += s.count[l] - held.count[l]
		}
		s.count[l], s.bytes[l] = held.count[l], held.bytes[l]
	}
}

// forgetSinks removes the sinks that are no longer asked for: they would hold every
// record for ever.
func (t tx) forgetSinks(keep []string) error {
	return t.removeMeta(sinkPrefix, func(name string) bool { return slices.Contains(keep, name) })
}

func (t tx) removeMeta(prefix string, keep func(name string) bool) error {
	b := t.Bucket(metaBucket)
	var gone [][]byte
	c := b.Cursor()
	for k, _ := c.Seek([]byte(prefix)); k != nil; k, _ = c.Next() {
		name, ok := strings.CutPrefix(string(k), prefix)
		if !ok {
			break
		}
		if !keep(name) {
			gone = append(gone, slices.Clone(k))
		}
	}
	for _, k := range gone {
		if err := b.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

func (t tx) saveMeta(st *state, p *plan) error {
	b := t.Bucket(metaBucket)
	put := func(key string, values ...uint64) error {
		v := make([]byte, 0, len(values)*8+4)
		for _, x := range values {
			v = binary.LittleEndian.AppendUint64(v, x)
		}
		return b.Put([]byte(key), seal([]byte(key), v))
	}
	for name, m := range p.marks {
		if err := put(sinkPrefix+name, m[:]...); err != nil {
			return err
		}
	}
	for boot, off := range p.offsets {
		if err := put(clockPrefix+boot, uint64(off)); err != nil {
			return err
		}
	}
	for name, n := range p.counters {
		if err := put(counterPrefix+name, n); err != nil {
			return err
		}
	}
	if err := t.removeMeta(clockPrefix, func(boot string) bool { _, ok := p.offsets[boot]; return ok }); err != nil {
		return err
	}
	return b.Put(stateKey, st.encode(stateKey))
}

// accounted is what a record of n encoded bytes is taken to cost in the file: key, leaf
// element and, above a page, whole overflow pages.
func accounted(n int) int64 {
	n += 8 + 16
	if n > pageSize {
		n = (n + pageSize - 1) / pageSize * pageSize
	}
	return int64(n)
}

func (q *Queue) view(fn func(tx) error) error {
	q.dbMu.RLock()
	defer q.dbMu.RUnlock()
	return guard(func() error { return q.db.View(func(t *bbolt.Tx) error { return fn(tx{t}) }) })
}

func (q *Queue) fileBytes() int64 {
	st, err := os.Stat(q.path)
	if err != nil {
		return 0
	}
	return st.Size()
}

// quarantine puts path aside as path.damaged-N and removes the one before it.
func quarantine(path string) (string, error) {
	old, _ := filepath.Glob(path + ".damaged-*") // fails on a bad pattern only
	n := 0
	for _, o := range old {
		if i, err := strconv.Atoi(o[strings.LastIndexByte(o, '-')+1:]); err == nil {
			n = max(n, i)
		}
	}
	to := fmt.Sprintf("%s.damaged-%d", path, n+1)
	if err := os.Rename(path, to); err != nil {
		return "", fmt.Errorf("put the damaged buffer aside: %w", err)
	}
	for _, o := range old {
		if err := os.Remove(o); err != nil {
			return to, fmt.Errorf("remove an older damaged buffer: %w", err)
		}
	}
	return to, nil
}

// handle gives the present file, so that heal can tell whether it was replaced.
func (q *Queue) handle() *bbolt.DB {
	q.dbMu.RLock()
	defer q.dbMu.RUnlock()
	return q.db
}

// heal replaces the file after a reader has found db damaged, unless another was first.
func (q *Queue) heal(db *bbolt.DB, cause error) error {
	q.commitMu.Lock()
	defer q.commitMu.Unlock()
	if q.handle() != db {
		return nil
	}
	return q.replaceFile(cause)
}

// replaceFile puts the damaged file aside while the queue runs. The old handle is left
// open: bbolt cannot be closed once a panic has left its locks taken. So it is done now
// and then only; in between the damage is an error. The caller holds commitMu.
func (q *Queue) replaceFile(cause error) error {
	if !q.replaced.IsZero() && time.Since(q.replaced) < replaceEvery {
		return fmt.Errorf("again within %s: %w", replaceEvery, cause)
	}
	q.replaced = time.Now()
	q.dbMu.Lock()
	defer q.dbMu.Unlock()
	to, err := quarantine(q.path)
	if err != nil {
		return err
	}
	q.mu.Lock()
	old, offsets, counters := q.st, maps.Clone(q.offsets), maps.Clone(q.counters)
	q.mu.Unlock()
	if err := q.openFile(census{}); err != nil {
		return fmt.Errorf("buffer %s: begin anew: %w", q.path, err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	// Numbers go on, so that an acknowledgement under way cannot hit a new record.
	q.st.next, q.st.lost, q.st.coalesced = old.next, old.lost, old.coalesced
	q.st.lost[LostDamage] += old.count[Urgent] + old.count[Normal]
	for _, c := range q.cursors {
		for l := range c.lane {
			m := old.next[l] - 1
			c.lane[l] = progress{mark: m, read: m, done: map[uint64]struct{}{}}
		}
	}
	q.offsets, q.counters, q.bad, q.acked, q.dirty = offsets, counters, nil, 0, true
	q.log.Warn("buffer is damaged and put aside", "path", q.path, "reason", cause, "quarantine", to)
	return nil
}
