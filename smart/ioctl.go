package smart

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Handle is an open device node. Ioctl passes a pointer to the request's structure, as
// the kernel wants it.
type Handle interface {
	Ioctl(request uint, arg unsafe.Pointer) error
	Close() error
}

// Opener opens a device node.
type Opener func(path string) (Handle, error)

// OpenNode opens a real node read-only and without waiting for a medium.
func OpenNode(path string) (Handle, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return node{f}, nil
}

type node struct{ f *os.File }

func (n node) Ioctl(request uint, arg unsafe.Pointer) error {
	// Fd puts the file into blocking mode, which is what these ioctls need.
	_, _, e := unix.Syscall(unix.SYS_IOCTL, n.f.Fd(), uintptr(request), uintptr(arg))
	runtime.KeepAlive(n.f)
	if e != 0 {
		return e
	}
	return nil
}

func (n node) Close() error { return n.f.Close() }

// Requests of linux/nvme_ioctl.h and scsi/sg.h.
const (
	ioctlNVMeAdmin = 0xc0484e41
	ioctlSG        = 0x2285
)

// sgHeader is struct sg_io_hdr (scsi/sg.h); 88 bytes on 64-bit machines.
type sgHeader struct {
	interfaceID    int32
	direction      int32
	cmdLen         uint8
	senseLen       uint8
	iovecCount     uint16
	dataLen        uint32
	data           unsafe.Pointer
	cmd            unsafe.Pointer
	sense          unsafe.Pointer
	timeout        uint32 // ms
	flags          uint32
	packID         int32
	_              [unsafe.Sizeof(uintptr(0)) - 4]byte
	userPtr        unsafe.Pointer
	status         uint8
	maskedStatus   uint8
	msgStatus      uint8
	senseWritten   uint8
	hostStatus     uint16
	driverStatus   uint16
	resid          int32
	duration, info uint32
}

const (
	sgNone    = -1
	sgFromDev = -3
)

// ATA commands and SMART features (ACS-3).
const (
	ataIdentify      = 0xec
	ataCheckPower    = 0xe5
	ataSMART         = 0xb0
	smartReadData    = 0xd0
	smartThresholds  = 0xd1
	smartStatus      = 0xda
	smartMid         = 0x4f
	smartHigh        = 0xc2
	smartBadMid      = 0xf4
	smartBadHigh     = 0x2c
	passThrough16    = 0x85
	protocolNonData  = 3
	protocolPIOIn    = 4
	flagsPIOIn       = 0x0e // T_DIR in, BYT_BLOK, length in the count field
	flagsReturnRegs  = 0x20 // CK_COND: give the registers back in the sense data
	senseDescriptor  = 0x72
	senseFixed       = 0x70
	descriptorATA    = 0x09
	statusError      = 0x01
	hostTimeout      = 0x03
	senseKeyIllegal  = 0x05
	checkCondition   = 0x02
	senseBufferBytes = 64
)

type registers struct {
	err, count, low, mid, high, device, status uint8
}

// errNoPassThrough means that the other end does not take ATA commands.
var errNoPassThrough = errors.New("no ATA pass-through")

// ataSession sends ATA commands to one open drive.
type ataSession struct {
	h        Handle
	timeout  time.Duration
	answered int // commands that came back with sense data, which the kernel counts as errors
}

// command sends one ATA command. A nil buf is a command without data, which gives registers.
func (a *ataSession) command(command, feature uint8, smart bool, buf []byte) (registers, error) {
	cdb := [16]byte{0: passThrough16, 4: feature, 14: command}
	if smart {
		cdb[10], cdb[12] = smartMid, smartHigh
	}
	var sense [senseBufferBytes]byte
	hdr := sgHeader{
		interfaceID: 'S', direction: sgNone, cmdLen: uint8(len(cdb)), senseLen: uint8(len(sense)),
		timeout: uint32(a.timeout.Milliseconds()),
	}
	if buf == nil {
		cdb[1], cdb[2] = protocolNonData<<1, flagsReturnRegs
	} else {
		cdb[1], cdb[2], cdb[6] = protocolPIOIn<<1, flagsPIOIn, uint8(len(buf)/ataPage)
		hdr.direction, hdr.dataLen = sgFromDev, uint32(len(buf))
		hdr.data = unsafe.Pointer(&buf[0])
	}
	hdr.cmd, hdr.sense = unsafe.Pointer(&cdb), unsafe.Pointer(&sense)
	var pin runtime.Pinner // the kernel sees only addresses: none of these may move
	defer pin.Unpin()
	pin.Pin(&cdb)
	pin.Pin(&sense)
	if buf != nil {
		pin.Pin(&buf[0])
	}
	if err := a.h.Ioctl(ioctlSG, unsafe.Pointer(&hdr)); err != nil {
		return registers{}, err
	}
	if hdr.status != 0 {
		a.answered++
	}
	return judgeSG(&hdr, sense[:], buf)
}

func judgeSG(hdr *sgHeader, sense, buf []byte) (registers, error) {
	if hdr.hostStatus != 0 {
		if hdr.hostStatus == hostTimeout {
			return registers{}, os.ErrDeadlineExceeded
		}
		return registers{}, fmt.Errorf("host adapter status 0x%02x", hdr.hostStatus)
	}
	regs, key, ok := parseSense(sense[:min(int(hdr.senseWritten), len(sense))])
	if !ok && key == senseKeyIllegal {
		return registers{}, errNoPassThrough
	}
	if hdr.status != 0 && hdr.status != checkCondition {
		return registers{}, fmt.Errorf("SCSI status 0x%02x", hdr.status)
	}
	switch {
	case ok && regs.status&statusError != 0:
		return regs, fmt.Errorf("drive aborted the command: error 0x%02x status 0x%02x", regs.err, regs.status)
	case buf == nil && !ok:
		return registers{}, errors.New("no registers came back")
	case buf != nil && !ok && hdr.status == checkCondition:
		return registers{}, fmt.Errorf("sense key 0x%x", key)
	case hdr.resid != 0:
		return registers{}, fmt.Errorf("%d bytes short", hdr.resid)
	}
	return regs, nil
}

// parseSense finds the ATA registers in sense data, in the descriptor format (SAT-3,
// 12.2.2.3) or in the fixed format that some bridges give (12.2.2.7).
func parseSense(s []byte) (regs registers, key uint8, ok bool) {
	if len(s) < 8 {
		return registers{}, 0, false
	}
	switch s[0] & 0x7f {
	case senseDescriptor:
		key = s[1] & 0xf
		for d := s[8:]; len(d) >= 2; {
			n := 2 + int(d[1])
			if len(d) < n {
				break
			}
			if d[0] == descriptorATA && n >= 14 {
				return registers{err: d[3], count: d[5], low: d[7], mid: d[9], high: d[11], device: d[12], status: d[13]}, key, true
			}
			d = d[n:]
		}
	case senseFixed:
		key = s[2] & 0xf
		// 00h/1Dh: ATA pass-through information available
		if len(s) >= 14 && s[12] == 0x00 && s[13] == 0x1d {
			return registers{err: s[3], status: s[4], device: s[5], count: s[6], low: s[9], mid: s[10], high: s[11]}, key, true
		}
	}
	return registers{}, key, false
}

// nvmeCommand is struct nvme_passthru_cmd (linux/nvme_ioctl.h): 72 bytes.
type nvmeCommand struct {
	opcode, flags uint8
	_             uint16
	nsid          uint32
	cdw2, cdw3    uint32
	metadata      uint64
	addr          uint64
	metadataLen   uint32
	dataLen       uint32
	cdw10, cdw11  uint32
	cdw12, cdw13  uint32
	cdw14, cdw15  uint32
	timeout       uint32 // ms
	result        uint32
}

const (
	nvmeGetLog     = 0x02
	nvmeIdentifyOp = 0x06
	nvmeCNSCtrl    = 0x01
	nvmeLogErrors  = 0x01
	nvmeLogHealth  = 0x02
	nvmeAll        = 0xffffffff
)

// nvmeAdmin sends one admin command that reads into buf.
func nvmeAdmin(h Handle, opcode uint8, nsid, cdw10 uint32, buf []byte, timeout time.Duration) error {
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&buf[0])
	cmd := nvmeCommand{
		opcode: opcode, nsid: nsid, addr: uint64(uintptr(unsafe.Pointer(&buf[0]))), dataLen: uint32(len(buf)),
		cdw10: cdw10, timeout: uint32(timeout.Milliseconds()),
	}
	return h.Ioctl(ioctlNVMeAdmin, unsafe.Pointer(&cmd))
}

func nvmeLog(h Handle, id uint8, buf []byte, timeout time.Duration) error {
	return nvmeAdmin(h, nvmeGetLog, nvmeAll, uint32(id)|uint32(len(buf)/4-1)<<16, buf, timeout)
}
