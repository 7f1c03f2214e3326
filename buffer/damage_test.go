package buffer

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func helper(t *testing.T, mode, path, from string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "BUFFER_HELPER="+mode, "BUFFER_PATH="+path, "BUFFER_FROM="+from)
	cmd.Stderr = os.Stderr
	return cmd
}

// TestKill kills a writing process with SIGKILL again and again: every record whose Put
// returned must be there.
func TestKill(t *testing.T) {
	rounds := 25
	if testing.Short() {
		rounds = 5
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	path := filepath.Join(t.TempDir(), FileName)
	written := map[string]bool{}
	n := 0
	for range rounds {
		cmd := helper(t, "write", path, strconv.Itoa(n))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		lines.Scan() // it runs
		written[lines.Text()] = true
		time.AfterFunc(time.Duration(rnd.IntN(60))*time.Millisecond, func() { cmd.Process.Kill() })
		for lines.Scan() {
			written[lines.Text()] = true
		}
		cmd.Wait()
		n += 1_000_000
	}
	delete(written, "")
	start := time.Now()
	q := open(t, path, Options{Sinks: []string{"a"}, CheckCommand: SelfCheck()})
	t.Logf("%d kills, %d records put, opened in %s", rounds, len(written), time.Since(start))
	if len(written) < rounds {
		t.Fatalf("only %d records were written", len(written))
	}
	c := sink(t, q, "a")
	extra := 0
	for items := take(t, c, 64); len(items) > 0; items = take(t, c, 64) {
		for _, it := range items {
			if !written[string(it.Payload)] {
				extra++ // on the disk, killed before the line
			}
			delete(written, string(it.Payload))
		}
		if err := c.Ack(ids(items)...); err != nil {
			t.Fatal(err)
		}
	}
	if len(written) > 0 || extra > rounds*2 {
		t.Errorf("%d lost, %d more than said", len(written), extra)
	}
}

// sample makes a closed file with n records of both priorities and a freelist.
func sample(t testing.TB, n int) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sample")
	q := open(t, path, Options{Sinks: []string{"a"}})
	for i := range n {
		put(t, q, Record{Payload: []byte(fmt.Sprintf("%05d%s", i, strings.Repeat("x", 300))), Priority: Priority(i % 2)})
		if i%50 == 49 {
			c := sink(t, q, "a")
			if err := c.Ack(ids(take(t, c, 20))...); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDamagedFileIsPutAside(t *testing.T) {
	good := sample(t, 200)
	damage := map[string]func([]byte) []byte{
		"both metas": func(b []byte) []byte { clear(b[:2*pageSize]); return b },
		"truncated":  func(b []byte) []byte { return b[:len(b)/2/pageSize*pageSize] },
		"short":      func(b []byte) []byte { return b[:100] },
		"all pages": func(b []byte) []byte {
			for i := 2 * pageSize; i < len(b); i++ {
				b[i] ^= 0x5a
			}
			return b
		},
		"no database": func(b []byte) []byte { return bytes.Repeat([]byte("hello"), 5000) },
	}
	for name, f := range damage {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, FileName)
			for round := 1; round <= 2; round++ {
				if err := os.WriteFile(path, f(bytes.Clone(good)), 0o600); err != nil {
					t.Fatal(err)
				}
				q, rep, err := Open(path, Options{CheckCommand: SelfCheck(), Sinks: []string{"a"}})
				if err != nil {
					t.Fatal(err)
				}
				if rep.Damaged == "" || rep.Quarantine != fmt.Sprintf("%s.damaged-%d", path, round) {
					t.Errorf("report %+v", rep)
				}
				put(t, q, rec("new"))
				want(t, "begun anew", payloads(take(t, sink(t, q, "a"), 9)), "new")
				if q.Stats().Lost[LostFile] != 1 {
					t.Errorf("%+v", q.Stats())
				}
				q.Close()
			}
			if old, _ := filepath.Glob(path + ".damaged-*"); len(old) != 1 {
				t.Errorf("kept %v", old)
			}
		})
	}
}

func TestWrongCRCIsSkippedAndCounted(t *testing.T) {
	b := sample(t, 10)
	i := bytes.LastIndex(b, []byte("00007xxx"))
	if i < 0 {
		t.Fatal("record not found")
	}
	for at := 0; ; { // every copy of the record that is in the file
		j := bytes.Index(b[at:], []byte("00007xxx"))
		if j < 0 {
			break
		}
		b[at+j+20] ^= 1
		at += j + 1
	}
	path := filepath.Join(t.TempDir(), FileName)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	q := open(t, path, Options{Sinks: []string{"a"}, CheckCommand: SelfCheck()})
	items := take(t, sink(t, q, "a"), 20)
	if len(items) != 9 {
		t.Errorf("%d of 9", len(items))
	}
	if err := sink(t, q, "a").Ack(ids(items)...); err != nil {
		t.Fatal(err)
	}
	put(t, q, rec("next"))
	if s := q.Stats(); s.Lost[LostCRC] != 1 || s.Delivered != 9 || s.Normal+s.Urgent != 1 {
		t.Errorf("%+v", s)
	}
}

// TestDamageWhileRunning damages the pages under an open queue.
func TestDamageWhileRunning(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	q := open(t, path, Options{Sinks: []string{"a"}})
	for i := range 100 {
		put(t, q, rec(fmt.Sprintf("%03d%s", i, strings.Repeat("x", 300))))
	}
	c := sink(t, q, "a")
	before := take(t, c, 10)
	// The file is mapped shared: a write to it shows at once.
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xff}, int(st.Size())-2*pageSize), 2*pageSize); err != nil {
		t.Fatal(err)
	}
	put(t, q, rec("after"))
	s := q.Stats()
	if s.Lost[LostDamage] != 100 {
		t.Errorf("%+v", s)
	}
	if err := c.Ack(ids(before)...); err != nil { // of the old file
		t.Fatal(err)
	}
	want(t, "goes on", payloads(take(t, c, 10)), "after")
	if old, _ := filepath.Glob(path + ".damaged-*"); len(old) != 1 {
		t.Errorf("kept %v", old)
	}
}

// flipFor flips random bits in copies of a file and uses each, until the time is over.
// It gives how many there were of each outcome.
func flipFor(dir string, good []byte, seed uint64, limit int, until time.Time) (files, damaged, lost, whole, silent int, err error) {
	rnd := rand.New(rand.NewPCG(seed, 2))
	expect := -1 // records of the undamaged file, read first
	for files < limit && time.Now().Before(until) {
		b := bytes.Clone(good)
		for range min(expect+1, 1) * (1 + rnd.IntN(4)) {
			b[rnd.IntN(len(b))] ^= 1 << rnd.IntN(8)
		}
		path := filepath.Join(dir, "flip.db")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			return files, damaged, lost, whole, silent, err
		}
		q, rep, err := Open(path, Options{Sinks: []string{"a"}, CheckCommand: SelfCheck()})
		if err != nil {
			return files, damaged, lost, whole, silent, fmt.Errorf("file %d of seed %d: %w", files, seed, err)
		}
		files++
		c, err := q.Sink("a")
		if err != nil {
			return files, damaged, lost, whole, silent, err
		}
		if err := q.Put(context.Background(), Record{Payload: []byte("probe"), Priority: Normal}); err != nil {
			return files, damaged, lost, whole, silent, fmt.Errorf("file %d of seed %d: put: %w", files, seed, err)
		}
		probe, again, got := false, false, 0
		for !probe {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			items, err := c.Next(ctx, 64)
			cancel()
			if errors.Is(err, context.DeadlineExceeded) && q.Stats().Lost[LostDamage] > 0 && !again {
				// The damage showed at reading: the probe went with the file.
				again = true
				if err = q.Put(context.Background(), Record{Payload: []byte("probe"), Priority: Normal}); err == nil {
					continue
				}
			}
			if err != nil {
				return files, damaged, lost, whole, silent, fmt.Errorf("file %d of seed %d: next: %w", files, seed, err)
			}
			got += len(items)
			for _, it := range items {
				switch {
				case string(it.Payload) == "probe":
					probe = true
				case len(it.Payload) != 305:
					return files, damaged, lost, whole, silent, fmt.Errorf("file %d of seed %d: a damaged record of %d bytes came through", files, seed, len(it.Payload))
				}
			}
			if err := c.Ack(ids(items)...); err != nil {
				return files, damaged, lost, whole, silent, err
			}
		}
		q.commit()
		switch s := q.Stats(); {
		case rep.Damaged != "":
			damaged++
		case s.Lost[LostCRC]+s.Lost[LostDamage] > 0:
			lost++
		case expect >= 0 && got < expect:
			silent++
		default:
			whole++
			if expect < 0 {
				expect = got
			}
		}
		if err := q.Close(); err != nil {
			return files, damaged, lost, whole, silent, fmt.Errorf("file %d of seed %d: close: %w", files, seed, err)
		}
	}
	return files, damaged, lost, whole, silent, nil
}

func helperFlip(dir, seed string) int {
	good, err := os.ReadFile(filepath.Join(dir, "good"))
	if err != nil {
		return 2
	}
	n, err := strconv.ParseUint(seed, 10, 64)
	if err != nil {
		return 2
	}
	span, limit := 20*time.Second, 10_000
	if s := os.Getenv("BUFFER_FLIP"); s != "" {
		if span, err = time.ParseDuration(s); err != nil {
			return 2
		}
	}
	files, damaged, lost, whole, silent, err := flipFor(dir, good, n, limit, time.Now().Add(span))
	fmt.Printf("%d files: %d put aside, %d with counted losses, %d read whole, %d shorter without a word\n", files, damaged, lost, whole, silent)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	// What a flip in the newest meta page costs is the last commit, and cannot be seen.
	if silent > 5+files/200 {
		return 1
	}
	return 0
}

// TestBitFlips runs in a child: whatever the bits do, it must not die.
func TestBitFlips(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "good"), sample(t, 100), 0o600); err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	cmd := helper(t, "flip", dir, strconv.FormatUint(seed, 10))
	if testing.Short() && os.Getenv("BUFFER_FLIP") == "" {
		cmd.Env = append(cmd.Env, "BUFFER_FLIP=2s")
	}
	out, err := cmd.Output()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}
