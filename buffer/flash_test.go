package buffer

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// written gives the bytes that this process has handed to write calls (wchar of
// proc_pid_io(5)); bbolt writes its pages so.
func written(t *testing.T) int64 {
	t.Helper()
	b, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Skip("no I/O accounting in this kernel: ", err)
	}
	for line := range bytes.Lines(b) {
		if v, ok := strings.CutPrefix(string(line), "wchar: "); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Skip("no wchar in /proc/self/io")
	return 0
}

// TestFlashBytesADay measures what the buffer writes in a day, with one sink that is
// connected, and holds it to what docs state. A finding is an opening report of 800 B
// and two more of 250 B here, each a record of its own commit: at these rates no two come
// within the linger.
func TestFlashBytesADay(t *testing.T) {
	for _, rate := range []int{1, 10, 100} {
		limit := int64(rate) * 24 * 3 * 14 << 10 // 2026-11: 12.2 KiB a commit measured
		hours := min(24, 480/rate)
		q := open(t, filepath.Join(t.TempDir(), FileName), Options{Sinks: []string{"a"}})
		c := sink(t, q, "a")
		before, commits := written(t), q.Stats().Commits
		for i := range hours * rate {
			open := urgent(strings.Repeat("o", 800))
			update := keyed(fmt.Sprint(i), strings.Repeat("u", 250))
			for _, r := range []Record{open, update, rec(strings.Repeat("r", 250))} {
				put(t, q, r)
				if err := c.Ack(ids(take(t, c, 16))...); err != nil {
					t.Fatal(err)
				}
			}
		}
		day := (written(t) - before) * 24 / int64(hours)
		t.Logf("%3d findings an hour: %.1f MiB a day, %.1f KiB a finding, %.1f KiB a commit", rate, float64(day)/(1<<20),
			float64(day)/float64(24*rate)/1024, float64(written(t)-before)/float64(q.Stats().Commits-commits)/1024)
		if day > limit {
			t.Errorf("%d findings an hour write %d bytes a day, over %d", rate, day, limit)
		}
	}
}

// TestFlashBurst holds a burst to 2 KiB a finding.
func TestFlashBurst(t *testing.T) {
	q := open(t, filepath.Join(t.TempDir(), FileName), Options{Sinks: []string{"a"}})
	c := sink(t, q, "a")
	const n = 4096
	before := written(t)
	for range n / ackBatch {
		batch := make([]Record, ackBatch)
		for i := range batch {
			batch[i] = rec(strings.Repeat("x", 400))
		}
		put(t, q, batch...)
		if err := c.Ack(ids(take(t, c, ackBatch))...); err != nil {
			t.Fatal(err)
		}
	}
	each := float64(written(t)-before) / n
	t.Logf("%.0f bytes a finding of 400 B in bursts", each)
	if each > 2048 {
		t.Errorf("%.0f bytes a finding are over 2048", each)
	}
}
