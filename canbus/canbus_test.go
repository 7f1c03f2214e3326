package canbus

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-edge/strata/internal/testreq"
)

func TestDecodeLine(t *testing.T) {
	for _, c := range []struct {
		line                          string
		classes, controller, protocol []string
		location, transceiver         string
		tx, rx                        uint8
		noAck, crc                    bool
	}{
		{"(1.5) can0 2000008C#0004000000000000", []string{"controller", "protocol", "bus_error"}, []string{"rx_warning"}, []string{}, "unspecified", "", 0, 0, false, false},
		{"(1.5) can0 20000004#0008000000006000", []string{"controller"}, []string{"tx_warning"}, []string{}, "", "", 0x60, 0, false, false},
		{"(1.5) can0 200002A8#0000081900008005", []string{"protocol", "no_ack", "bus_error", "counters"}, []string{}, []string{"bit0"}, "ack", "", 128, 5, true, false},
		{"(1.5) can0 20000088#0000941900008000", []string{"protocol", "bus_error"}, []string{}, []string{"stuff", "bit1", "tx"}, "ack", "", 128, 0, true, false},
		{"(1.5) can0 20000088#0000040800000000", []string{"protocol", "bus_error"}, []string{}, []string{"stuff"}, "crc_seq", "", 0, 0, false, true},
		{"(1.5) can0 20000010#0000000064000000", []string{"transceiver"}, []string{}, []string{}, "", "canh_no_wire+canl_short_to_vcc", 0, 0, false, false},
		{"(1.5) can0 20000143#0530000000000000", []string{"tx_timeout", "arbitration_lost", "bus_off", "restarted"}, []string{}, []string{}, "", "", 0, 0, false, false},
		{"(1.5) can0 20000004#007F", []string{"controller"}, controllerNames[:], []string{}, "", "", 0, 0, false, false},
	} {
		l, err := ParseLine(c.line)
		if err != nil {
			t.Errorf("%s: %v", c.line, err)
			continue
		}
		e, err := DecodeError(&l.Frame)
		if err != nil {
			t.Errorf("%s: %v", c.line, err)
			continue
		}
		location, transceiver := "", ""
		if e.Class&ClassProtocol != 0 {
			location = e.Location.String()
		}
		if e.Class&ClassTransceiver != 0 {
			transceiver = e.Transceiver.String()
		}
		if !reflect.DeepEqual(e.Class.Names(), c.classes) || !reflect.DeepEqual(e.Controller.Names(), c.controller) ||
			!reflect.DeepEqual(e.Protocol.Names(), c.protocol) || location != c.location || transceiver != c.transceiver ||
			e.TxErrors != c.tx || e.RxErrors != c.rx || e.NoAck() != c.noAck || e.CRC() != c.crc {
			t.Errorf("%s: %v %v %v %q %q %+v", c.line, e.Class.Names(), e.Controller.Names(), e.Protocol.Names(), location, transceiver, e)
		}
		if l.Interface != "can0" || !l.Time.Equal(time.Unix(1, 5e8)) {
			t.Errorf("%s: %s at %s", c.line, l.Interface, l.Time)
		}
	}
}

func TestParseLine(t *testing.T) {
	for line, want := range map[string]Frame{
		"(0.1) vcan0 123#DEADBEEF":           {ID: 0x123, Len: 4, Data: [64]byte{0xde, 0xad, 0xbe, 0xef}},
		"(0.1) vcan0 123#DE.AD":              {ID: 0x123, Len: 2, Data: [64]byte{0xde, 0xad}},
		"(0.1) vcan0 1F334455#":              {ID: 0x1f334455 | FlagExtended},
		"(0.1) vcan0 123#R":                  {ID: 0x123 | FlagRemote},
		"(0.1) vcan0 123#R8":                 {ID: 0x123 | FlagRemote},
		"(0.1) vcan0 123##1AABB":             {ID: 0x123, FD: true, Len: 2, Data: [64]byte{0xaa, 0xbb}},
		"(0.1) vcan0 00000123#11 T":          {ID: 0x123 | FlagExtended, Len: 1, Data: [64]byte{0x11}},
		"(0.1) vcan0 1#11":                   {},
		"(0.1) vcan0 923#11":                 {},
		"(0.1) vcan0 123":                    {},
		"(0.1) vcan0 123#1":                  {},
		"(0.1) vcan0 123#zz":                 {},
		"(0.1) vcan0 123#112233445566778899": {},
		"(0.1) vcan0 123##":                  {},
		"(x) vcan0 123#11":                   {},
		"(-1.0) vcan0 123#11":                {},
		"(1.0000000001) vcan0 123#11":        {},
		"(0.1) vcan0":                        {},
		"":                                   {},
	} {
		l, err := ParseLine(line)
		if (err == nil) != (want != Frame{}) {
			t.Errorf("%q: %v", line, err)
		} else if err == nil && l.Frame != want {
			t.Errorf("%q: %+v, want %+v", line, l.Frame, want)
		}
	}
	b, err := os.ReadFile(filepath.Join(testreq.Data(t), "can-fixtures", "candump_error_lines.txt"))
	if err != nil {
		testreq.Missing(t, "data", err.Error())
	}
	first, _, _ := strings.Cut(string(b), "\n")
	l, err := ParseLine(first)
	if err != nil || !l.Frame.IsError() {
		t.Errorf("%q: %+v, %v", first, l, err)
	}
}

// attr makes a netlink attribute.
func attr(kind uint16, parts ...[]byte) []byte {
	var v []byte
	for _, p := range parts {
		v = append(v, p...)
	}
	b := binary.NativeEndian.AppendUint16(nil, uint16(len(v)+4))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, v...)
	return append(b, make([]byte, (4-len(b)%4)%4)...)
}

func u32s(v ...uint32) (b []byte) {
	for _, x := range v {
		b = binary.NativeEndian.AppendUint32(b, x)
	}
	return b
}

func u16s(v ...uint16) (b []byte) {
	for _, x := range v {
		b = binary.NativeEndian.AppendUint16(b, x)
	}
	return b
}

// mttcan is the link of the fixture ip_link_mttcan_error_warning.txt: 1,134,813 bus
// errors, state error-warning, bus-error reporting on.
func mttcan() []byte {
	stats := make([]byte, 24*8)
	for i, v := range []uint64{1134825, 10, 9078560, 40, 1134813, 0} {
		binary.NativeEndian.PutUint64(stats[8*i:], v)
	}
	b := append([]byte{0, 0}, u16s(typeCAN)...)
	b = append(b, u32s(2, 0x100c1, 0)...)
	b = append(b, attr(iflaIfname, []byte("can0\x00"))...)
	b = append(b, attr(iflaMTU, u32s(72))...)
	b = append(b, attr(iflaStats64, stats)...)
	return append(b, attr(iflaLinkinfo,
		attr(infoKind, []byte("can\x00")),
		attr(infoXstats, u32s(1134813, 1, 1, 0, 0, 0)),
		attr(infoData,
			attr(canBittiming, u32s(500000, 870, 20, 43, 43, 13, 1, 1)),
			attr(canClock, u32s(50000000)),
			attr(canState, u32s(uint32(StateWarning))),
			attr(canCtrlmode, u32s(0xffffffff, ModeLoopback|ModeBusErrors|ModeFD)),
			attr(canRestartMillis, u32s(0)),
			attr(canBerrCounter, u16s(118, 0)),
			attr(canDataTiming, u32s(1000000, 720, 40, 8, 9, 7, 1, 1)),
			attr(canTermination, u16s(120))))...)
}

func message(kind uint16, payload []byte) []byte {
	b := u32s(uint32(headerLen + len(payload)))
	b = append(b, u16s(kind, 2)...)
	b = append(b, u32s(1, 0)...)
	return append(b, payload...)
}

func TestDecodeLink(t *testing.T) {
	eth := append([]byte{0, 0}, u16s(1)...)
	eth = append(eth, u32s(1, 0, 0)...)
	dump := append(message(msgNewLink, eth), message(msgNewLink, mttcan())...)
	dump = append(dump, message(msgDone, u32s(0))...)
	links, done, err := DecodeDump(dump, nil)
	if err != nil || !done || len(links) != 1 {
		t.Fatalf("%d links, done %v, %v", len(links), done, err)
	}
	l := links[0]
	want := Link{
		Index: 2, Name: "can0", Kind: "can", Up: true, MTU: 72, State: StateWarning, HasState: true,
		Tx: 118, HasCounters: true, HasRestart: true, Modes: ModeLoopback | ModeBusErrors | ModeFD, HasModes: true,
		Timing: &BitTiming{500000, 870, 20, 43, 43, 13, 1, 1}, DataTiming: &BitTiming{1000000, 720, 40, 8, 9, 7, 1, 1},
		Clock: 50000000, Termination: 120, Counts: Counts{BusErrors: 1134813, Warnings: 1, Passives: 1}, HasCounts: true,
		Traffic: Traffic{RxPackets: 1134825, TxPackets: 10, RxErrors: 1134813},
	}
	if !reflect.DeepEqual(l, want) {
		t.Errorf("got  %+v\nwant %+v", l, want)
	}
	if !l.BusErrorReporting() || l.Virtual() {
		t.Error("bus-error reporting is on and the bus is real")
	}
	v, reasons, unseen := l.Judge()
	if v != Watch || len(reasons) != 3 || len(unseen) != 0 {
		t.Errorf("judged %s: %v, %v", v, reasons, unseen)
	}
	// The trap of some drivers: error-active with a transmit counter of 128.
	l.State, l.Tx = StateActive, 128
	if l.Effective() != StatePassive {
		t.Errorf("effective state %s, want error-passive", l.Effective())
	}
	if _, _, err := DecodeDump(message(msgError, u32s(0xffffffff)), nil); err == nil {
		t.Error("a netlink error was passed over")
	}
}

// Every cut of a message is an error or a smaller link, never a panic; a cut inside the
// CAN attributes is always an error.
func TestTruncatedLink(t *testing.T) {
	whole := mttcan()
	for n := range len(whole) {
		_, ok, err := DecodeLink(whole[:n])
		if err == nil && ok && n > 300 {
			t.Errorf("cut at %d of %d passed", n, len(whole))
		}
		if err != nil && ok {
			t.Errorf("cut at %d: a link and an error", n)
		}
	}
}

func TestSocket(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[1])
	s := NewSocket(fds[0])
	defer s.Close()
	var f Frame
	if err := s.Read(&f); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("empty socket: %v", err)
	}
	classic := append(u32s(FlagError|uint32(ClassBusOff)), 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	fd := append(u32s(0x123), make([]byte, 68)...)
	fd[4] = 64
	for _, b := range [][]byte{classic, fd, {1, 2, 3}} {
		if _, err := unix.Write(fds[1], b); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Read(&f); err != nil || !f.IsError() || f.FD || f.Len != 8 {
		t.Errorf("%+v, %v", f, err)
	}
	if err := s.Read(&f); err != nil || f.IsError() || !f.FD || f.Len != 64 {
		t.Errorf("%+v, %v", f, err)
	}
	if err := s.Read(&f); err == nil {
		t.Error("three bytes passed as a frame")
	}
	if n, err := s.Dropped(); err != nil || n != 0 {
		t.Errorf("dropped %d, %v", n, err)
	}
	unix.Write(fds[1], classic)
	if n := testing.AllocsPerRun(100, func() {
		unix.Write(fds[1], classic)
		if err := s.Read(&f); err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeError(&f); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
}

// Links asks the real kernel; without CAN there is nothing, and no error.
func TestLinks(t *testing.T) {
	links, err := Links()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d CAN interfaces", len(links))
}

func FuzzFrame(f *testing.F) {
	f.Add(append(u32s(FlagError|0x8c), 8, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0))
	f.Add(make([]byte, FDFrameSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		var fr Frame
		if err := DecodeFrame(b, &fr); err != nil {
			return
		}
		e, err := DecodeError(&fr)
		if (err == nil) != fr.IsError() {
			t.Fatalf("error %v of frame %x", err, fr.ID)
		}
		_ = e.Class.Names()
		_, _ = e.Location.String(), e.Transceiver.String()
	})
}

func FuzzLine(f *testing.F) {
	f.Add("(1436509052.249713) can0 2000008C#0004000000000000")
	f.Add("(0.1) vcan0 123##1AABB R")
	f.Add("(0.1) vcan0 123#1122334455667788_A")
	f.Fuzz(func(t *testing.T, s string) {
		l, err := ParseLine(s)
		if err != nil {
			return
		}
		if l.Interface == "" || l.Frame.Len > 64 || !l.Frame.FD && l.Frame.Len > 8 {
			t.Fatalf("%+v", l)
		}
		if _, err := l.Time.MarshalJSON(); err != nil {
			t.Fatalf("time %v: %v", l.Time, err)
		}
	})
}

func FuzzDump(f *testing.F) {
	f.Add(message(msgNewLink, mttcan()))
	f.Add(message(msgError, u32s(0xffffffff)))
	f.Fuzz(func(t *testing.T, b []byte) {
		links, _, _ := DecodeDump(b, nil)
		for i := range links {
			if links[i].Name == "" {
				t.Fatal("a link without a name")
			}
			links[i].Judge()
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	link, line := mttcan(), "(1436509052.249713) can0 2000008C#0004000000000000"
	frame := append(u32s(FlagError|0x8c), 8, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0)
	for _, c := range []struct {
		name string
		f    func() error
	}{
		{"link", func() error { _, _, err := DecodeLink(link); return err }},
		{"line", func() error { _, err := ParseLine(line); return err }},
		{"error-frame", func() error {
			var f Frame
			if err := DecodeFrame(frame, &f); err != nil {
				return err
			}
			_, err := DecodeError(&f)
			return err
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := c.f(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
