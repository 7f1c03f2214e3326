package budget

import (
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"testing/fstest"
)

func files(m map[string]string) fs.FS {
	out := fstest.MapFS{}
	for name, text := range m {
		out[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return out
}

const (
	v2Mount = "30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
	v1Mount = "33 32 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n34 32 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
)

func TestReadControlGroups(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  Allowance
	}{
		"no control groups": {map[string]string{}, Allowance{}},
		"v2 unit": {map[string]string{
			"proc/self/cgroup":    "0::/system.slice/strata.service\n",
			"proc/self/mountinfo": v2Mount,
			"sys/fs/cgroup/system.slice/strata.service/memory.max": "67108864\n",
			"sys/fs/cgroup/system.slice/strata.service/cpu.max":    "50000 100000\n",
			"sys/fs/cgroup/system.slice/memory.max":                "max\n",
			"sys/fs/cgroup/system.slice/cpu.max":                   "max 100000\n",
		}, Allowance{Memory: 64 << 20, CPUs: 0.5, Version: 2, Dir: "/sys/fs/cgroup/system.slice/strata.service"}},
		"v2, the slice is narrower": {map[string]string{
			"proc/self/cgroup":                   "0::/a/b\n",
			"proc/self/mountinfo":                v2Mount,
			"sys/fs/cgroup/a/b/memory.max":       "max\n",
			"sys/fs/cgroup/a/memory.max":         "33554432\n",
			"sys/fs/cgroup/a/b/cpu.max":          "300000 100000\n",
			"sys/fs/cgroup/a/cpu.max":            "200000 100000\n",
			"sys/fs/cgroup/cgroup.controllers":   "cpu memory\n",
			"sys/fs/cgroup/a/cgroup.procs":       "",
			"sys/fs/cgroup/unrelated/memory.max": "1\n",
		}, Allowance{Memory: 32 << 20, CPUs: 2, Version: 2, Dir: "/sys/fs/cgroup/a/b"}},
		"v2 in a container's namespace": {map[string]string{
			"proc/self/cgroup":         "0::/\n",
			"proc/self/mountinfo":      "30 23 0:26 / /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n",
			"sys/fs/cgroup/memory.max": "41943040\n",
		}, Allowance{Memory: 40 << 20, Version: 2, Dir: "/sys/fs/cgroup"}},
		"v1": {map[string]string{
			"proc/self/cgroup":                                "5:cpu,cpuacct:/box\n4:memory:/box\n1:name=systemd:/x\n",
			"proc/self/mountinfo":                             v1Mount,
			"sys/fs/cgroup/memory/box/memory.limit_in_bytes":  "50331648\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes":      "9223372036854771712\n",
			"sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us":  "150000\n",
			"sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "100000\n",
			"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us":      "-1\n",
			"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us":     "100000\n",
		}, Allowance{Memory: 48 << 20, CPUs: 1.5, Version: 1, Dir: "/sys/fs/cgroup/memory/box"}},
		"v1, the host's path in a container": {map[string]string{
			"proc/self/cgroup":                           "4:memory:/docker/0123\n",
			"proc/self/mountinfo":                        "33 32 0:28 /docker/0123 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "50331648\n",
		}, Allowance{Memory: 48 << 20, Version: 1, Dir: "/sys/fs/cgroup/memory"}},
		"nonsense": {map[string]string{
			"proc/self/cgroup":         "\n::\n0::/\nx\n",
			"proc/self/mountinfo":      "a - b\n\n" + v2Mount,
			"sys/fs/cgroup/memory.max": "-5\n",
			"sys/fs/cgroup/cpu.max":    "1 0\n",
		}, Allowance{Version: 2, Dir: "/sys/fs/cgroup"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ReadFS(files(c.files))
			if err != nil || got != c.want {
				t.Errorf("got %+v, %v, want %+v", got, err, c.want)
			}
		})
	}
	a, err := Read() // this machine's, whatever they are
	if err != nil {
		t.Error(err)
	}
	t.Logf("here: %+v", a)
}

func TestDivide(t *testing.T) {
	for name, c := range map[string]struct {
		cfg   Config
		a     Allowance
		mem   int64
		bound string
	}{
		"defaults":            {Config{}, Allowance{}, 48 << 20, "default"},
		"unit of 64 MiB":      {Config{}, Allowance{Memory: 64 << 20}, 48 << 20, "default"},
		"unit of 56 MiB":      {Config{}, Allowance{Memory: 56 << 20}, 42 << 20, "cgroup"},
		"configuration":       {Config{Memory: 40 << 20}, Allowance{Memory: 1 << 30}, 40 << 20, "configuration"},
		"cgroup below config": {Config{Memory: 80 << 20}, Allowance{Memory: 64 << 20}, 48 << 20, "cgroup"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Divide(c.cfg, c.a)
			if err != nil {
				t.Fatal(err)
			}
			if p.Memory != c.mem || p.Bound != c.bound || p.Go+p.Model+p.Maps+p.Fixed != p.Memory {
				t.Errorf("%+v", p)
			}
			if c.a.Memory > 0 && p.Memory+p.Mapping > c.a.Memory {
				t.Errorf("%+v is over the group's %d", p, c.a.Memory)
			}
		})
	}
	if _, err := Divide(Config{Memory: 20 << 20}, Allowance{}); err == nil || !strings.Contains(err.Error(), "configuration") {
		t.Errorf("20 MiB leave too little for Go: %v", err)
	}
	if p, err := Divide(Config{Memory: 32 << 20, Model: -1}, Allowance{}); err != nil || p.Model != 0 {
		t.Errorf("without a model 32 MiB do: %+v, %v", p, err)
	}
	if _, err := Divide(Config{Memory: -1}, Allowance{}); err == nil {
		t.Error("negative sizes are refused")
	}
	for quota, want := range map[float64]int{0.2: 1, 1.5: 2, 0: min(2, runtime.NumCPU())} {
		if p, err := Divide(Config{}, Allowance{CPUs: quota}); err != nil || p.CPUs != min(want, runtime.NumCPU()) {
			t.Errorf("quota %g: %+v, %v", quota, p, err)
		}
	}
}

func TestApply(t *testing.T) {
	limit, procs := debug.SetMemoryLimit(-1), runtime.GOMAXPROCS(0)
	defer func() { debug.SetMemoryLimit(limit); runtime.GOMAXPROCS(procs) }()
	Plan{Go: 123 << 20, CPUs: 1}.Apply()
	if got := debug.SetMemoryLimit(-1); got != 123<<20 || runtime.GOMAXPROCS(0) != 1 {
		t.Errorf("limit %d, processors %d", got, runtime.GOMAXPROCS(0))
	}
}

func TestShed(t *testing.T) {
	order := Order()
	for i, s := range order {
		if s.Until >= s.At || (i > 0 && (s.At <= order[i-1].At || s.Until <= order[i-1].Until)) {
			t.Errorf("step %d: %+v", i, s)
		}
	}
	now := 0
	for _, c := range []struct {
		use  float64
		want int
	}{{0.5, 0}, {0.81, 1}, {0.79, 1}, {0.75, 1}, {0.69, 0}, {0.91, 3}, {0.84, 3}, {0.79, 2}, {1.2, 6}, {0.1, 0}} {
		if now = Shed(c.use, now); now != c.want {
			t.Errorf("at %g: %d steps, want %d", c.use, now, c.want)
		}
	}
	if Shed(0.1, 99) != 0 || Shed(0.85, -3) != 2 {
		t.Error("counts out of range are bounded")
	}
}

func TestSampler(t *testing.T) {
	s, err := NewSampler(func() int64 { return 7 << 20 }, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	before, err := s.Sample()
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 32<<20)
	for i := 0; i < len(block); i += 4096 {
		block[i] = 1
	}
	after, err := s.Sample()
	if err != nil {
		t.Fatal(err)
	}
	runtime.KeepAlive(block)
	// The race detector keeps a shadow of as much again.
	if d := after.Anon - before.Anon; d < 30<<20 || d > 80<<20 {
		t.Errorf("32 MiB more showed as %d", d)
	}
	if after.GoAll < 32<<20 || after.CPU <= 0 || after.File <= 0 || after.Maps != 7<<20 || after.Capped() < after.Anon+7<<20 {
		t.Errorf("%+v", after)
	}
	if n := testing.AllocsPerRun(50, func() { _, _ = s.Sample() }); n > 0 {
		t.Errorf("%v allocations a sample", n)
	}
}

func FuzzParseStatus(f *testing.F) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("RssAnon:\t 12 kB\nRssFile:\nRssShmem: 99999999999999999999 kB"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, c, d := parseStatus(b); a < 0 || c < 0 || d < 0 {
			t.Fatal(a, c, d)
		}
	})
}

func FuzzReadFS(f *testing.F) {
	f.Add("0::/a\n", v2Mount, "max", "max 100000")
	f.Add("4:memory:/../..\n5:cpu:/\n", v1Mount, "1", "x")
	f.Fuzz(func(t *testing.T, group, mounts, memory, cpu string) {
		a, err := ReadFS(files(map[string]string{
			"proc/self/cgroup": group, "proc/self/mountinfo": mounts,
			"sys/fs/cgroup/memory.max": memory, "sys/fs/cgroup/cpu.max": cpu, "sys/fs/cgroup/memory/memory.limit_in_bytes": memory,
		}))
		if err != nil || a.Memory < 0 || a.CPUs < 0 {
			t.Fatal(a, err)
		}
	})
}

func BenchmarkSample(b *testing.B) {
	s, err := NewSampler(nil, "")
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Sample(); err != nil {
			b.Fatal(err)
		}
	}
}

func ExampleDivide() {
	p, _ := Divide(Config{}, Allowance{Memory: 64 << 20, CPUs: 0.5})
	fmt.Printf("%d MiB: Go %d, model %d, maps %d, fixed %d; mapping %d; %d processor\n", p.Memory>>20, p.Go>>20, p.Model>>20, p.Maps>>20, p.Fixed>>20, p.Mapping>>20, p.CPUs)
	// Output: 48 MiB: Go 24, model 10, maps 10, fixed 4; mapping 16; 1 processor
}
