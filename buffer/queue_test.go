package buffer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if handled, code := CheckMain(os.Args[1:]); handled {
		os.Exit(code)
	}
	if handled, code := helperMain(); handled {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// testClock is a clock that tests move.
type testClock struct{ s Stamp }

func (c *testClock) now() Stamp { return c.s }

func (c *testClock) advance(d time.Duration) {
	c.s.BootTime += d
	c.s.Wall = c.s.Wall.Add(d)
}

func newClock() *testClock {
	return &testClock{Stamp{Boot: "boot-1", BootTime: time.Hour, Wall: time.Unix(1_800_000_000, 0).UTC(), Synced: true}}
}

func open(t testing.TB, path string, opt Options) *Queue {
	t.Helper()
	q, rep, err := Open(path, opt)
	if err != nil {
		t.Fatal(err)
	}
	if rep.Damaged != "" {
		t.Fatalf("damaged: %s", rep.Damaged)
	}
	t.Cleanup(func() { q.Close() })
	return q
}

func put(t testing.TB, q *Queue, r ...Record) {
	t.Helper()
	if err := q.Put(context.Background(), r...); err != nil {
		t.Fatal(err)
	}
}

func sink(t testing.TB, q *Queue, name string) *Cursor {
	t.Helper()
	c, err := q.Sink(name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// take gives what is there now.
func take(t testing.TB, c *Cursor, limit int) []Item {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	items, err := c.Next(ctx, limit)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	return items
}

func payloads(items []Item) string {
	var s []string
	for _, it := range items {
		s = append(s, string(it.Payload))
	}
	return strings.Join(s, " ")
}

func ids(items []Item) []ID {
	out := make([]ID, len(items))
	for i := range items {
		out[i] = items[i].ID
	}
	return out
}

func rec(s string) Record        { return Record{Payload: []byte(s), Priority: Normal} }
func urgent(s string) Record     { return Record{Payload: []byte(s), Priority: Urgent} }
func keyed(key, s string) Record { return Record{Payload: []byte(s), Priority: Normal, Key: key} }

func want(t testing.TB, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func TestOrderAckRewind(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	q := open(t, path, Options{Sinks: []string{"a", "b"}})
	put(t, q, rec("n1"), rec("n2"), urgent("u1"), rec("n3"))
	a, b := sink(t, q, "a"), sink(t, q, "b")

	first := take(t, a, 2)
	want(t, "urgent first", payloads(first), "u1 n1")
	want(t, "the rest", payloads(take(t, a, 9)), "n2 n3")
	want(t, "nothing twice", payloads(take(t, a, 9)), "")
	a.Rewind()
	want(t, "after rewind", payloads(take(t, a, 9)), "u1 n1 n2 n3")
	if err := a.Ack(first[1].ID); err != nil { // out of order
		t.Fatal(err)
	}
	a.Rewind()
	rest := take(t, a, 9)
	want(t, "n1 is done", payloads(rest), "u1 n2 n3")
	if err := a.Ack(append(ids(rest), 4711)...); err != nil { // an unknown id is ignored
		t.Fatal(err)
	}
	put(t, q, rec("n4"))
	if s := q.Stats(); s.Normal != 4 || s.Urgent != 1 || s.Delivered != 0 {
		t.Errorf("b has nothing yet, all must be held: %+v", s)
	}
	want(t, "b", payloads(take(t, b, 9)), "u1 n1 n2 n3 n4")
	b.Rewind()
	if err := b.Ack(ids(take(t, b, 3))...); err != nil {
		t.Fatal(err)
	}
	put(t, q, rec("n5"))
	if s := q.Stats(); s.Normal != 3 || s.Urgent != 0 || s.Delivered != 3 {
		t.Errorf("u1 n1 n2 must be gone: %+v", s)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}

	q = open(t, path, Options{Sinks: []string{"a", "b"}})
	want(t, "a after restart", payloads(take(t, sink(t, q, "a"), 9)), "n4 n5")
	want(t, "b after restart", payloads(take(t, sink(t, q, "b"), 9)), "n3 n4 n5")
	q.Close()

	// A sink that is no longer configured must not hold records.
	q = open(t, path, Options{Sinks: []string{"a"}})
	c := sink(t, q, "a")
	if err := c.Ack(ids(take(t, c, 9))...); err != nil {
		t.Fatal(err)
	}
	q.Close()
	q = open(t, path, Options{Sinks: []string{"a"}})
	if s := q.Stats(); s.Normal != 0 || s.TotalLost() != 0 {
		t.Errorf("all delivered: %+v", s)
	}
}

func TestRunLingersAndUrgentGoesAtOnce(t *testing.T) {
	q := open(t, filepath.Join(t.TempDir(), FileName), Options{Linger: 150 * time.Millisecond})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- q.Run(ctx) }()
	for !q.isRunning() {
		time.Sleep(time.Millisecond)
	}
	start := time.Now()
	put(t, q, rec("n"))
	if d := time.Since(start); d < 140*time.Millisecond {
		t.Errorf("a normal record lingered %s only", d)
	}
	start = time.Now()
	put(t, q, urgent("u"))
	if d := time.Since(start); d > 120*time.Millisecond {
		t.Errorf("an urgent record waited %s", d)
	}
	before := q.Stats().Commits
	for i := range 40 {
		if err := q.Add(rec(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if s := q.Stats(); s.Normal != 41 || s.Commits-before > 3+1 {
		t.Errorf("40 records in %d commits, %d held", s.Commits-before, s.Normal)
	}
}

func (q *Queue) isRunning() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.running
}

func TestWaitingRoomIsBounded(t *testing.T) {
	q := open(t, filepath.Join(t.TempDir(), FileName), Options{})
	q.mu.Lock()
	q.running = true // nobody commits
	q.mu.Unlock()
	var err error
	for i := 0; err == nil && i < 2*maxWaiting; i++ {
		err = q.Add(rec("x"))
	}
	if !errors.Is(err, ErrWaiting) {
		t.Fatalf("got %v", err)
	}
	if s := q.Stats(); s.Waiting != maxWaiting || s.Lost[LostOverflow] != 1 {
		t.Errorf("%+v", s)
	}
}

func TestCoalesce(t *testing.T) {
	q := open(t, filepath.Join(t.TempDir(), FileName), Options{Sinks: []string{"a"}})
	put(t, q, keyed("f1", "one"))
	put(t, q, rec("open"), keyed("f2", "other"))
	put(t, q, keyed("f1", "two"))
	put(t, q, keyed("f1", "three"))
	a := sink(t, q, "a")
	items := take(t, a, 9)
	want(t, "latest only", payloads(items), "open other three")
	put(t, q, keyed("f1", "four")) // "three" is on its way
	if err := a.Ack(ids(items)...); err != nil {
		t.Fatal(err)
	}
	want(t, "then", payloads(take(t, a, 9)), "four")
	if s := q.Stats(); s.Coalesced != 3 || s.TotalLost() != 0 {
		t.Errorf("%+v", s)
	}
}

func TestExpiry(t *testing.T) {
	c := newClock()
	path := filepath.Join(t.TempDir(), FileName)
	q := open(t, path, Options{Now: c.now, MaxAge: 24 * time.Hour})
	put(t, q, rec("old"))
	c.advance(20 * time.Hour)
	put(t, q, urgent("newer"))
	c.advance(5 * time.Hour)
	q.expireNow()
	put(t, q, rec("now"))
	if s := q.Stats(); s.Lost[LostExpired] != 1 || s.Normal != 1 || s.Urgent != 1 {
		t.Errorf("same boot: %+v", s)
	}
	q.Close()

	// Another boot: the age is known only while both wall clocks can be trusted.
	c.s.Boot, c.s.BootTime, c.s.Synced = "boot-2", time.Minute, false
	c.s.Wall = time.Unix(0, 0)
	q = open(t, path, Options{Now: c.now, MaxAge: 24 * time.Hour})
	put(t, q, rec("unsynced"))
	if s := q.Stats(); s.Lost[LostExpired] != 1 {
		t.Errorf("an unset clock must expire nothing: %+v", s)
	}
	c.s.Synced, c.s.Wall = true, time.Unix(1_800_000_000, 0).Add(72*time.Hour)
	q.expireNow()
	put(t, q, rec("synced"))
	if s := q.Stats(); s.Lost[LostExpired] != 3 || s.Normal != 2 {
		t.Errorf("synced: %+v", s)
	}
}

func (q *Queue) expireNow() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.expiryDue = time.Time{}
}

func TestRedate(t *testing.T) {
	c := newClock()
	trueOffset := c.s.offset()
	c.s.Synced, c.s.Wall = false, time.Unix(1000, 0).UTC() // a lost clock
	path := filepath.Join(t.TempDir(), FileName)
	q := open(t, path, Options{Now: c.now, Sinks: []string{"a"}})
	put(t, q, rec("x"))
	it := take(t, sink(t, q, "a"), 1)[0]
	if it.Shift != 0 || it.Dated() {
		t.Errorf("before the sync: %+v", it)
	}
	q.SetClock("boot-1", trueOffset)
	n, err := q.Count("mqtt")
	if err != nil || n != 1 {
		t.Fatal(n, err)
	}
	q.Close()
	q = open(t, path, Options{Sinks: []string{"a"}}) // another boot
	it = take(t, sink(t, q, "a"), 1)[0]
	if got := it.Wall(); !got.Equal(time.Unix(1_800_000_000, 0)) || !it.Dated() || it.Stamp.Boot != "boot-1" {
		t.Errorf("after the sync: %s, %+v", got, it.Stamp)
	}
	for i := range 2 * maxClocks {
		q.SetClock(fmt.Sprint("boot-", i+10), time.Hour)
	}
	if n, err := q.Count("mqtt"); n != 2 || err != nil {
		t.Errorf("the counter goes on over restarts: %d, %v", n, err)
	}
	if n := len(q.offsets); n != maxClocks {
		t.Errorf("%d clocks are kept", n)
	}
	q.Close()
	open(t, path, Options{Sinks: []string{"a"}}).Close()
}

func TestNextWakesAndEnds(t *testing.T) {
	q := open(t, filepath.Join(t.TempDir(), FileName), Options{Sinks: []string{"a"}})
	got := make(chan error, 2)
	c := sink(t, q, "a")
	go func() {
		items, err := c.Next(context.Background(), 4)
		if err == nil && payloads(items) != "x" {
			err = fmt.Errorf("got %q", payloads(items))
		}
		got <- err
		_, err = c.Next(context.Background(), 4)
		got <- err
	}()
	time.Sleep(10 * time.Millisecond)
	put(t, q, rec("x"))
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	q.Close()
	if err := <-got; !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
	if err := q.Put(context.Background(), rec("late")); err == nil {
		t.Error("a closed buffer takes nothing")
	}
}

func TestOutstandingIsBounded(t *testing.T) {
	q := open(t, filepath.Join(t.TempDir(), FileName), Options{Sinks: []string{"a"}})
	rs := make([]Record, maxOutstanding+50)
	for i := range rs {
		rs[i] = rec(fmt.Sprint(i))
	}
	put(t, q, rs...)
	c := sink(t, q, "a")
	var all []Item
	for items := take(t, c, 100); len(items) > 0; items = take(t, c, 100) {
		all = append(all, items...)
	}
	if len(all) != maxOutstanding {
		t.Fatalf("%d handed out", len(all))
	}
	// All but the first: the first must still come again, and nothing be lost.
	if err := c.Ack(ids(all[1:])...); err != nil {
		t.Fatal(err)
	}
	c.Rewind()
	want(t, "only the open one fits", payloads(take(t, c, 100)), "0")
	if err := c.Ack(all[0].ID); err != nil {
		t.Fatal(err)
	}
	if n := len(take(t, c, 100)); n != 50 {
		t.Errorf("then %d", n)
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	q := open(t, path, Options{})
	put(t, q, rec("x"))
	for _, check := range [][]string{nil, SelfCheck()} {
		if _, rep, err := Open(path, Options{CheckCommand: check}); err == nil || rep.Quarantine != "" {
			t.Errorf("a file in use must be left alone: %v %+v", err, rep)
		}
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	dir := t.TempDir()
	for _, o := range []Options{
		{MaxBytes: 1000}, {MaxBytes: 1 << 20, Reserve: 1 << 20}, {Sinks: []string{""}},
		{Sinks: []string{"a", "b", "c", "d", "e"}},
	} {
		if _, _, err := Open(filepath.Join(dir, "x"), o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}
