//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/strata-edge/strata/cmd/strata-lab/internal/guest/wire"
)

// machine is the guest as its init sees it.
type machine struct {
	missing   []string
	processes map[string]*process
	adapters  map[string]*adapter
}

func newMachine() *machine {
	return &machine{processes: map[string]*process{}, adapters: map[string]*adapter{}}
}

// try notes a step that did not work: the host decides whether it matters.
func (m *machine) try(what string, err error) {
	if err != nil {
		m.missing = append(m.missing, fmt.Sprintf("%s: %v", what, err))
		fmt.Fprintf(os.Stderr, "lab-init: %s: %v\n", what, err)
	}
}

func (m *machine) setUp() {
	for _, mount := range []struct{ kind, at, options string }{
		{"proc", "/proc", ""},
		{"sysfs", "/sys", ""},
		{"devtmpfs", "/dev", ""},
		{"devpts", "/dev/pts", "ptmxmode=0666"},
		{"tmpfs", "/run", ""},
		{"tmpfs", "/tmp", ""},
		{"tracefs", "/sys/kernel/tracing", ""},
		{"bpf", "/sys/fs/bpf", ""},
		{"cgroup2", "/sys/fs/cgroup", ""},
	} {
		_ = os.MkdirAll(mount.at, 0o755)
		m.try("mount "+mount.at, unix.Mount(mount.kind, mount.at, mount.kind, 0, mount.options))
	}
	m.try("host name", unix.Sethostname([]byte("strata-guest")))
	m.try("load modules", m.loadModules("/lib/modules/order"))
	m.try("lo", up("lo", ""))
	m.try("eth0", up("eth0", "10.0.2.15/24"))
	// Held for as long as the guest runs: the counts are the proof that a program saw packets.
	if _, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME)); err != nil {
		m.try("BPF statistics", err)
	}
	m.try("disks", waitFor(10*time.Second, func() bool {
		return exists("/sys/block/nvme0n1") && exists("/sys/block/sda")
	}))
}

// loadModules inserts the files listed in order, dependencies first. A module that is
// built in or already there is no failure.
func (m *machine) loadModules(order string) error {
	f, err := os.Open(order)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		path := filepath.Join(filepath.Dir(order), lines.Text())
		if err := insert(path); err != nil && !errors.Is(err, unix.EEXIST) {
			m.try("module "+lines.Text(), err)
		}
	}
	return lines.Err()
}

func insert(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", 0)
}

// up gives the interface an address (none when empty) and raises it. There is no default
// route: the guest reaches the host and nothing else.
func up(name, cidr string) error {
	var l netlink.Link
	err := waitFor(10*time.Second, func() (ok bool) {
		var err error
		l, err = netlink.LinkByName(name)
		return err == nil
	})
	if err != nil {
		return err
	}
	if cidr != "" {
		a, err := netlink.ParseAddr(cidr)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(l, a); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(l)
}

func waitFor(limit time.Duration, ok func() bool) error {
	for end := time.Now().Add(limit); !ok(); {
		if time.Now().After(end) {
			return fmt.Errorf("not there after %v", limit)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (m *machine) hello() wire.Hello {
	var u unix.Utsname
	m.try("uname", unix.Uname(&u))
	h := wire.Hello{
		Kernel:  unix.ByteSliceToString(u.Release[:]),
		Machine: unix.ByteSliceToString(u.Machine[:]),
	}
	for _, dir := range []string{"/sys/block", "/sys/class/net"} {
		entries, err := os.ReadDir(dir)
		m.try("list "+dir, err)
		h.Devices = append(h.Devices, names(entries)...)
	}
	slices.Sort(h.Devices)
	h.Missing = m.missing
	return h
}

func names(entries []fs.DirEntry) (out []string) {
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "loop") && !strings.HasPrefix(e.Name(), "ram") {
			out = append(out, e.Name())
		}
	}
	return out
}
