package can

import (
	"strconv"

	"github.com/strata-edge/strata/canbus"
	"github.com/strata-edge/strata/edge/diag"
)

// The counts that error frames and the link give.
const (
	noAck = iota
	bit0
	bit1
	stuff
	form
	crc
	transceiver
	arbitration
	restarted
	busErrors
	txTimeout
	rxOverflow
	frames
	counts
)

var countNames = [counts]string{
	"no_ack", "bit0", "bit1", "stuff", "form", "crc", "transceiver", "arbitration_lost",
	"restarted", "bus_errors", "tx_timeout", "rx_overflow", "frames",
}

// bus is what the source remembers of one interface.
type bus struct {
	name   string
	scope  diag.Scope
	index  int32
	socket Socket
	frame  canbus.Frame

	listening bool // good frames come through the socket
	openErr   string
	drops     uint32

	known  bool // link holds the last reading
	link   canbus.Link
	count  [counts]uint64 // since the last report
	errors uint64         // error frames since the last report
	state  canbus.State
	why    string // what is unobservable, empty for nothing
	trx    canbus.Transceiver
	last   canbus.ErrorFrame
}

func newBus(name string) *bus {
	return &bus{name: name, scope: diag.Scope{Kind: diag.ScopeCAN, ID: name}}
}

func (b *bus) drop() {
	if b.socket != nil {
		_ = b.socket.Close()
	}
	b.socket, b.listening = nil, false
}

func (b *bus) listen() {
	if b.socket != nil && !b.listening {
		b.listening = b.socket.Frames(true) == nil
	}
}

// take adds one frame up. A change of state is told at once.
func (b *bus) take(now diag.Time, limit int, emit func(diag.Signal)) {
	if !b.frame.IsError() {
		b.count[frames]++
		if b.count[frames] >= uint64(limit) && b.listening && b.socket.Frames(false) == nil {
			b.listening = false
		}
		return
	}
	e, err := canbus.DecodeError(&b.frame)
	if err != nil {
		return
	}
	b.errors++
	b.last = e
	b.add(&e)
	switch {
	case e.Class&canbus.ClassBusOff != 0:
		b.to(now, emit, canbus.StateBusOff)
	case e.Controller&(canbus.ControllerRxPassive|canbus.ControllerTxPassive) != 0:
		b.to(now, emit, canbus.StatePassive)
	case e.Controller&(canbus.ControllerRxWarning|canbus.ControllerTxWarning) != 0:
		b.to(now, emit, canbus.StateWarning)
	case e.Controller&canbus.ControllerActive != 0:
		b.to(now, emit, canbus.StateActive)
	}
}

func (b *bus) add(e *canbus.ErrorFrame) {
	for _, c := range [...]struct {
		set   bool
		which int
	}{
		{e.NoAck(), noAck},
		{e.Protocol&canbus.ProtocolBit0 != 0, bit0},
		{e.Protocol&canbus.ProtocolBit1 != 0, bit1},
		{e.Protocol&canbus.ProtocolStuff != 0, stuff},
		{e.Protocol&canbus.ProtocolForm != 0, form},
		{e.CRC(), crc},
		{e.Class&canbus.ClassTransceiver != 0, transceiver},
		{e.Class&canbus.ClassArbitrationLost != 0, arbitration},
		{e.Class&canbus.ClassRestarted != 0, restarted},
		{e.Class&canbus.ClassBusError != 0, busErrors},
		{e.Class&canbus.ClassTxTimeout != 0, txTimeout},
		{e.Controller&canbus.ControllerRxOverflow != 0, rxOverflow},
	} {
		if c.set {
			b.count[c.which]++
		}
	}
	if e.Class&canbus.ClassTransceiver != 0 {
		b.trx = e.Transceiver
	}
}

func (b *bus) signal(now diag.Time, emit func(diag.Signal), name string, v float64, attrs ...diag.Attr) {
	emit(diag.Signal{Time: now, Source: sourceName, Name: name, Scope: b.scope, Value: v, Attrs: attrs})
}

// to reports a change of state: one state begins, the one before ends.
func (b *bus) to(now diag.Time, emit func(diag.Signal), next canbus.State) {
	if next == b.state {
		return
	}
	last := b.state
	b.state = next
	for _, s := range [...]struct {
		state canbus.State
		name  string
	}{
		{canbus.StateWarning, "state.warning"}, {canbus.StatePassive, "state.passive"}, {canbus.StateBusOff, "state.bus_off"},
	} {
		switch s.state {
		case next:
			attrs := []diag.Attr{{Key: "can.previous", Value: last.String()}}
			if next == canbus.StateBusOff && b.known && b.link.HasRestart && b.link.RestartMS == 0 {
				attrs = append(attrs, diag.Attr{Key: "can.restart", Value: "never by itself: restart-ms is 0"})
			}
			b.signal(now, emit, s.name, 1, attrs...)
		case last:
			b.signal(now, emit, s.name, 0)
		}
	}
}

// report gives what the link says and what was added up since the last report.
func (b *bus) report(now diag.Time, l *canbus.Link, emit func(diag.Signal)) {
	if b.known {
		b.advance(l)
	}
	b.link, b.known = *l, true
	switch {
	case l.Up && l.HasState && l.State <= canbus.StateBusOff:
		b.to(now, emit, l.Effective())
	case !l.Up:
		b.to(now, emit, canbus.StateStopped)
	}
	if l.HasCounters {
		b.signal(now, emit, "counter.tx", float64(l.Tx))
		b.signal(now, emit, "counter.rx", float64(l.Rx))
	}
	for i, n := range b.count {
		if n == 0 {
			continue
		}
		var attrs []diag.Attr
		switch i {
		case transceiver:
			attrs = []diag.Attr{{Key: "can.transceiver", Value: b.trx.String()}}
		case noAck, bit0, bit1, stuff, form, crc:
			attrs = []diag.Attr{
				{Key: "can.location", Value: b.last.Location.String()},
				{Key: "can.tx_errors", Value: strconv.Itoa(int(b.last.TxErrors))},
				{Key: "can.rx_errors", Value: strconv.Itoa(int(b.last.RxErrors))},
			}
		}
		b.signal(now, emit, countNames[i], float64(n), attrs...)
	}
	b.count, b.errors = [counts]uint64{}, 0
	if b.socket != nil {
		if n, err := b.socket.Dropped(); err == nil && n != b.drops {
			b.signal(now, emit, "dropped", float64(n-b.drops))
			b.drops = n
		}
	}
	if why := b.unseen(l); why != "" {
		b.blind(now, emit, why)
	} else if b.why != "" {
		b.why = ""
		b.signal(now, emit, "unobservable", 0)
	}
}

// advance takes the link's own counts, where they are more than came as frames.
func (b *bus) advance(l *canbus.Link) {
	if l.HasCounts && b.link.HasCounts {
		// Counters of 32 bits: the difference is right across a wrap.
		now, was := l.Counts, b.link.Counts
		for _, c := range [...]struct {
			which    int
			now, was uint32
		}{
			{busErrors, now.BusErrors, was.BusErrors},
			{arbitration, now.ArbitrationLost, was.ArbitrationLost},
			{restarted, now.Restarts, was.Restarts},
		} {
			b.count[c.which] = max(b.count[c.which], uint64(c.now-c.was))
		}
	}
	if n, was := l.Traffic.RxOver, b.link.Traffic.RxOver; n > was {
		b.count[rxOverflow] = max(b.count[rxOverflow], n-was)
	}
	// Drivers before Linux 5.17 count error frames as packets too, so packets prove
	// nothing by themselves: they count once the socket has seen its share of good frames.
	if n, was := l.Traffic.RxPackets, b.link.Traffic.RxPackets; n > was+b.errors && b.count[frames] > 0 {
		b.count[frames] = max(b.count[frames], n-was-b.errors)
	}
}

// unseen says what this controller does not show; empty where it shows all. An interface
// that is down or has no bus behind it shows what there is.
func (b *bus) unseen(l *canbus.Link) string {
	switch {
	case !l.Up || l.Virtual():
		return ""
	case b.socket == nil:
		return "no error frames: " + b.openErr
	case l.Kind != "can" || !l.HasState:
		return "the driver reports no state"
	case !l.HasCounters && !l.BusErrorReporting():
		return "no error counters, and bus-error reporting is off"
	case !l.BusErrorReporting():
		return "bus-error reporting is off"
	case !l.HasCounters:
		return "no error counters"
	}
	return ""
}

func (b *bus) blind(now diag.Time, emit func(diag.Signal), why string) {
	if b.why == why {
		return
	}
	b.why = why
	b.signal(now, emit, "unobservable", 1, diag.Attr{Key: "reason", Value: why})
}

// end reports every state that holds as over: the interface is gone.
func (b *bus) end(now diag.Time, emit func(diag.Signal)) {
	b.to(now, emit, canbus.StateStopped)
	if b.why != "" {
		b.why = ""
		b.signal(now, emit, "unobservable", 0)
	}
}
