package canbus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Flags of a CAN id (linux/can.h).
const (
	FlagExtended = 0x80000000
	FlagRemote   = 0x40000000
	FlagError    = 0x20000000
	errorMask    = 0x1fffffff
)

// Frame is one frame as the kernel passes it.
type Frame struct {
	ID   uint32 // with flags
	FD   bool
	Len  uint8
	Data [64]byte
}

// IsError says whether the controller's driver made the frame to report an error.
func (f *Frame) IsError() bool { return f.ID&FlagError != 0 }

// Sizes of struct can_frame and struct canfd_frame.
const (
	FrameSize   = 16
	FDFrameSize = 72
)

// ErrNoErrorFrame is returned for a frame that carries data, not an error.
var ErrNoErrorFrame = errors.New("not an error frame")

// DecodeFrame reads a struct can_frame or canfd_frame as a CAN_RAW socket gives it.
func DecodeFrame(b []byte, f *Frame) error {
	limit := uint8(8)
	switch len(b) {
	case FrameSize:
		f.FD = false
	case FDFrameSize:
		f.FD, limit = true, 64
	default:
		return fmt.Errorf("can frame: %d bytes, want %d or %d", len(b), FrameSize, FDFrameSize)
	}
	f.ID, f.Len = binary.NativeEndian.Uint32(b), b[4]
	if f.Len > limit {
		return fmt.Errorf("can frame: payload of %d bytes, want at most %d", f.Len, limit)
	}
	f.Data = [64]byte{}
	copy(f.Data[:f.Len], b[8:])
	return nil
}

// Class is the mask in an error frame's id.
type Class uint32

// The classes (linux/can/error.h).
const (
	ClassTxTimeout Class = 1 << iota
	ClassArbitrationLost
	ClassController
	ClassProtocol
	ClassTransceiver
	ClassNoAck
	ClassBusOff
	ClassBusError
	ClassRestarted
	ClassCounters
	classKnown = 1<<iota - 1
)

var classNames = [...]string{
	"tx_timeout", "arbitration_lost", "controller", "protocol", "transceiver",
	"no_ack", "bus_off", "bus_error", "restarted", "counters",
}

// Controller is the controller's status, a mask.
type Controller uint8

// The bits of Controller (data[1]).
const (
	ControllerRxOverflow Controller = 1 << iota
	ControllerTxOverflow
	ControllerRxWarning
	ControllerTxWarning
	ControllerRxPassive
	ControllerTxPassive
	ControllerActive
)

var controllerNames = [...]string{
	"rx_overflow", "tx_overflow", "rx_warning", "tx_warning", "rx_passive", "tx_passive", "active",
}

// Protocol is the kind of protocol violation, a mask.
type Protocol uint8

// The bits of Protocol (data[2]).
const (
	ProtocolBit Protocol = 1 << iota
	ProtocolForm
	ProtocolStuff
	ProtocolBit0 // could not send a dominant bit
	ProtocolBit1 // could not send a recessive bit
	ProtocolOverload
	ProtocolActive // active error announcement
	ProtocolTx     // while sending
)

var protocolNames = [...]string{"bit", "form", "stuff", "bit0", "bit1", "overload", "active", "tx"}

// Location is where in the frame the violation was seen (data[3]).
type Location uint8

// The locations that hypotheses hang on.
const (
	LocationCRC          Location = 0x08
	LocationCRCDelimiter Location = 0x18
	LocationAck          Location = 0x19
	LocationAckDelimiter Location = 0x1b
)

var locationNames = [0x20]string{
	0x02: "id28_21", 0x03: "sof", 0x04: "srtr", 0x05: "ide", 0x06: "id20_18", 0x07: "id17_13",
	0x08: "crc_seq", 0x09: "res0", 0x0a: "data", 0x0b: "dlc", 0x0c: "rtr", 0x0d: "res1", 0x0e: "id04_00",
	0x0f: "id12_05", 0x12: "intermission", 0x18: "crc_del", 0x19: "ack", 0x1a: "eof", 0x1b: "ack_del",
}

// String names the location as linux/can/error.h does, in lower case.
func (l Location) String() string {
	switch {
	case l == 0:
		return "unspecified"
	case int(l) < len(locationNames) && locationNames[l] != "":
		return locationNames[l]
	}
	return fmt.Sprintf("0x%02x", uint8(l))
}

// Transceiver is the transceiver's status (data[4]): CAN-H in the low nibble, CAN-L in
// the high one.
type Transceiver uint8

// String names both lines' faults, joined by a plus sign.
func (t Transceiver) String() string {
	if t == 0 {
		return "unspecified"
	}
	var parts []string
	for _, p := range [...]struct {
		mask, value Transceiver
		name        string
	}{
		{0x0f, 0x04, "canh_no_wire"}, {0x0f, 0x05, "canh_short_to_bat"},
		{0x0f, 0x06, "canh_short_to_vcc"}, {0x0f, 0x07, "canh_short_to_gnd"},
		{0x70, 0x40, "canl_no_wire"}, {0x70, 0x50, "canl_short_to_bat"},
		{0x70, 0x60, "canl_short_to_vcc"}, {0x70, 0x70, "canl_short_to_gnd"},
		{0x80, 0x80, "canl_short_to_canh"},
	} {
		if t&p.mask == p.value {
			parts = append(parts, p.name)
		}
	}
	if len(parts) == 0 {
		return fmt.Sprintf("0x%02x", uint8(t))
	}
	return strings.Join(parts, "+")
}

// ErrorFrame is a decoded error frame. A detail is set only where its class says that
// the driver filled it in; the counters are always given, since older drivers fill them
// without the class bit.
type ErrorFrame struct {
	Class       Class
	Arbitration uint8 // bit of the frame where arbitration was lost, 0 not specified
	Controller  Controller
	Protocol    Protocol
	Location    Location
	Transceiver Transceiver
	TxErrors    uint8
	RxErrors    uint8
}

// DecodeError reads an error frame (linux/can/error.h). Payload that is missing reads
// as zero, "unspecified".
func DecodeError(f *Frame) (ErrorFrame, error) {
	if !f.IsError() {
		return ErrorFrame{}, ErrNoErrorFrame
	}
	var d [8]byte
	copy(d[:], f.Data[:min(int(f.Len), 8)])
	e := ErrorFrame{Class: Class(f.ID & errorMask), TxErrors: d[6], RxErrors: d[7]}
	if e.Class&ClassArbitrationLost != 0 {
		e.Arbitration = d[0]
	}
	if e.Class&ClassController != 0 {
		e.Controller = Controller(d[1])
	}
	if e.Class&ClassProtocol != 0 {
		e.Protocol, e.Location = Protocol(d[2]), Location(d[3])
	}
	if e.Class&ClassTransceiver != 0 {
		e.Transceiver = Transceiver(d[4])
	}
	return e, nil
}

// NoAck says whether nobody acknowledged: by class, or by the place of the violation.
func (e *ErrorFrame) NoAck() bool {
	return e.Class&ClassNoAck != 0 || e.Class&ClassProtocol != 0 && e.Location == LocationAck
}

// CRC says whether the check sequence was wrong: controllers tell it by the place only.
func (e *ErrorFrame) CRC() bool {
	return e.Class&ClassProtocol != 0 && (e.Location == LocationCRC || e.Location == LocationCRCDelimiter)
}

func names[T ~uint8 | ~uint32](v T, table []string) []string {
	out := []string{}
	for i, n := range table {
		if v&(1<<i) != 0 {
			out = append(out, n)
		}
	}
	return out
}

// Names gives the classes by name, in the order of their bits.
func (c Class) Names() []string { return names(c, classNames[:]) }

// Names gives the bits by name.
func (c Controller) Names() []string { return names(c, controllerNames[:]) }

// Names gives the bits by name.
func (p Protocol) Names() []string { return names(p, protocolNames[:]) }
