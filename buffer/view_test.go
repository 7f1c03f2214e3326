package buffer

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func view(t *testing.T, dir string) string {
	t.Helper()
	var got []Item
	if err := View(context.Background(), dir, false, SelfCheck(), func(it Item) error { got = append(got, it); return nil }); err != nil {
		t.Fatal(err)
	}
	return payloads(got)
}

func serve(t *testing.T, q *Queue, dir string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	path := filepath.Join(dir, SocketName)
	go func() { done <- q.Serve(ctx, path) }()
	for range 1000 {
		if _, err := os.Stat(path); err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestViewWithAndWithoutAgent(t *testing.T) {
	dir := t.TempDir()
	c := newClock()
	want(t, "nothing yet", view(t, dir), "")
	q := open(t, filepath.Join(dir, FileName), Options{Sinks: []string{"a"}, Now: c.now})
	for _, r := range []Record{rec("1"), urgent("2"), rec("3")} {
		put(t, q, r)
		c.advance(time.Second)
	}
	stop := serve(t, q, dir)
	if st, err := os.Stat(filepath.Join(dir, SocketName)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", st, err)
	}
	want(t, "agent runs", view(t, dir), "1 2 3")
	a := sink(t, q, "a")
	if err := a.Ack(ids(take(t, a, 2))...); err != nil {
		t.Fatal(err)
	}
	put(t, q, rec("4"))
	if s := q.Stats(); s.Delivered != 2 {
		t.Fatalf("%+v", s)
	}
	got := strings.Fields(view(t, dir))
	if len(got) != 4 {
		t.Errorf("delivered and held: %q", got)
	}
	stop()
	q.Close()
	want(t, "no agent", view(t, dir), "3 4")
}

func TestViewFollowsOverRestarts(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, FileName)
	q := open(t, path, Options{Sinks: []string{"a"}})
	put(t, q, rec("1"))
	q.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	got := make(chan string, 16)
	done := make(chan error, 1)
	go func() {
		done <- View(ctx, dir, true, SelfCheck(), func(it Item) error { got <- string(it.Payload); return nil })
	}()
	expect := func(s string) {
		t.Helper()
		select {
		case g := <-got:
			want(t, "follow", g, s)
		case <-ctx.Done():
			t.Fatalf("waited for %q", s)
		}
	}
	expect("1")
	for _, s := range []string{"2", "3"} {
		q = open(t, path, Options{Sinks: []string{"a"}})
		stop := serve(t, q, dir)
		put(t, q, rec(s))
		expect(s)
		put(t, q, urgent(s+"u"))
		expect(s + "u")
		stop()
		q.Close()
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestServeBoundsViewersAndRequests(t *testing.T) {
	dir := t.TempDir()
	q := open(t, filepath.Join(dir, FileName), Options{})
	stop := serve(t, q, dir)
	defer stop()
	dial := func() net.Conn {
		conn, err := net.Dial("unix", filepath.Join(dir, SocketName))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	bad := dial()
	if _, err := bad.Write([]byte("delete everything\n")); err != nil {
		t.Fatal(err)
	}
	if n, err := bad.Read(make([]byte, 1)); err == nil {
		t.Errorf("an unknown request got %d bytes", n)
	}
	time.Sleep(20 * time.Millisecond)
	for range maxViewers {
		dial()
	}
	time.Sleep(20 * time.Millisecond)
	fifth := dial()
	if err := fifth.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := fifth.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("a fifth viewer: %v", err)
	}
}
