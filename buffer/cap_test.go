package buffer

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/strata-edge/strata/internal/testreq"
)

func TestCapReserveAndEviction(t *testing.T) {
	const limit = 1 << 20
	path := filepath.Join(t.TempDir(), FileName)
	q := open(t, path, Options{MaxBytes: limit, Sinks: []string{"a"}})
	body := strings.Repeat("x", 400)
	batch := func(n int, r func(string) Record) {
		for i := 0; i < n; i += 64 {
			rs := make([]Record, 64)
			for j := range rs {
				rs[j] = r(fmt.Sprintf("%06d%s", i+j, body))
			}
			put(t, q, rs...)
		}
	}
	batch(64*40, rec)
	s := q.Stats()
	if s.Lost[LostEvicted] == 0 || s.Normal+s.Lost[LostEvicted] != 64*40 || !s.Full {
		t.Fatalf("normal records beyond the cap: %+v", s)
	}
	held := s.Normal
	batch(64*4, urgent)
	if s = q.Stats(); s.Normal != held || s.Urgent != 64*4 || s.Lost[LostEvictedUrgent] != 0 {
		t.Errorf("the reserve must take urgent ones: %+v", s)
	}
	first := take(t, sink(t, q, "a"), 256)
	want(t, "the oldest urgent one is there", string(first[0].Payload[:6]), "000000")
	batch(64*40, urgent)
	s = q.Stats()
	if s.Normal != 0 || s.Lost[LostEvictedUrgent] == 0 || s.Urgent+s.Lost[LostEvictedUrgent] != 64*44 {
		t.Errorf("urgent ones displace normal ones, then the oldest urgent: %+v", s)
	}
	put(t, q, rec("late"))
	if s = q.Stats(); s.FileBytes > limit {
		t.Errorf("file of %d bytes is over %d", s.FileBytes, limit)
	}
	t.Logf("%d records of 406 B held in a file of %d bytes (%.0f %% payload)", s.Urgent, s.FileBytes, 100*float64(s.Urgent)*406/float64(s.FileBytes))
	if err := q.Put(context.Background(), rec(strings.Repeat("y", MaxRecord+1))); err == nil || q.Stats().Lost[LostTooLarge] != 1 {
		t.Errorf("an oversized record: %v", err)
	}
	// Whatever is held can be taken, and the room used again.
	a := sink(t, q, "a")
	a.Rewind()
	n := 0
	for items := take(t, a, 64); len(items) > 0; items = take(t, a, 64) {
		n += len(items)
		if err := a.Ack(ids(items)...); err != nil {
			t.Fatal(err)
		}
	}
	if uint64(n) != s.Urgent+s.Normal {
		t.Errorf("took %d of %d", n, s.Urgent+s.Normal)
	}
}

// TestFileCap takes the accounting's limit away: the cap of the file itself must hold, and
// the queue go on at it.
func TestFileCap(t *testing.T) {
	for _, limit := range []int64{1 << 20, 8 << 20} {
		q := open(t, filepath.Join(t.TempDir(), FileName), Options{MaxBytes: limit, Sinks: []string{"a"}})
		q.limit, q.normalLimit = 1<<40, limit/2
		rs := make([]Record, 64)
		for round := range int(limit >> 14) {
			for i := range rs {
				rs[i] = rec(strings.Repeat("x", 400))
				rs[i].Priority = Priority(1 - round/int(limit>>16)%2)
			}
			put(t, q, rs...)
		}
		s := q.Stats()
		if s.FileBytes > limit || s.FileBytes < limit*3/4 || s.Lost[LostEvicted] == 0 || s.Lost[LostEvictedUrgent] == 0 || s.Lost[LostWrite] != 0 {
			t.Errorf("%+v", s)
		}
		t.Logf("%d records of 400 B held in a file of %d bytes, lost %v", s.Normal+s.Urgent, s.FileBytes, s.Lost)
	}
}

func TestSmallerCapThanFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	fill := func(q *Queue, rounds int) {
		rs := make([]Record, 64)
		for i := range rs {
			rs[i] = rec(strings.Repeat("x", 400))
		}
		for range rounds {
			put(t, q, rs...)
		}
	}
	q := open(t, path, Options{MaxBytes: 4 << 20})
	fill(q, 200)
	size := q.Stats().FileBytes
	q.Close()
	q = open(t, path, Options{MaxBytes: 1 << 20})
	fill(q, 50)
	if s := q.Stats(); s.Bytes > s.Limit || s.Lost[LostWrite]+s.Lost[LostDamage] > 0 || s.FileBytes > size+(256<<10) {
		t.Errorf("file was %d bytes: %+v", size, s)
	}
}

// TestFullFileSystem fills the file system under the queue.
func TestFullFileSystem(t *testing.T) {
	testreq.Root(t, "root")
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		testreq.Missing(t, "root", "cannot mount a tmpfs: "+err.Error())
	}
	t.Cleanup(func() { unix.Unmount(dir, 0) })
	q := open(t, filepath.Join(dir, FileName), Options{Sinks: []string{"a"}})
	t.Cleanup(func() { q.Close() }) // before the unmount
	rs := make([]Record, 64)
	for i := range rs {
		rs[i] = rec(strings.Repeat("x", 400))
	}
	refused := 0
	for range 120 {
		if err := q.Put(context.Background(), rs...); err != nil {
			refused++
			if !errors.Is(err, unix.ENOSPC) {
				t.Fatal(err)
			}
		}
	}
	s := q.Stats()
	t.Logf("%d of 120 puts refused, lost %v, held %d", refused, s.Lost, s.Normal)
	if s.Lost[LostEvicted]+s.Lost[LostWrite] == 0 || (refused > 0) != (s.Lost[LostWrite] > 0) {
		t.Errorf("%+v", s)
	}
	c := sink(t, q, "a")
	n := uint64(0)
	for items := take(t, c, 64); len(items) > 0; items = take(t, c, 64) {
		n += uint64(len(items))
		if err := c.Ack(ids(items)...); err != nil && !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
	}
	if n != s.Normal {
		t.Errorf("took %d of %d", n, s.Normal)
	}
}

func TestLossesOutliveTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	q := open(t, path, Options{MaxBytes: minBytes})
	for range 60 {
		rs := make([]Record, 64)
		for i := range rs {
			rs[i] = rec(strings.Repeat("x", 400))
		}
		put(t, q, rs...)
	}
	lost := q.Stats().Lost
	q.Close()
	q = open(t, path, Options{MaxBytes: minBytes})
	if got := q.Stats().Lost; got != lost || lost[LostEvicted] == 0 {
		t.Errorf("lost %v, after restart %v", lost, got)
	}
}
