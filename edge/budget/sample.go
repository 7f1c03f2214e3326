package budget

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/metrics"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Sample is what the process uses, in bytes unless said.
type Sample struct {
	Anon   int64         // resident anonymous memory (RssAnon: heap, stacks, cgo)
	File   int64         // resident file pages (RssFile: code, the buffer's mapping)
	Shmem  int64         // resident shared memory (RssShmem: ring buffers)
	Maps   int64         // kernel memory of BPF maps, as the given function says
	GoHeap int64         // in live and unswept objects
	GoAll  int64         // everything that Go holds: what GOMEMLIMIT is compared with
	CPU    time.Duration // user and system time since the start
	Peak   int64         // memory.peak of the control group; 0 where it cannot be read
}

// Capped is what the memory cap is compared with: anonymous and kernel memory.
func (s Sample) Capped() int64 { return s.Anon + s.Shmem + s.Maps }

// Sampler reads the figures. It allocates nothing after the first sample.
type Sampler struct {
	maps    func() int64
	peak    *os.File // nil where the control group has none
	status  *os.File
	buf     []byte
	metrics []metrics.Sample
}

// NewSampler opens what is read. maps gives the kernel memory of the BPF maps and may be
// nil; dir is Allowance.Dir.
func NewSampler(maps func() int64, dir string) (*Sampler, error) {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return nil, fmt.Errorf("sample memory: %w", err)
	}
	s := &Sampler{maps: maps, status: f, buf: make([]byte, 4096), metrics: []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
	}}
	if dir != "" {
		// cgroup v2 only, Linux 5.19.
		if p, err := os.Open(filepath.Join(dir, "memory.peak")); err == nil {
			s.peak = p
		}
	}
	return s, nil
}

// Close frees the files.
func (s *Sampler) Close() error {
	if s.peak != nil {
		s.peak.Close()
	}
	return s.status.Close()
}

// Sample reads the figures now.
func (s *Sampler) Sample() (Sample, error) {
	var out Sample
	n, err := s.status.ReadAt(s.buf, 0)
	if err != nil && err != io.EOF {
		return out, fmt.Errorf("sample memory: %w", err)
	}
	out.Anon, out.File, out.Shmem = parseStatus(s.buf[:n])
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
		return out, fmt.Errorf("sample processor time: %w", err)
	}
	out.CPU = time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
	metrics.Read(s.metrics)
	out.GoHeap = int64(s.metrics[0].Value.Uint64())
	out.GoAll = int64(s.metrics[1].Value.Uint64() - s.metrics[2].Value.Uint64())
	if s.maps != nil {
		out.Maps = s.maps()
	}
	if s.peak != nil {
		out.Peak = s.readPeak()
	}
	return out, nil
}

func (s *Sampler) readPeak() int64 {
	n, err := s.peak.ReadAt(s.buf, 0)
	if err != nil && err != io.EOF {
		return 0
	}
	v, _ := parseInt(s.buf[:n])
	return v
}

// parseStatus reads the three resident sizes of proc_pid_status(5), given in kB of 1024.
func parseStatus(b []byte) (anon, file, shmem int64) {
	for len(b) > 0 {
		line := b
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			line, b = b[:i], b[i+1:]
		} else {
			b = nil
		}
		var to *int64
		switch {
		case bytes.HasPrefix(line, []byte("RssAnon:")):
			to = &anon
		case bytes.HasPrefix(line, []byte("RssFile:")):
			to = &file
		case bytes.HasPrefix(line, []byte("RssShmem:")):
			to = &shmem
		default:
			continue
		}
		if kb, ok := parseInt(line[bytes.IndexByte(line, ':')+1:]); ok {
			*to = kb << 10
		}
	}
	return anon, file, shmem
}

// parseInt reads the first number of b.
func parseInt(b []byte) (int64, bool) {
	b = bytes.TrimLeft(b, " \t")
	i := 0
	for i < len(b) && b[i] >= '0' && b[i] <= '9' {
		i++
	}
	n, err := strconv.ParseInt(string(b[:i]), 10, 53)
	return n, err == nil
}
