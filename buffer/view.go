package buffer

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// The view's protocol, on a unix socket of mode 0600: the client writes "list\n" or
// "follow\n"; the server writes frames (length of the record, id, shift; little endian;
// then the record as it is stored) and an empty frame where the list ends. With "follow"
// frames of new records come after it.
const (
	maxViewers   = 4
	viewChunk    = 64
	viewDeadline = 10 * time.Second
	viewPoll     = time.Second
	frameHead    = 4 + 8 + 8

	requestList   = "list"
	requestFollow = "follow"
)

// Serve answers viewers on the unix socket at path until the context ends. A socket that
// an earlier process left behind is replaced. It joins its viewers before it returns.
func (q *Queue) Serve(ctx context.Context, path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("serve buffer view: %w", err)
	}
	// Bound under a private name first: nobody can connect before the mode is set.
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("serve buffer view: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return fmt.Errorf("serve buffer view: %w", err)
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	if err := os.Chmod(tmp, 0o600); err != nil {
		return fmt.Errorf("serve buffer view: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("serve buffer view: %w", err)
	}
	defer func() { _ = os.Remove(path) }() // a socket left behind is replaced at the next start
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()

	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, maxViewers)
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("serve buffer view: %w", err)
		}
		select {
		case slots <- struct{}{}:
		default:
			conn.Close() // a fifth viewer
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
			defer conn.Close()
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			defer stop()
			if err := q.answer(ctx, conn); err != nil && ctx.Err() == nil {
				q.log.Debug("buffer viewer ended", "error", err)
			}
		})
	}
}

func (q *Queue) answer(ctx context.Context, conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(viewDeadline)); err != nil {
		return err
	}
	line, err := bufio.NewReaderSize(io.LimitReader(conn, 16), 16).ReadString('\n')
	if err != nil {
		return err
	}
	line = strings.TrimSuffix(line, "\n")
	if line != requestList && line != requestFollow {
		return fmt.Errorf("unknown request %q", line)
	}
	var at [lanes]uint64
	q.mu.Lock()
	recent := slices.Clone(q.recent.items)
	q.mu.Unlock()
	for _, d := range recent {
		if err := q.frame(conn, d.id, d.value); err != nil {
			return err
		}
		at[d.id.lane()] = max(at[d.id.lane()], d.id.seq())
	}
	if err := q.stream(conn, &at); err != nil {
		return err
	}
	if err := q.frame(conn, 0, nil); err != nil || line == requestList {
		return err
	}
	// A viewer sends nothing more: the read ends when it goes away.
	gone, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer conn.Close()
	wg.Go(func() {
		defer cancel()
		_, _ = conn.Read(make([]byte, 1)) // any end is an end
	})
	for {
		q.mu.Lock()
		changed, closed := q.changed, q.closed
		q.mu.Unlock()
		if closed {
			return nil
		}
		if err := q.stream(conn, &at); err != nil {
			return err
		}
		select {
		case <-gone.Done():
			return nil
		case <-changed:
		}
	}
}

// stream writes the records behind at, oldest first over both priorities, in chunks: a
// slow viewer must not hold a transaction, which would keep pages from being used again.
func (q *Queue) stream(conn net.Conn, at *[lanes]uint64) error {
	for {
		var chunk []delivered
		err := q.view(func(t tx) error {
			chunk = t.merge(at, viewChunk, chunk)
			return nil
		})
		if err != nil || len(chunk) == 0 {
			return err
		}
		if err := conn.SetWriteDeadline(time.Now().Add(viewDeadline)); err != nil {
			return err
		}
		for _, d := range chunk {
			if err := q.frame(conn, d.id, d.value); err != nil {
				return err
			}
		}
	}
}

func (q *Queue) frame(w io.Writer, id ID, value []byte) error {
	var shift time.Duration
	if len(value) > 0 {
		if it, err := decodeRecord(id, value); err == nil {
			q.mu.Lock()
			shift = shiftOf(it.Stamp, q.offsets)
			q.mu.Unlock()
		}
	}
	b := make([]byte, 0, frameHead+len(value))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(value)))
	b = binary.LittleEndian.AppendUint64(b, uint64(id))
	b = binary.LittleEndian.AppendUint64(b, uint64(shift))
	_, err := w.Write(append(b, value...))
	return err
}

// merge appends up to limit intact records behind at, ordered by boot time within the
// two priorities' own order, and moves at on.
func (t tx) merge(at *[lanes]uint64, limit int, out []delivered) []delivered {
	var cur [lanes]*bbolt.Cursor
	var k, v [lanes][]byte
	var it [lanes]Item
	step := func(l Priority, first bool) {
		for {
			if first {
				var from [8]byte
				binary.BigEndian.PutUint64(from[:], at[l]+1)
				cur[l] = t.Bucket(laneBuckets[l]).Cursor()
				k[l], v[l] = cur[l].Seek(from[:])
				first = false
			} else {
				k[l], v[l] = cur[l].Next()
			}
			if k[l] == nil {
				return
			}
			if len(k[l]) != 8 || binary.BigEndian.Uint64(k[l]) >= maxSeq {
				continue
			}
			var err error
			if it[l], err = decodeRecord(makeID(l, binary.BigEndian.Uint64(k[l])), v[l]); err == nil {
				return
			}
		}
	}
	for l := range lanes {
		step(l, true)
	}
	for len(out) < limit {
		l := Urgent
		switch {
		case k[Urgent] == nil && k[Normal] == nil:
			return out
		case k[Urgent] == nil:
			l = Normal
		case k[Normal] != nil && it[Normal].Stamp.Wall.Before(it[Urgent].Stamp.Wall):
			l = Normal
		}
		out = append(out, delivered{it[l].ID, slices.Clone(v[l])})
		at[l] = it[l].ID.seq()
		step(l, false)
	}
	return out
}

// View gives fn every record that the buffer in the state folder dir holds, oldest
// first, and the last ones that were delivered where the agent runs. With follow it goes
// on with new ones until the context ends, over restarts of the agent. check is as
// Options.CheckCommand.
func View(ctx context.Context, dir string, follow bool, check []string, fn func(Item) error) error {
	v := viewer{fn: fn, follow: follow}
	for {
		err := v.dial(ctx, filepath.Join(dir, SocketName))
		if errors.Is(err, errNoAgent) && !v.listed {
			err = v.file(filepath.Join(dir, FileName), check)
		}
		// Not there yet, or between the agent's end and its next start.
		if err != nil && !errors.Is(err, errNoAgent) && !errors.Is(err, errLocked) {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		if !follow && !errors.Is(err, errLocked) {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(viewPoll):
		}
	}
}

var errNoAgent = errors.New("no agent answers")

type viewer struct {
	fn     func(Item) error
	follow bool
	listed bool          // the records held have been given once
	last   [lanes]uint64 // given so far
}

// give passes an item on once.
func (v *viewer) give(it Item) error {
	if it.ID.seq() <= v.last[it.Priority] {
		return nil
	}
	v.last[it.Priority] = it.ID.seq()
	return v.fn(it)
}

func (v *viewer) dial(ctx context.Context, path string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		if errors.Is(err, os.ErrPermission) {
			return fmt.Errorf("view buffer: %w", err)
		}
		return errNoAgent
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	request := requestList
	if v.follow {
		request = requestFollow
	}
	if _, err := fmt.Fprintln(conn, request); err != nil {
		return errNoAgent
	}
	r := bufio.NewReader(conn)
	for {
		it, end, err := readFrame(r)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrRecord):
			return fmt.Errorf("view buffer: %w", err)
		case err != nil && v.follow:
			return errNoAgent // it went away; a later one goes on
		case err != nil:
			return fmt.Errorf("view buffer: the agent broke off: %w", err)
		case end:
			v.listed = true
			if !v.follow {
				return nil
			}
		default:
			if err := v.give(it); err != nil {
				return err
			}
		}
	}
}

// readFrame reads one frame; end says that it was the one that ends the list.
func readFrame(r io.Reader) (it Item, end bool, err error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return Item{}, false, err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n == 0 {
		return Item{}, true, nil
	}
	if n > recordHead+maxBoot+maxKey+MaxRecord {
		return Item{}, false, fmt.Errorf("%w: frame of %d bytes", ErrRecord, n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return Item{}, false, err
	}
	it, err = decodeRecord(ID(binary.LittleEndian.Uint64(head[4:])), b)
	it.Shift = time.Duration(binary.LittleEndian.Uint64(head[12:]))
	return it, false, err
}

// file reads the buffer of an agent that does not run.
func (v *viewer) file(path string, check []string) error {
	st, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) || (err == nil && st.Size() == 0) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("view buffer: %w", err)
	}
	if _, err := checkFile(path, check); err != nil {
		return fmt.Errorf("view buffer %s: %w", path, err)
	}
	err = guard(func() error {
		db, err := bbolt.Open(path, 0o600, boltOptions(0, true))
		if errors.Is(err, berrors.ErrTimeout) {
			return errLocked
		}
		if err != nil {
			return err
		}
		defer db.Close()
		return db.View(func(t *bbolt.Tx) error { return v.list(tx{t}) })
	})
	if err != nil {
		return fmt.Errorf("view buffer %s: %w", path, err)
	}
	v.listed = true
	return nil
}

func (v *viewer) list(t tx) error {
	for _, name := range append(laneBuckets[:], metaBucket) {
		if t.Bucket(name) == nil {
			return nil // begun and nothing put
		}
	}
	var st state
	offsets := map[string]time.Duration{}
	t.loadMeta(&st, map[string][lanes]uint64{}, offsets, map[string]uint64{})
	var at [lanes]uint64
	for {
		chunk := t.merge(&at, viewChunk, nil)
		if len(chunk) == 0 {
			return nil
		}
		for _, d := range chunk {
			it, err := decodeRecord(d.id, d.value)
			if err != nil {
				return err
			}
			it.Shift = shiftOf(it.Stamp, offsets)
			if err := v.give(it); err != nil {
				return err
			}
		}
	}
}
