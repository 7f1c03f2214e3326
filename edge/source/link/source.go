package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-edge/strata/edge/diag"
)

// Limits and defaults.
const (
	defaultInterval = 2 * time.Second
	minInterval     = 200 * time.Millisecond
	maxPorts        = 64
	receiveBuffer   = 1 << 20          // a burst of changes while the agent is held up
	addressGrace    = 30 * time.Second // DHCP and duplicate address detection take their time
	typeCAN         = 280              // ARPHRD_CAN: another source's
	sourceName      = "link"
)

// Config says what to watch. Zero fields take the defaults.
type Config struct {
	Interfaces []string         // empty: every port with hardware behind it
	Interval   time.Duration    // between two readings of the counters; default 2 s
	Sys        fs.FS            // sysfs; default /sys
	Now        func() diag.Time // event time; default CLOCK_BOOTTIME
	Log        *slog.Logger     // default: discards

	// Addresses says how many IP addresses of any kind an interface has; default asks the kernel.
	Addresses func(index int) (int, error)
}

// Source watches network ports.
type Source struct {
	cfg     Config
	ports   map[int32]*port
	lower   map[int32]bool // ports that others stand on, as of this dump
	dump    uint64         // number of the dump that is under way
	waiting bool           // its end has not come yet
	full    bool           // more ports than are watched
}

// New gives a Source; Run does the work.
func New(cfg Config) *Source {
	if cfg.Interval <= 0 {
		cfg.Interval = defaultInterval
	}
	cfg.Interval = max(cfg.Interval, minInterval)
	if cfg.Sys == nil {
		cfg.Sys = os.DirFS("/sys")
	}
	if cfg.Now == nil {
		cfg.Now = bootTime
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Addresses == nil {
		cfg.Addresses = addresses
	}
	return &Source{cfg: cfg, ports: map[int32]*port{}, lower: map[int32]bool{}}
}

func bootTime() diag.Time {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return diag.Time(ts.Nano())
}

func addresses(index int) (int, error) {
	i, err := net.InterfaceByIndex(index)
	if err != nil {
		return 0, err
	}
	a, err := i.Addrs()
	return len(a), err
}

// Run watches until ctx ends and returns nil then.
func (s *Source) Run(ctx context.Context, emit func(diag.Signal)) error {
	f, err := listen()
	if err != nil {
		return fmt.Errorf("link source: %w", err)
	}
	defer f.Close()
	told := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = f.SetReadDeadline(time.Unix(1, 0))
		close(told)
	})
	defer func() {
		if !stop() {
			<-told
		}
	}()
	buf := make([]byte, 64<<10)
	next := time.Now()
	for {
		if !time.Now().Before(next) {
			if err := s.ask(f); err != nil {
				return fmt.Errorf("link source: %w", err)
			}
			next = time.Now().Add(s.cfg.Interval)
		}
		if err := f.SetReadDeadline(next); err != nil {
			return fmt.Errorf("link source: set deadline: %w", err)
		}
		if ctx.Err() != nil { // after the deadline was set, or the end could be missed
			return nil
		}
		n, err := f.Read(buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			continue
		case errors.Is(err, unix.ENOBUFS):
			// Changes were lost: the counters of the next dump hold what happened.
			s.cfg.Log.Debug("link source: changes overflowed, reading all links again")
			s.waiting, next = false, time.Now()
			continue
		case err != nil:
			return fmt.Errorf("link source: receive: %w", err)
		}
		s.take(buf[:n], emit)
	}
}

func listen() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	// Best effort: the kernel caps it at rmem_max, and an overflow is handled.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("subscribe to link changes: %w", err)
	}
	return os.NewFile(uintptr(fd), "netlink"), nil
}

// ask requests a dump, unless one is under way.
func (s *Source) ask(f *os.File) error {
	if s.waiting {
		s.waiting = false // its end got lost: the next one is asked for in any case
		return nil
	}
	b := make([]byte, headerLen+infoLen)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], unix.RTM_GETLINK)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	s.dump++
	binary.NativeEndian.PutUint32(b[8:], uint32(s.dump))
	clear(s.lower)
	if _, err := f.Write(b); err != nil {
		return fmt.Errorf("ask for links: %w", err)
	}
	s.waiting = true
	return nil
}

// take works through what one receive gave.
func (s *Source) take(b []byte, emit func(diag.Signal)) {
	now := s.cfg.Now()
	done, err := decode(b, func(m *message) { s.update(now, m, emit) })
	if err != nil {
		s.cfg.Log.Warn("link source", "err", err)
		s.waiting = false
		return
	}
	if done {
		s.waiting = false
		s.settle(now, emit)
	}
}

func (s *Source) watched(m *message) bool {
	if m.kind == typeCAN || m.flags&unix.IFF_LOOPBACK != 0 {
		return false
	}
	if len(s.cfg.Interfaces) > 0 {
		return slices.Contains(s.cfg.Interfaces, m.name)
	}
	_, err := fs.Stat(s.cfg.Sys, "class/net/"+m.name+"/device")
	return err == nil
}

func (s *Source) update(now diag.Time, m *message, emit func(diag.Signal)) {
	if m.lower != 0 && !m.gone {
		s.lower[m.lower] = true
	}
	p := s.ports[m.index]
	if p != nil && (m.gone || p.name != m.name) {
		p.end(now, emit)
		delete(s.ports, m.index)
		p = nil
	}
	if m.gone {
		return
	}
	if p == nil {
		if !s.watched(m) {
			return
		}
		if len(s.ports) >= maxPorts {
			if !s.full {
				s.cfg.Log.Warn("too many ports, the rest is not watched", "watched", maxPorts)
			}
			s.full = true
			return
		}
		p = &port{name: m.name, scope: diag.Scope{Kind: diag.ScopeIf, ID: m.name}}
		s.ports[m.index] = p
	}
	p.dump = s.dump
	p.update(now, m, emit)
}

// settle is done at the end of each dump: what does not come as a link message.
func (s *Source) settle(now diag.Time, emit func(diag.Signal)) {
	for index, p := range s.ports {
		if p.dump != s.dump {
			p.end(now, emit)
			delete(s.ports, index)
			continue
		}
		half := p.last.up() && p.last.carrier() && s.attribute(p.name, "duplex") == "half"
		var attrs []diag.Attr
		if half {
			attrs = []diag.Attr{{Key: "link.speed", Value: s.attribute(p.name, "speed")}}
		}
		p.state(now, emit, "half_duplex", &p.half, half, attrs...)
		s.address(now, index, p, emit)
	}
}

// address watches for a port that has lost its last address. Ports of a bridge or bond
// and ports under a VLAN need none; of the others, one that never had an address counts
// only where the configuration names it.
func (s *Source) address(now diag.Time, index int32, p *port, emit func(diag.Signal)) {
	if !p.last.up() || !p.last.carrier() || p.last.master != 0 || s.lower[index] {
		p.bare = 0
		p.state(now, emit, "address_none", &p.none, false)
		return
	}
	n, err := s.cfg.Addresses(int(index))
	if err != nil {
		return
	}
	if n > 0 {
		p.bare, p.had = 0, true
		p.state(now, emit, "address_none", &p.none, false)
		return
	}
	if p.bare == 0 {
		p.bare = now
	}
	expected := p.had || slices.Contains(s.cfg.Interfaces, p.name)
	if expected && now.Sub(p.bare) >= addressGrace {
		p.state(now, emit, "address_none", &p.none, true)
	}
}

func (s *Source) attribute(name, attr string) string {
	b, err := fs.ReadFile(s.cfg.Sys, "class/net/"+name+"/"+attr)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
