package canbus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// State is the controller's error state (enum can_state).
type State uint32

// The states.
const (
	StateActive State = iota
	StateWarning
	StatePassive
	StateBusOff
	StateStopped
	StateSleeping
)

var stateNames = [...]string{"error-active", "error-warning", "error-passive", "bus-off", "stopped", "sleeping"}

// String names the state as the field's tools do.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state(%d)", uint32(s))
}

// Controller modes (linux/can/netlink.h).
const (
	ModeLoopback     = 0x01
	ModeListenOnly   = 0x02
	ModeOneShot      = 0x08
	ModeBusErrors    = 0x10
	ModeFD           = 0x20
	ModePresumeAck   = 0x40
	typeCAN          = 280 // ARPHRD_CAN
	msgNewLink       = 16
	msgDone          = 3
	msgError         = 2
	headerLen        = 16
	infoLen          = 16
	attrHeader       = 4
	attrTypeMask     = 0x3fff
	iflaIfname       = 3
	iflaMTU          = 4
	iflaLinkinfo     = 18
	iflaStats64      = 23
	infoKind         = 1
	infoData         = 2
	infoXstats       = 3
	canBittiming     = 1
	canClock         = 3
	canState         = 4
	canCtrlmode      = 5
	canRestartMillis = 6
	canBerrCounter   = 8
	canDataTiming    = 9
	canTermination   = 11
)

// BitTiming is struct can_bittiming.
type BitTiming struct {
	Bitrate     uint32 // bit/s
	SamplePoint uint32 // tenths of a per cent
	Quantum     uint32 // ns
	PropSeg     uint32 // quanta, like the next three
	PhaseSeg1   uint32
	PhaseSeg2   uint32
	SJW         uint32
	Prescaler   uint32
}

// Counts is struct can_device_stats: they count since the device was made and wrap at 2^32.
type Counts struct {
	BusErrors, Warnings, Passives, BusOffs, ArbitrationLost, Restarts uint32
}

// Traffic is what Strata uses of rtnl_link_stats64.
type Traffic struct {
	RxPackets, TxPackets, RxErrors, TxErrors, RxDropped, RxOver uint64
}

// Link is one CAN interface.
type Link struct {
	Index       int32
	Name        string
	Kind        string // "can", "vcan", "vxcan", "slcan"; empty where the driver has none
	Up          bool   // IFF_UP
	MTU         uint32
	State       State
	HasState    bool
	Tx, Rx      uint16 // error counters, where HasCounters
	HasCounters bool
	RestartMS   uint32 // 0: no restart after bus-off by itself
	HasRestart  bool
	Modes       uint32 // flags of Mode…
	HasModes    bool
	Timing      *BitTiming
	DataTiming  *BitTiming
	Clock       uint32 // Hz
	Termination uint16 // ohm, 0 off or not known
	Counts      Counts
	HasCounts   bool
	Traffic     Traffic
}

// Virtual says whether no bus is behind the interface.
func (l *Link) Virtual() bool { return l.Kind == "vcan" || l.Kind == "vxcan" }

// BusErrorReporting says whether the controller makes a frame for each bus error.
func (l *Link) BusErrorReporting() bool { return l.HasModes && l.Modes&ModeBusErrors != 0 }

// Effective gives the worse of the state that the driver reports and the one that the
// counters prove: some drivers stay error-active with a counter of 128.
func (l *Link) Effective() State {
	if !l.HasState || l.State > StatePassive || !l.HasCounters {
		return l.State
	}
	return max(l.State, StateOf(l.Tx, l.Rx))
}

// StateOf gives the state that error counters stand for (linux/can/error.h). Bus-off
// cannot be told from counters: drivers read eight bits.
func StateOf(tx, rx uint16) State {
	switch n := max(tx, rx); {
	case n >= 128:
		return StatePassive
	case n >= 96:
		return StateWarning
	}
	return StateActive
}

var errTruncated = errors.New("truncated")

// attributes walks netlink attributes.
func attributes(b []byte, each func(kind uint16, v []byte) error) error {
	for len(b) >= attrHeader {
		n := int(binary.NativeEndian.Uint16(b))
		if n < attrHeader || n > len(b) {
			return fmt.Errorf("attribute of %d bytes in %d: %w", n, len(b), errTruncated)
		}
		if err := each(binary.NativeEndian.Uint16(b[2:])&attrTypeMask, b[attrHeader:n]); err != nil {
			return err
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	if len(b) != 0 {
		return fmt.Errorf("%d bytes behind the last attribute: %w", len(b), errTruncated)
	}
	return nil
}

func text(v []byte) string { return strings.TrimRight(string(v), "\x00") }

// words reads a structure of u32 fields; a longer one is of a newer kernel.
func words(v []byte, into ...*uint32) error {
	if len(v) < 4*len(into) {
		return fmt.Errorf("%d bytes, want %d: %w", len(v), 4*len(into), errTruncated)
	}
	for i, p := range into {
		*p = binary.NativeEndian.Uint32(v[4*i:])
	}
	return nil
}

// DecodeLink reads the payload of one RTM_NEWLINK message (struct ifinfomsg and its
// attributes). ok is false for a link that is no CAN interface.
func DecodeLink(b []byte) (l Link, ok bool, err error) {
	if len(b) < infoLen {
		return l, false, fmt.Errorf("link message: %d bytes, want at least %d: %w", len(b), infoLen, errTruncated)
	}
	if binary.NativeEndian.Uint16(b[2:]) != typeCAN {
		return l, false, nil
	}
	l.Index = int32(binary.NativeEndian.Uint32(b[4:]))
	l.Up = binary.NativeEndian.Uint32(b[8:])&1 != 0
	err = attributes(b[infoLen:], func(kind uint16, v []byte) error {
		switch kind {
		case iflaIfname:
			l.Name = text(v)
		case iflaMTU:
			return field("mtu", words(v, &l.MTU))
		case iflaStats64:
			return field("statistics", l.traffic(v))
		case iflaLinkinfo:
			return field("link info", l.info(v))
		}
		return nil
	})
	if err != nil {
		return Link{}, false, fmt.Errorf("link message: %w", err)
	}
	if l.Name == "" {
		return Link{}, false, errors.New("link message: no interface name")
	}
	return l, true, nil
}

func field(name string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (l *Link) traffic(v []byte) error {
	if len(v) < 8*12 {
		return fmt.Errorf("%d bytes, want at least %d: %w", len(v), 8*12, errTruncated)
	}
	u := func(i int) uint64 { return binary.NativeEndian.Uint64(v[8*i:]) }
	l.Traffic = Traffic{RxPackets: u(0), TxPackets: u(1), RxErrors: u(4), TxErrors: u(5), RxDropped: u(6), RxOver: u(11)}
	return nil
}

func (l *Link) info(b []byte) error {
	// The kind stands before the data in what the kernel writes, but nothing says it must.
	var data, xstats []byte
	err := attributes(b, func(kind uint16, v []byte) error {
		switch kind {
		case infoKind:
			l.Kind = text(v)
		case infoData:
			data = v
		case infoXstats:
			xstats = v
		}
		return nil
	})
	if err != nil || l.Kind != "can" {
		return err
	}
	if xstats != nil {
		c := &l.Counts
		if err := words(xstats, &c.BusErrors, &c.Warnings, &c.Passives, &c.BusOffs, &c.ArbitrationLost, &c.Restarts); err != nil {
			return field("device statistics", err)
		}
		l.HasCounts = true
	}
	return attributes(data, l.can)
}

func (l *Link) can(kind uint16, v []byte) error {
	switch kind {
	case canState:
		l.HasState = true
		return field("state", words(v, (*uint32)(&l.State)))
	case canRestartMillis:
		l.HasRestart = true
		return field("restart-ms", words(v, &l.RestartMS))
	case canCtrlmode:
		var mask uint32
		l.HasModes = true
		return field("controller mode", words(v, &mask, &l.Modes))
	case canClock:
		return field("clock", words(v, &l.Clock))
	case canBerrCounter:
		if len(v) < 4 {
			return field("error counter", errTruncated)
		}
		l.Tx, l.Rx, l.HasCounters = binary.NativeEndian.Uint16(v), binary.NativeEndian.Uint16(v[2:]), true
	case canTermination:
		if len(v) < 2 {
			return field("termination", errTruncated)
		}
		l.Termination = binary.NativeEndian.Uint16(v)
	case canBittiming, canDataTiming:
		t := &BitTiming{}
		err := words(v, &t.Bitrate, &t.SamplePoint, &t.Quantum, &t.PropSeg, &t.PhaseSeg1, &t.PhaseSeg2, &t.SJW, &t.Prescaler)
		if err != nil {
			return field("bit timing", err)
		}
		if kind == canBittiming {
			l.Timing = t
		} else {
			l.DataTiming = t
		}
	}
	return nil
}

// DecodeDump reads what one receive of a link dump gave: whole netlink messages. Links
// that are no CAN interfaces are passed over; done is true behind the last message.
func DecodeDump(b []byte, into []Link) (links []Link, done bool, err error) {
	links = into
	for len(b) > 0 {
		if len(b) < headerLen {
			return links, false, fmt.Errorf("netlink header: %d bytes, want %d: %w", len(b), headerLen, errTruncated)
		}
		n := int(binary.NativeEndian.Uint32(b))
		if n < headerLen || n > len(b) {
			return links, false, fmt.Errorf("netlink message of %d bytes in %d: %w", n, len(b), errTruncated)
		}
		payload := b[headerLen:n]
		switch binary.NativeEndian.Uint16(b[4:]) {
		case msgDone:
			return links, true, nil
		case msgError:
			if len(payload) < 4 {
				return links, false, fmt.Errorf("netlink error: %w", errTruncated)
			}
			return links, true, &netlinkError{int32(binary.NativeEndian.Uint32(payload))}
		case msgNewLink:
			l, ok, err := DecodeLink(payload)
			if err != nil {
				return links, false, err
			}
			if ok {
				links = append(links, l)
			}
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	return links, false, nil
}

type netlinkError struct{ negative int32 }

func (e *netlinkError) Error() string {
	return fmt.Sprintf("netlink answers with error %d", -e.negative)
}
