package host

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// Drop says what a dropper lets vanish. The zero value lets everything pass.
type Drop struct {
	Iface  string  `json:"iface"`
	Egress bool    `json:"egress"`           // on the way out of the interface; else on the way in
	All    bool    `json:"all,omitempty"`    // every frame, ARP included: the station is dead
	Above  int     `json:"above,omitempty"`  // IP packets longer than so many bytes
	Chance float64 `json:"chance,omitempty"` // this share of the IP packets, by a die
}

// dropper is a tcx program on one side of one interface.
type dropper struct {
	prog  *ebpf.Program
	rules *ebpf.Map
	link  link.Link
}

// The layout of the one value of the dropper's map. Counters follow the rule, so that
// setting a rule also starts the counters anew.
const (
	dropMode    = 0  // u32: bits below
	dropChance  = 4  // u32: drop where a random u32 is below
	dropAbove   = 8  // u32: bytes of the IP packet
	dropSeen    = 16 // u64: IP packets that were looked at
	dropDropped = 24 // u64
	dropFirst   = 32 // u64: CLOCK_MONOTONIC of the first drop in ns
	dropSize    = 40

	dropModeAll, dropModeAbove, dropModeChance = 1, 2, 4
)

// headersOfSegment is what IPv4 and TCP with time stamps put before a segment's data.
const headersOfSegment = 52

// Offsets in struct __sk_buff (include/uapi/linux/bpf.h).
const (
	skbLen      = 0
	skbProtocol = 16
	skbGSOSize  = 176
)

// newDropper attaches to an interface of the namespace that the process lives in.
func newDropper(iface string, egress bool) (*dropper, error) {
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("dropper on %s: lift the lock limit: %w", iface, err)
	}
	dev, err := net.InterfaceByName(iface)
	if err != nil {
		return nil, fmt.Errorf("dropper on %s: %w", iface, err)
	}
	rules, err := ebpf.NewMap(&ebpf.MapSpec{Name: "lab_drop", Type: ebpf.Array, KeySize: 4, ValueSize: dropSize, MaxEntries: 1})
	if err != nil {
		return nil, fmt.Errorf("dropper on %s: make its map: %w", iface, err)
	}
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "lab_drop", Type: ebpf.SchedCLS, License: "GPL", Instructions: dropProgram(rules.FD()),
	})
	if err != nil {
		_ = rules.Close()
		return nil, fmt.Errorf("dropper on %s: load: %w", iface, err)
	}
	at := ebpf.AttachTCXIngress
	if egress {
		at = ebpf.AttachTCXEgress
	}
	l, err := link.AttachTCX(link.TCXOptions{Interface: dev.Index, Program: prog, Attach: at})
	if err != nil {
		_ = prog.Close()
		_ = rules.Close()
		return nil, fmt.Errorf("dropper on %s: attach: %w", iface, err)
	}
	return &dropper{prog: prog, rules: rules, link: l}, nil
}

func (d *dropper) close() error {
	return errors.Join(d.link.Close(), d.prog.Close(), d.rules.Close())
}

// set puts a rule in place and starts the counters anew.
func (d *dropper) set(r Drop) error {
	v := make([]byte, dropSize)
	var mode uint32
	if r.All {
		mode |= dropModeAll
	}
	if r.Above > 0 {
		mode |= dropModeAbove
	}
	if r.Chance > 0 {
		mode |= dropModeChance
	}
	binary.NativeEndian.PutUint32(v[dropMode:], mode)
	binary.NativeEndian.PutUint32(v[dropChance:], uint32(min(r.Chance, 1)*float64(1<<32-1)))
	binary.NativeEndian.PutUint32(v[dropAbove:], uint32(r.Above))
	if err := d.rules.Put(uint32(0), v); err != nil {
		return fmt.Errorf("set the dropper on %s: %w", r.Iface, err)
	}
	return nil
}

// Drops is what a dropper counted since its rule was set.
type Drops struct {
	Seen    uint64    `json:"seen"` // IP packets; 0 where every frame is dropped
	Dropped uint64    `json:"dropped"`
	First   time.Time `json:"first,omitzero"`
}

func (d *dropper) read() (Drops, error) {
	v := make([]byte, dropSize)
	if err := d.rules.Lookup(uint32(0), &v); err != nil {
		return Drops{}, fmt.Errorf("read the dropper: %w", err)
	}
	out := Drops{
		Seen:    binary.NativeEndian.Uint64(v[dropSeen:]),
		Dropped: binary.NativeEndian.Uint64(v[dropDropped:]),
	}
	if first := binary.NativeEndian.Uint64(v[dropFirst:]); first != 0 {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
			return Drops{}, fmt.Errorf("read the monotonic clock: %w", err)
		}
		out.First = time.Now().Add(-time.Duration(ts.Nano() - int64(first)))
	}
	return out, nil
}

// dropProgram is the tc program. It passes by TCX_NEXT (-1) and drops by TC_ACT_SHOT (2).
func dropProgram(rules int) asm.Instructions {
	etherType := func(t uint16) int32 { // as __sk_buff.protocol shows it: network order
		var b [2]byte
		binary.BigEndian.PutUint16(b[:], t)
		return int32(binary.NativeEndian.Uint16(b[:]))
	}
	return asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.StoreImm(asm.R10, -4, 0, asm.Word),
		asm.Mov.Reg(asm.R2, asm.R10),
		asm.Add.Imm(asm.R2, -4),
		asm.LoadMapPtr(asm.R1, rules),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "pass"),
		asm.Mov.Reg(asm.R7, asm.R0),
		asm.LoadMem(asm.R8, asm.R7, dropMode, asm.Word),
		asm.JEq.Imm(asm.R8, 0, "pass"),
		asm.JSet.Imm(asm.R8, dropModeAll, "drop"),
		asm.LoadMem(asm.R1, asm.R6, skbProtocol, asm.Word),
		asm.JEq.Imm(asm.R1, etherType(0x0800), "ip"),
		asm.JNE.Imm(asm.R1, etherType(0x86dd), "pass"),

		asm.Mov.Imm(asm.R1, 1).WithSymbol("ip"),
		asm.AddAtomic.Mem(asm.R7, asm.R1, asm.DWord, dropSeen),
		asm.Mov.Reg(asm.R1, asm.R8),
		asm.And.Imm(asm.R1, dropModeAbove),
		asm.JEq.Imm(asm.R1, 0, "chance"),
		// A run of segments that the stack has not cut yet counts by its segments.
		asm.LoadMem(asm.R1, asm.R6, skbGSOSize, asm.Word),
		asm.Add.Imm(asm.R1, headersOfSegment),
		asm.JNE.Imm(asm.R1, headersOfSegment, "compare"),
		asm.LoadMem(asm.R1, asm.R6, skbLen, asm.Word),
		asm.Sub.Imm(asm.R1, 14),
		asm.LoadMem(asm.R2, asm.R7, dropAbove, asm.Word).WithSymbol("compare"),
		asm.JGT.Reg(asm.R1, asm.R2, "drop"),

		asm.And.Imm(asm.R8, dropModeChance).WithSymbol("chance"),
		asm.JEq.Imm(asm.R8, 0, "pass"),
		asm.FnGetPrandomU32.Call(),
		asm.LSh.Imm(asm.R0, 32),
		asm.RSh.Imm(asm.R0, 32),
		asm.LoadMem(asm.R2, asm.R7, dropChance, asm.Word),
		asm.JGE.Reg(asm.R0, asm.R2, "pass"),

		asm.Mov.Imm(asm.R1, 1).WithSymbol("drop"),
		asm.AddAtomic.Mem(asm.R7, asm.R1, asm.DWord, dropDropped),
		asm.LoadMem(asm.R1, asm.R7, dropFirst, asm.DWord),
		asm.JNE.Imm(asm.R1, 0, "shot"),
		asm.FnKtimeGetNs.Call(),
		asm.StoreMem(asm.R7, dropFirst, asm.R0, asm.DWord),
		asm.Mov.Imm(asm.R0, 2).WithSymbol("shot"),
		asm.Return(),

		asm.Mov.Imm(asm.R0, -1).WithSymbol("pass"),
		asm.Return(),
	}
}
