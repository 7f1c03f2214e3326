package budget

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"strconv"
	"strings"
)

// Allowance is what the control group gives to this process; 0 means no limit.
type Allowance struct {
	Memory  int64   // bytes: the lowest limit from the process's group up to the root
	CPUs    float64 // processors: quota over period, the lowest likewise
	Version int     // of the control groups: 2, 1, or 0 where there are none
	Dir     string  // the process's own memory group, for memory.peak; empty where unknown
}

// Files of cgroup v2 (Documentation/admin-guide/cgroup-v2.rst) and v1
// (admin-guide/cgroup-v1/memory.rst, scheduler/sched-bwc.rst).
const (
	v2Memory = "memory.max"
	v2CPU    = "cpu.max"
	v1Memory = "memory.limit_in_bytes"
	v1Quota  = "cpu.cfs_quota_us"
	v1Period = "cpu.cfs_period_us"

	// v1 writes "no limit" as the greatest multiple of a page, which differs with the
	// page size; no device of ours has a sixteenth of it.
	v1Unlimited = math.MaxInt64 >> 4
)

// Read finds what the control group of this process allows.
func Read() (Allowance, error) { return ReadFS(os.DirFS("/")) }

// ReadFS is Read on another root: proc/self/cgroup, proc/self/mountinfo and the groups'
// files are looked up under root.
func ReadFS(root fs.FS) (Allowance, error) {
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if errors.Is(err, fs.ErrNotExist) {
		return Allowance{}, nil // a kernel without control groups
	}
	if err != nil {
		return Allowance{}, fmt.Errorf("read control group: %w", err)
	}
	mounts, err := fs.ReadFile(root, "proc/self/mountinfo")
	if err != nil {
		return Allowance{}, fmt.Errorf("read control group mounts: %w", err)
	}
	var a Allowance
	for line := range bytes.Lines(groups) {
		id, rest, ok := strings.Cut(strings.TrimSpace(string(line)), ":")
		controllers, group, ok2 := strings.Cut(rest, ":")
		if !ok || !ok2 {
			continue
		}
		switch {
		case id == "0" && controllers == "":
			m, ok := findMount(mounts, "cgroup2", "")
			if ok {
				a.readV2(root, m, group)
			}
		case hasWord(controllers, "memory"):
			if m, ok := findMount(mounts, "cgroup", "memory"); ok {
				a.readV1Memory(root, m, group)
			}
		case hasWord(controllers, "cpu"):
			if m, ok := findMount(mounts, "cgroup", "cpu"); ok {
				a.readV1CPU(root, m, group)
			}
		}
	}
	return a, nil
}

// mount is one mounted hierarchy: where it is and which of its folders is there.
type mount struct{ point, root string }

// findMount looks for a file system of the type, with the option among its super options
// (proc_pid_mountinfo(5)).
func findMount(mountinfo []byte, fstype, option string) (mount, bool) {
	for line := range bytes.Lines(mountinfo) {
		left, right, ok := strings.Cut(strings.TrimSpace(string(line)), " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 6 || len(r) < 3 || r[0] != fstype || (option != "" && !hasWord(r[2], option)) {
			continue
		}
		return mount{point: unescape(l[4]), root: unescape(l[3])}, true
	}
	return mount{}, false
}

// unescape undoes mountinfo's octal escapes of space, tab, newline and backslash.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

func hasWord(list, word string) bool {
	for w := range strings.SplitSeq(list, ",") {
		if w == word {
			return true
		}
	}
	return false
}

// each calls fn with the folder of the group and of every group above it that is visible
// under the mount: a limit further up binds too.
func (m mount) each(group string, fn func(dir string)) {
	rel := strings.TrimPrefix(group, m.root)
	if m.root != "/" && rel == group {
		rel = "/" // in a container the path may be the host's: the mount is all we see
	}
	rel = path.Clean("/" + rel)
	for {
		fn(strings.TrimPrefix(path.Join(m.point, rel), "/"))
		if rel == "/" {
			return
		}
		rel = path.Dir(rel)
	}
}

func (a *Allowance) readV2(root fs.FS, m mount, group string) {
	a.Version = max(a.Version, 2)
	m.each(group, func(dir string) {
		if s, ok := word(root, dir, v2Memory); ok {
			if a.Dir == "" {
				a.Dir = "/" + dir
			}
			if n, err := strconv.ParseInt(s, 10, 64); err == nil {
				a.limitMemory(n)
			}
		}
		if b, err := fs.ReadFile(root, path.Join(dir, v2CPU)); err == nil {
			if f := strings.Fields(string(b)); len(f) == 2 {
				a.limitCPUs(f[0], f[1])
			}
		}
	})
}

func (a *Allowance) readV1Memory(root fs.FS, m mount, group string) {
	a.Version = max(a.Version, 1)
	m.each(group, func(dir string) {
		if s, ok := word(root, dir, v1Memory); ok {
			if a.Dir == "" {
				a.Dir = "/" + dir
			}
			if n, err := strconv.ParseInt(s, 10, 64); err == nil && n < v1Unlimited {
				a.limitMemory(n)
			}
		}
	})
}

func (a *Allowance) readV1CPU(root fs.FS, m mount, group string) {
	a.Version = max(a.Version, 1)
	m.each(group, func(dir string) {
		quota, ok := word(root, dir, v1Quota)
		period, ok2 := word(root, dir, v1Period)
		if ok && ok2 {
			a.limitCPUs(quota, period)
		}
	})
}

func (a *Allowance) limitMemory(n int64) {
	if n > 0 && (a.Memory == 0 || n < a.Memory) {
		a.Memory = n
	}
}

// limitCPUs reads "max" and -1 as no limit.
func (a *Allowance) limitCPUs(quota, period string) {
	q, err := strconv.ParseInt(quota, 10, 64)
	p, err2 := strconv.ParseInt(period, 10, 64)
	if err != nil || err2 != nil || q <= 0 || p <= 0 {
		return
	}
	if c := float64(q) / float64(p); a.CPUs == 0 || c < a.CPUs {
		a.CPUs = c
	}
}

func word(root fs.FS, dir, name string) (string, bool) {
	b, err := fs.ReadFile(root, path.Join(dir, name))
	return strings.TrimSpace(string(b)), err == nil
}
