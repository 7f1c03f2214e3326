package smart

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"testing"
	"testing/fstest"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The kernel's structures have one size on every 64-bit machine.
func TestStructureSizes(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) == 8 && unsafe.Sizeof(sgHeader{}) != 88 {
		t.Errorf("sg_io_hdr: %d bytes, want 88", unsafe.Sizeof(sgHeader{}))
	}
	if unsafe.Sizeof(uintptr(0)) == 8 && unsafe.Offsetof(sgHeader{}.status) != 64 {
		t.Errorf("sg_io_hdr.status at %d, want 64", unsafe.Offsetof(sgHeader{}.status))
	}
	if unsafe.Sizeof(nvmeCommand{}) != 72 || unsafe.Offsetof(nvmeCommand{}.cdw10) != 40 {
		t.Errorf("nvme_passthru_cmd: %d bytes, cdw10 at %d, want 72 and 40", unsafe.Sizeof(nvmeCommand{}), unsafe.Offsetof(nvmeCommand{}.cdw10))
	}
}

// fakeDrive plays a drive behind the ioctls: it reads the kernel's structures.
type fakeDrive struct {
	pages    map[uint8][]byte // ATA by SMART feature (0 identify); NVMe by log id (0 identify)
	power    uint8
	bad      bool // RETURN STATUS says threshold exceeded
	refuse   bool // no ATA pass-through
	timeout  bool
	fixed    bool // sense data in fixed format
	commands []uint8
	closed   bool
}

func (f *fakeDrive) Close() error { f.closed = true; return nil }

func (f *fakeDrive) Ioctl(request uint, arg unsafe.Pointer) error {
	switch request {
	case ioctlSG:
		return f.sg((*sgHeader)(arg))
	case ioctlNVMeAdmin:
		c := (*nvmeCommand)(arg)
		id := uint8(0)
		if c.opcode == nvmeGetLog {
			id = uint8(c.cdw10)
			if n := (c.cdw10>>16 + 1) * 4; n != c.dataLen || c.nsid != nvmeAll {
				return unix.EINVAL
			}
		}
		f.commands = append(f.commands, id)
		p, ok := f.pages[id]
		if !ok {
			return unix.EIO
		}
		buf := *(*unsafe.Pointer)(unsafe.Pointer(&c.addr)) // the address as the kernel sees it
		copy(unsafe.Slice((*byte)(buf), c.dataLen), p)
		return nil
	}
	return unix.ENOTTY
}

func (f *fakeDrive) sg(h *sgHeader) error {
	cdb := unsafe.Slice((*byte)(h.cmd), h.cmdLen)
	sense := unsafe.Slice((*byte)(h.sense), h.senseLen)
	if h.interfaceID != 'S' || h.cmdLen != 16 || cdb[0] != passThrough16 {
		return unix.EINVAL
	}
	if f.timeout {
		h.hostStatus = hostTimeout
		return nil
	}
	if f.refuse {
		h.status = checkCondition
		h.senseWritten = uint8(copy(sense, []byte{0x70, 0, senseKeyIllegal, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x20, 0}))
		return nil
	}
	f.commands = append(f.commands, cdb[14])
	regs := registers{status: 0x50}
	switch {
	case cdb[14] == ataCheckPower:
		regs.count = f.power
	case cdb[14] == ataSMART && cdb[4] == smartStatus:
		regs.mid, regs.high = smartMid, smartHigh
		if f.bad {
			regs.mid, regs.high = smartBadMid, smartBadHigh
		}
	default:
		p, ok := f.pages[cdb[4]]
		if !ok {
			h.status = checkCondition
			h.senseWritten = uint8(copy(sense, []byte{0x72, 0xb, 0, 0, 0, 0, 0, 14, 9, 12, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x51}))
			return nil
		}
		copy(unsafe.Slice((*byte)(h.data), h.dataLen), p)
		return nil
	}
	h.status = checkCondition
	if f.fixed {
		h.senseWritten = uint8(copy(sense, []byte{0x70, 0, 1, regs.err, regs.status, 0, regs.count, 10, 0, 0, regs.mid, regs.high, 0, 0x1d}))
	} else {
		h.senseWritten = uint8(copy(sense, []byte{0x72, 1, 0, 0x1d, 0, 0, 0, 14, 9, 12, 0, regs.err, 0, regs.count, 0, 0, 0, regs.mid, 0, regs.high, 0, regs.status}))
	}
	return nil
}

var sysfs = fstest.MapFS{
	"block/sda/size":                                       {Data: []byte("1953525168\n")},
	"block/sda/queue/rotational":                           {Data: []byte("1\n")},
	"block/sda/device/vendor":                              {Data: []byte("ATA     \n")},
	"block/sda/device/model":                               {Data: []byte("EXAMPLE 1       \n")},
	"block/sda/device/vpd_pg80":                            {Data: []byte("\x00\x80\x00\x08      S1")},
	"block/sda/device/ioerr_cnt":                           {Data: []byte("0x1f\n")},
	"block/sda/stat":                                       {Data: []byte("  10 0 80 5 20 0 160 9 0 14 14 0 0 0 0 3 1\n")},
	"block/sdb/device/vendor":                              {Data: []byte("BRIDGE  \n")},
	"block/sdb/queue/rotational":                           {Data: []byte("0\n")},
	"block/nvme0n1/size":                                   {Data: []byte("1000\n")},
	"block/nvme0n2/size":                                   {Data: []byte("1000\n")},
	"class/nvme/nvme0/model":                               {Data: []byte("EXAMPLE 2\n")},
	"class/nvme/nvme0/serial":                              {Data: []byte("N1\n")},
	"class/nvme/nvme0/state":                               {Data: []byte("live\n")},
	"block/mmcblk0/device/type":                            {Data: []byte("MMC\n")},
	"block/mmcblk0/device/name":                            {Data: []byte("EXMPL3\n")},
	"block/mmcblk0/device/serial":                          {Data: []byte("0x1234\n")},
	"block/mmcblk0/device/life_time":                       {Data: []byte("0x02 0x0a\n")},
	"block/mmcblk0/device/pre_eol_info":                    {Data: []byte("0x02\n")},
	"block/mmcblk0boot0/size":                              {Data: []byte("8192\n")},
	"block/mmcblk1/device/type":                            {Data: []byte("SD\n")},
	"block/loop0/size":                                     {Data: []byte("0\n")},
	"block/vda/size":                                       {Data: []byte("100\n")},
	"block/sdc":                                            {Data: []byte("../devices/ufs/host0/sdc"), Mode: fs.ModeSymlink},
	"devices/ufs/host0/sdc/size":                           {Data: []byte("100\n")},
	"devices/ufs/health_descriptor/eol_info":               {Data: []byte("0x01\n")},
	"devices/ufs/health_descriptor/life_time_estimation_a": {Data: []byte("0x03\n")},
	"devices/ufs/health_descriptor/life_time_estimation_b": {Data: []byte("0x01\n")},
}

func find(t *testing.T, name string) Device {
	t.Helper()
	all, err := Discover(sysfs)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(d Device) bool { return d.Name == name })
	if i < 0 {
		t.Fatalf("%s not found in %+v", name, all)
	}
	return all[i]
}

func TestDiscover(t *testing.T) {
	all, err := Discover(sysfs)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range all {
		names = append(names, d.Name+":"+string(d.Protocol))
	}
	want := []string{"mmcblk0:MMC", "mmcblk1:MMC", "nvme0:NVMe", "sda:ATA", "sdb:SCSI", "sdc:UFS", "vda:"}
	if !slices.Equal(names, want) {
		t.Fatalf("found %v, want %v", names, want)
	}
	if d := find(t, "nvme0"); !slices.Equal(d.Blocks, []string{"nvme0n1", "nvme0n2"}) || d.Serial != "N1" {
		t.Errorf("nvme0: %+v", d)
	}
	a := find(t, "sda")
	if n, ok := a.IOErrors(sysfs); !ok || n != 0x1f || !a.Rotating || a.Serial != "S1" {
		t.Errorf("sda: %+v, %d errors", a, n)
	}
	if n, ok := a.IOs(sysfs); !ok || n != 33 {
		t.Errorf("sda: %d requests, want 33", n)
	}
	if find(t, "sdb").Blind == "" || find(t, "vda").Blind == "" || find(t, "mmcblk1").Blind == "" {
		t.Error("a drive that cannot be read is not said to be blind")
	}
}

func readFake(t *testing.T, name string, f *fakeDrive) (Health, error) {
	t.Helper()
	r := Reader{Sys: sysfs, Timeout: time.Second, Open: func(path string) (Handle, error) {
		if path != "/dev/"+name {
			t.Errorf("opened %s", path)
		}
		return f, nil
	}}
	h, err := r.Read(find(t, name))
	if len(f.commands) > 0 && !f.closed {
		t.Error("the node was left open")
	}
	return h, err
}

func ataDrive() *fakeDrive {
	return &fakeDrive{power: 0xff, pages: map[uint8][]byte{
		0: identifyPage(sample()), smartReadData: sampleData(),
		smartThresholds: seal(append([]byte{16, 0, 5, 10}, make([]byte, 508)...)),
	}}
}

func TestReadATA(t *testing.T) {
	for _, fixed := range []bool{false, true} {
		f := ataDrive()
		f.fixed = fixed
		h, err := readFake(t, "sda", f)
		if err != nil || h.Verdict != Watch || h.Serial != "S1" || h.Status == nil || !*h.Status || len(h.Unseen) != 0 {
			t.Fatalf("fixed %v: %+v, %v", fixed, h, err)
		}
		if temp, ok := h.Temperature(); !ok || temp != 35 {
			t.Errorf("temperature %d", temp)
		}
	}
	f := ataDrive()
	f.bad = true
	if h, err := readFake(t, "sda", f); err != nil || h.Verdict != Failed {
		t.Errorf("status bad: %s, %v", h.Verdict, err)
	}
}

func TestSleepingDriveIsLeftAsleep(t *testing.T) {
	f := ataDrive()
	f.power = 0
	h, err := readFake(t, "sda", f)
	if !IsAsleep(err) || h.Verdict != Unknown || h.Power != PowerStandby {
		t.Fatalf("%+v, %v", h, err)
	}
	if !slices.Equal(f.commands, []uint8{ataCheckPower}) {
		t.Errorf("commands %x were sent to a sleeping drive", f.commands)
	}
}

func TestReadFailures(t *testing.T) {
	f := ataDrive()
	f.timeout = true
	if h, err := readFake(t, "sda", f); !errors.Is(err, os.ErrDeadlineExceeded) || h.Verdict != Unknown {
		t.Errorf("time-out: %s, %v", h.Verdict, err)
	}
	f = ataDrive()
	f.refuse = true
	if h, err := readFake(t, "sda", f); !errors.Is(err, errNoPassThrough) || h.Verdict != Unknown {
		t.Errorf("refused: %s, %v", h.Verdict, err)
	}
	f = ataDrive()
	f.pages[smartReadData] = make([]byte, 512)
	h, err := readFake(t, "sda", f)
	if err != nil || h.Verdict != Unknown || len(h.Unseen) != 1 {
		t.Errorf("blank data with a good status: %s, %v, %v", h.Verdict, h.Unseen, err)
	}
	f = ataDrive()
	delete(f.pages, smartThresholds)
	if h, err := readFake(t, "sda", f); err != nil || h.Verdict != Watch || len(h.Unseen) != 1 {
		t.Errorf("no thresholds: %s, %v, %v", h.Verdict, h.Unseen, err)
	}
	r := Reader{Sys: sysfs, Open: func(string) (Handle, error) { return nil, fs.ErrPermission }}
	if h, err := r.Read(find(t, "nvme0")); !errors.Is(err, fs.ErrPermission) || h.Verdict != Unknown || h.Serial != "N1" {
		t.Errorf("no permission: %+v, %v", h, err)
	}
}

func TestReadNVMe(t *testing.T) {
	f := &fakeDrive{pages: map[uint8][]byte{0: nvmeIdentifyPage(sample()), nvmeLogHealth: sampleLog(), nvmeLogErrors: make([]byte, 64)}}
	h, err := readFake(t, "nvme0", f)
	if err != nil || h.Verdict != Healthy || h.Serial != "S1" || h.NVMe.Temperature != 50 {
		t.Fatalf("%+v, %v", h, err)
	}
	delete(f.pages, nvmeLogHealth)
	if h, err := readFake(t, "nvme0", f); err == nil || h.Verdict != Unknown {
		t.Errorf("no health log: %s, %v", h.Verdict, err)
	}
	// An NVMe command to anything but an NVMe node is refused before the node is opened.
	r := Reader{Sys: sysfs, Open: func(string) (Handle, error) { t.Error("opened"); return f, nil }}
	if _, err := r.Read(Device{Name: "sda", Path: "/dev/sda", Protocol: ProtocolNVMe}); err == nil {
		t.Error("an NVMe command went to /dev/sda")
	}
}

func TestReadFlash(t *testing.T) {
	r := Reader{Sys: sysfs}
	h, err := r.Read(find(t, "mmcblk0"))
	if used, ok := h.Used(); err != nil || !ok || used != 100 || h.Verdict != Watch || !h.SpareLow() {
		t.Errorf("eMMC: %d %% %s %v, %v", used, h.Verdict, h.Reasons, err)
	}
	h, err = r.Read(find(t, "sdc"))
	if used, ok := h.Used(); err != nil || !ok || used != 30 || h.Verdict != Healthy {
		t.Errorf("UFS: %d %% %s %v, %v", used, h.Verdict, h.Reasons, err)
	}
}
