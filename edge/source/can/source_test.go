package can

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-edge/strata/canbus"
	"github.com/strata-edge/strata/edge/diag"
	"github.com/strata-edge/strata/edge/matrix"
)

// pipe is a socket whose other end the test writes frames to.
type pipe struct {
	*canbus.Socket
	far int
	on  bool
}

func (p *pipe) Frames(on bool) error { p.on = on; return nil }

func (p *pipe) send(t testing.TB, id uint32, data ...byte) {
	t.Helper()
	b := make([]byte, canbus.FrameSize)
	binary.NativeEndian.PutUint32(b, id)
	b[4] = uint8(copy(b[8:], data))
	if _, err := unix.Write(p.far, b); err != nil {
		t.Fatal(err)
	}
}

func (p *pipe) fail(t testing.TB, class canbus.Class, data ...byte) {
	p.send(t, canbus.FlagError|uint32(class), append(data, make([]byte, 8-len(data))...)...)
}

type bench struct {
	*Source
	t     *testing.T
	links []canbus.Link
	err   error
	pipe  *pipe
	opens int
	seen  []string
}

func newBench(t *testing.T, names ...string) *bench {
	b := &bench{t: t, links: []canbus.Link{{
		Index: 3, Name: "can0", Kind: "can", Up: true, HasState: true, HasCounters: true, HasRestart: true, HasCounts: true,
		HasModes: true, Modes: canbus.ModeBusErrors,
	}}}
	b.Source = New(Config{
		Interfaces: names, Frames: 4, Now: func() diag.Time { return 1 },
		Links: func() ([]canbus.Link, error) { return slices.Clone(b.links), b.err },
		Open: func(string) (Socket, error) {
			b.opens++
			fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return nil, err
			}
			b.pipe = &pipe{Socket: canbus.NewSocket(fds[0]), far: fds[1]}
			t.Cleanup(func() { unix.Close(fds[1]) })
			return b.pipe, nil
		},
	})
	t.Cleanup(b.close)
	return b
}

func (b *bench) emit(g diag.Signal) {
	if g.Scope.Kind != diag.ScopeCAN {
		b.t.Errorf("signal on %s", g.Scope)
	}
	if g.Name == "counter.tx" || g.Name == "counter.rx" {
		return
	}
	line := fmt.Sprintf("%s=%g", g.Name, g.Value)
	for _, a := range g.Attrs {
		if a.Key == "reason" || a.Key == "can.restart" {
			line += " " + a.Value
		}
	}
	b.seen = append(b.seen, line)
}

func (b *bench) step() {
	b.tick(b.emit)
	b.arm(-1)
}

func (b *bench) pump() {
	b.t.Helper()
	if err := b.wait(0); err != nil {
		b.t.Fatal(err)
	}
	b.drain(b.emit)
}

func (b *bench) want(lines ...string) {
	b.t.Helper()
	if !slices.Equal(b.seen, lines) {
		b.t.Errorf("got  %q\nwant %q", b.seen, lines)
	}
	b.seen = nil
}

func TestErrorFrames(t *testing.T) {
	b := newBench(t)
	b.step()
	b.want()
	for range 3 {
		b.pipe.fail(t, canbus.ClassProtocol|canbus.ClassBusError, 0, 0, byte(canbus.ProtocolBit0), byte(canbus.LocationAck))
	}
	b.pipe.fail(t, canbus.ClassController, 0, byte(canbus.ControllerTxPassive))
	b.pump()
	b.want("state.passive=1") // at once; the rest with the interval
	b.links[0].State, b.links[0].Tx = canbus.StatePassive, 128
	b.links[0].Counts.BusErrors = 5 // two came while nobody could be told
	b.step()
	b.want("no_ack=3", "bit0=3", "bus_errors=5")
	b.pipe.fail(t, canbus.ClassBusOff)
	b.pump()
	b.want("state.passive=0", "state.bus_off=1 never by itself: restart-ms is 0")
	b.links[0].State, b.links[0].Tx = canbus.StateBusOff, 0
	b.step()
	b.want()
	b.links[0].State = canbus.StateActive
	b.links[0].Counts.Restarts = 1
	b.step()
	b.want("state.bus_off=0", "restarted=1")
}

func TestCounterProvesState(t *testing.T) {
	b := newBench(t)
	b.links[0].Tx = 128 // the driver says error-active all the same
	b.step()
	b.want("state.passive=1")
	b.links[0].Up = false
	b.step()
	b.want("state.passive=0")
}

func TestGoodFramesAreSampled(t *testing.T) {
	b := newBench(t)
	b.step()
	for range 6 {
		b.pipe.send(t, 0x123, 1, 2)
	}
	b.pipe.fail(t, canbus.ClassProtocol, 0, byte(0), byte(canbus.ProtocolStuff))
	b.pump()
	if b.pipe.on {
		t.Error("good frames are still let in after the sample")
	}
	b.links[0].Traffic.RxPackets = 1001
	b.step()
	b.want("stuff=1", "frames=1000")
	if !b.pipe.on {
		t.Error("good frames are not let in again")
	}
	// Packets without one good frame are error frames that an old driver counts as packets.
	b.links[0].Traffic.RxPackets = 5000
	b.step()
	b.want()
}

func TestObservability(t *testing.T) {
	b := newBench(t, "can0", "can9")
	b.step()
	b.want("unobservable=1 no such interface") // can9
	b.links[0].Modes = 0
	b.step()
	b.want("unobservable=1 bus-error reporting is off")
	b.links[0].HasCounters = false
	b.step()
	b.want("unobservable=1 no error counters, and bus-error reporting is off")
	b.links[0].Modes, b.links[0].HasCounters = canbus.ModeBusErrors, true
	b.step()
	b.want("unobservable=0")
	b.err = errors.New("netlink is out of reach")
	b.step()
	slices.Sort(b.seen)
	b.want("unobservable=1 the link cannot be read", "unobservable=1 the link cannot be read")
	b.err = nil
	b.links = nil
	b.step()
	slices.Sort(b.seen)
	b.want("unobservable=1 no such interface", "unobservable=1 no such interface")
}

func TestInterfaceComesAndGoes(t *testing.T) {
	b := newBench(t)
	b.links[0].State = canbus.StateBusOff
	b.step()
	b.want("state.bus_off=1 never by itself: restart-ms is 0")
	links := b.links
	b.links = nil
	b.step()
	b.want("state.bus_off=0")
	links[0].Index = 4
	b.links = links
	b.step()
	b.want("state.bus_off=1 never by itself: restart-ms is 0")
	if b.opens != 2 {
		t.Errorf("socket opened %d times, want 2", b.opens)
	}
	unix.Close(b.pipe.far) // reads as the end of the socket
	b.pipe.far = -1
	b.pump()
	b.step()
	if b.opens != 3 {
		t.Errorf("a broken socket was opened %d times, want 3", b.opens)
	}
}

// TestRun runs the loop itself: a frame must be told at once, and the end must join.
func TestRun(t *testing.T) {
	b := newBench(t)
	b.cfg.Interval = time.Minute
	opened, told := make(chan *pipe, 1), make(chan string, 8)
	open := b.cfg.Open
	b.cfg.Open = func(name string) (Socket, error) {
		s, err := open(name)
		opened <- b.pipe
		return s, err
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- b.Run(ctx, func(g diag.Signal) {
			if g.Name == "state.bus_off" {
				told <- g.Name
			}
		})
	}()
	p := <-opened
	start := time.Now()
	p.fail(t, canbus.ClassBusOff)
	select {
	case <-told:
		t.Logf("bus-off told after %s", time.Since(start))
	case <-time.After(10 * time.Second):
		t.Error("bus-off was not told before the next interval")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestFloodCostsNoAllocations(t *testing.T) {
	b := newBench(t)
	b.step()
	var signals atomic.Int64
	emit := func(diag.Signal) { signals.Add(1) }
	bus := b.buses["can0"]
	bus.frame = canbus.Frame{ID: canbus.FlagError | uint32(canbus.ClassProtocol|canbus.ClassBusError), Len: 8}
	bus.frame.Data[2], bus.frame.Data[3] = byte(canbus.ProtocolStuff), byte(canbus.LocationCRC)
	if n := testing.AllocsPerRun(1000, func() { bus.take(1, 4, emit) }); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
	if signals.Load() != 0 {
		t.Errorf("%d signals before the interval", signals.Load())
	}
}

func TestRulesCoverSignals(t *testing.T) {
	rules, err := matrix.Load("")
	if err != nil {
		t.Fatal(err)
	}
	names := append([]string{"unobservable", "dropped", "state.warning", "state.passive", "state.bus_off", "counter.tx", "counter.rx"}, countNames[:]...)
	for _, name := range names {
		got := 0
		rules.Map(diag.Signal{Source: sourceName, Name: name, Scope: diag.Device, Value: 1}, func(diag.Event) { got++ })
		if got != 1 {
			t.Errorf("%s maps to %d codes, want 1", name, got)
		}
	}
}
