package link

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/strata-edge/strata/edge/diag"
	"github.com/strata-edge/strata/edge/matrix"
	"github.com/strata-edge/strata/internal/testreq"
)

const (
	upCarrier = unix.IFF_UP | unix.IFF_LOWER_UP
	upOnly    = unix.IFF_UP
)

func attr(kind uint16, v []byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(len(v)+4))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, v...)
	return append(b, make([]byte, (4-len(b)%4)%4)...)
}

func u32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

type change struct {
	kind, family uint16
	flags        uint32
	name         string
	stats        map[int]uint64 // by position in rtnl_link_stats64
	changes      uint32
	downs        uint32
	extra        []byte
}

func (c change) bytes() []byte {
	p := []byte{byte(c.family), 0, 1, 0}
	if c.kind == 0 {
		c.kind = unix.RTM_NEWLINK
	}
	binary.NativeEndian.PutUint16(p[2:], 1)
	p = append(p, u32(7)...)
	p = append(p, u32(c.flags)...)
	p = append(p, u32(0)...)
	if c.name != "" {
		p = append(p, attr(unix.IFLA_IFNAME, append([]byte(c.name), 0))...)
	}
	if c.stats != nil {
		s := make([]byte, 24*8)
		for i, v := range c.stats {
			binary.NativeEndian.PutUint64(s[8*i:], v)
		}
		p = append(p, attr(unix.IFLA_STATS64, s)...)
	}
	p = append(p, attr(unix.IFLA_CARRIER_CHANGES, u32(c.changes))...)
	p = append(p, attr(unix.IFLA_CARRIER_DOWN_COUNT, u32(c.downs))...)
	p = append(p, c.extra...)
	return message16(c.kind, p)
}

func message16(kind uint16, p []byte) []byte {
	b := u32(uint32(16 + len(p)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, make([]byte, 10)...)
	return append(b, p...)
}

type watcher struct {
	*Source
	t    *testing.T
	now  time.Duration
	sys  fstest.MapFS
	addr int
	seen []string
}

func watch(t *testing.T, names ...string) *watcher {
	w := &watcher{t: t, addr: 1, sys: fstest.MapFS{"class/net/eth0/device": {}}}
	w.Source = New(Config{Interfaces: names, Sys: w.sys, Now: func() diag.Time { return diag.Time(w.now + time.Hour) },
		Addresses: func(int) (int, error) { return w.addr, nil }})
	return w
}

func (w *watcher) emit(g diag.Signal) {
	w.seen = append(w.seen, fmt.Sprintf("%s %s=%g", g.Scope, g.Name, g.Value))
}

func (w *watcher) want(lines ...string) {
	w.t.Helper()
	if !slices.Equal(w.seen, lines) {
		w.t.Errorf("got  %q\nwant %q", w.seen, lines)
	}
	w.seen = nil
}

func (w *watcher) dumped(c change) {
	w.dump++
	w.take(c.bytes(), w.emit)
	w.take(message16(unix.NLMSG_DONE, u32(0)), w.emit)
}

func TestCarrier(t *testing.T) {
	w := watch(t)
	base := change{name: "eth0", flags: upCarrier, changes: 3, downs: 1}
	step := func(flags uint32, changes, downs uint32) {
		c := base
		c.flags, c.changes, c.downs = flags, changes, downs
		w.take(c.bytes(), w.emit)
	}
	step(upCarrier, 3, 1)
	w.want() // what was before is no news
	step(upOnly, 4, 2)
	w.want("if:eth0 carrier_lost=1", "if:eth0 carrier_changes=1")
	step(upCarrier, 5, 2)
	w.want("if:eth0 carrier_changes=1")
	step(upCarrier, 9, 4) // two flaps between two messages
	w.want("if:eth0 carrier_lost=2", "if:eth0 carrier_changes=4")
	step(0, 10, 5) // an administrator takes it down
	step(upOnly, 10, 5)
	step(upCarrier, 11, 5)
	w.want("if:eth0 carrier_changes=1")
	// Other families and nameless messages say nothing about the link.
	w.take(change{name: "eth0", family: unix.AF_BRIDGE, kind: unix.RTM_DELLINK}.bytes(), w.emit)
	w.take(change{flags: upOnly}.bytes(), w.emit)
	step(upCarrier, 11, 5)
	w.want()
	w.take(change{name: "eth1", flags: upCarrier}.bytes(), w.emit)
	w.take(change{name: "eth1", flags: upOnly, downs: 1}.bytes(), w.emit)
	w.want() // no hardware behind it
}

func TestCounters(t *testing.T) {
	w := watch(t)
	w.take(change{name: "eth0", flags: upCarrier, stats: map[int]uint64{12: 100, 13: 5}}.bytes(), w.emit)
	w.want()
	w.take(change{name: "eth0", flags: upCarrier, stats: map[int]uint64{5: 1, 9: 2, 12: 104, 13: 6, 15: 3, 20: 4}}.bytes(), w.emit)
	w.want("if:eth0 rx_crc_errors=4", "if:eth0 rx_frame_errors=1", "if:eth0 rx_missed=3", "if:eth0 tx_errors=1",
		"if:eth0 collisions=2", "if:eth0 late_collisions=4")
	w.take(change{name: "eth0", flags: upCarrier}.bytes(), w.emit) // without statistics
	w.take(change{name: "eth0", flags: upCarrier, stats: map[int]uint64{12: 105, 5: 1, 9: 2, 13: 6, 15: 3, 20: 4}}.bytes(), w.emit)
	w.want("if:eth0 rx_crc_errors=1")
	w.take(change{name: "eth0", flags: upCarrier, stats: map[int]uint64{}}.bytes(), w.emit) // reset
	w.want()
}

func TestDuplexAndAddress(t *testing.T) {
	w := watch(t)
	up := change{name: "eth0", flags: upCarrier}
	w.dumped(up)
	w.sys["class/net/eth0/duplex"] = &fstest.MapFile{Data: []byte("half\n")}
	w.dumped(up)
	w.want("if:eth0 half_duplex=1")
	w.addr = 0
	w.dumped(up)
	w.now += 29 * time.Second
	w.dumped(up)
	w.want()
	w.now += time.Second
	w.dumped(up)
	w.want("if:eth0 address_none=1")
	w.addr = 1
	w.dumped(up)
	w.want("if:eth0 address_none=0")
	w.addr = 0
	w.now += time.Minute
	up.extra = attr(unix.IFLA_MASTER, u32(3)) // a bridge port needs no address
	w.dumped(up)
	w.now += time.Minute
	w.dumped(up)
	w.want()
	w.dump++
	w.take(message16(unix.NLMSG_DONE, u32(0)), w.emit) // gone
	w.want("if:eth0 half_duplex=0")
}

func TestRulesCoverSignals(t *testing.T) {
	rules, err := matrix.Load("")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"carrier_lost", "carrier_changes", "rx_crc_errors", "rx_frame_errors", "rx_missed", "tx_errors",
		"collisions", "late_collisions", "half_duplex", "address_none",
	} {
		got := 0
		rules.Map(diag.Signal{Source: sourceName, Name: name, Scope: diag.Device, Value: 1}, func(diag.Event) { got++ })
		if got != 1 {
			t.Errorf("%s maps to %d codes, want 1", name, got)
		}
	}
}

// TestRealKernel pulls the other end of a veth pair in a namespace of its own.
func TestRealKernel(t *testing.T) {
	testreq.Root(t, "netns")
	type stamped struct {
		line string
		at   time.Time
	}
	signals, failed, steps := make(chan stamped, 64), make(chan string, 1), make(chan func() error)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ready := make(chan struct{})
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its namespace
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			failed <- "make a network namespace: " + err.Error()
			return
		}
		h, err := netlink.NewHandle()
		if err != nil {
			failed <- err.Error()
			return
		}
		pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "devlnk0"}, PeerName: "devlnk1"}
		if err := h.LinkAdd(pair); err != nil {
			failed <- "make a veth pair: " + err.Error()
			return
		}
		peer, _ := h.LinkByName("devlnk1")
		if err := h.LinkSetUp(pair); err != nil {
			failed <- err.Error()
			return
		}
		if err := h.LinkSetUp(peer); err != nil {
			failed <- err.Error()
			return
		}
		go func() { // the handle's socket stays in the namespace
			for _, f := range []func() error{
				func() error { return h.LinkSetDown(peer) }, func() error { return h.LinkSetUp(peer) },
				func() error { return h.LinkSetDown(pair) },
			} {
				steps <- f
			}
			close(steps)
		}()
		close(ready)
		s := New(Config{Interfaces: []string{"devlnk0"}, Sys: os.DirFS(t.TempDir()), Interval: 300 * time.Millisecond})
		if err := s.Run(ctx, func(g diag.Signal) {
			signals <- stamped{fmt.Sprintf("%s=%g", g.Name, g.Value), time.Now()}
		}); err != nil {
			failed <- err.Error()
		}
		close(signals)
	}()
	select {
	case why := <-failed:
		testreq.Missing(t, "netns", why)
	case <-ready:
	}
	time.Sleep(500 * time.Millisecond) // past the first dump
	var got []string
	var pulled time.Time
	for f := range steps {
		if pulled.IsZero() {
			pulled = time.Now()
		}
		if err := f(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(700 * time.Millisecond)
	}
	cancel()
	for s := range signals {
		got = append(got, s.line)
		if s.line == "carrier_lost=1" {
			t.Logf("carrier loss told after %s", s.at.Sub(pulled))
		}
	}
	lost := 0
	for _, g := range got {
		if strings.HasPrefix(g, "carrier_lost") {
			lost++
		}
	}
	if lost != 1 {
		t.Errorf("carrier lost was told %d times in %q, want once: the last step was planned", lost, got)
	}
}

func FuzzMessage(f *testing.F) {
	f.Add(change{name: "eth0", flags: upCarrier, stats: map[int]uint64{12: 4}}.bytes())
	f.Add(message16(unix.NLMSG_ERROR, u32(0xffffffff)))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = decode(b, func(m *message) {
			if m.name == "" {
				t.Fatal("a message without a name")
			}
		})
	})
}

func BenchmarkMessage(b *testing.B) {
	m := change{name: "eth0", flags: upCarrier, stats: map[int]uint64{12: 4}}.bytes()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decode(m, func(*message) {}); err != nil {
			b.Fatal(err)
		}
	}
}
