package smart

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Device is one drive as sysfs shows it; nothing was sent to the drive yet.
type Device struct {
	Name     string // "sda", "nvme0", "mmcblk0": an NVMe controller stands once, for all its namespaces
	Path     string // the node to open: "/dev/sda"
	Protocol Protocol
	Model    string // as sysfs has it, may be cut short
	Serial   string // empty where sysfs has none
	Firmware string
	Rotating bool
	Sectors  uint64   // of 512 bytes, 0 for a controller
	Blocks   []string // block devices on it: "sda", "nvme0n1"
	Blind    string   // why no health can be read; empty where it can

	sysDir string // under the sysfs root: where life_time, ioerr_cnt … stand
	ufsDir string
}

// skipped are block devices that stand on others or on memory.
var skipped = [...]string{"loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd", "mtdblock", "ubiblock", "bcache", "drbd", "rbd"}

// Discover lists the drives under a sysfs root (os.DirFS("/sys")), sorted by name.
// It reads sysfs only, so it wakes nothing.
func Discover(sys fs.FS) ([]Device, error) {
	entries, err := fs.ReadDir(sys, "block")
	if err != nil {
		return nil, fmt.Errorf("list block devices: %w", err)
	}
	var out []Device
	controllers, err := nvmeControllers(sys)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		name := e.Name()
		if slices.ContainsFunc(skipped[:], func(p string) bool { return strings.HasPrefix(name, p) }) {
			continue
		}
		dir := "block/" + name
		d := Device{Name: name, Path: "/dev/" + name, Blocks: []string{name}, sysDir: dir + "/device"}
		d.Sectors, _ = strconv.ParseUint(line(sys, dir+"/size"), 10, 64)
		d.Rotating = line(sys, dir+"/queue/rotational") == "1"
		d.Model, d.Serial = line(sys, dir+"/device/model"), line(sys, dir+"/device/serial")
		switch {
		case strings.HasPrefix(name, "nvme"):
			addNamespace(controllers, name)
			continue
		case strings.HasPrefix(name, "mmcblk"):
			if strings.Contains(name, "boot") || strings.HasSuffix(name, "rpmb") {
				continue
			}
			d.mmc(sys)
		case strings.HasPrefix(name, "sd"):
			d.scsi(sys)
		default:
			d.Blind = "a virtual or unknown kind of drive that reports no health"
		}
		out = append(out, d)
	}
	out = append(out, controllers...)
	slices.SortFunc(out, func(a, b Device) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func nvmeControllers(sys fs.FS) ([]Device, error) {
	entries, err := fs.ReadDir(sys, "class/nvme")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list NVMe controllers: %w", err)
	}
	var out []Device
	for _, e := range entries {
		dir := "class/nvme/" + e.Name()
		d := Device{
			Name: e.Name(), Path: "/dev/" + e.Name(), Protocol: ProtocolNVMe,
			Model: line(sys, dir+"/model"), Serial: line(sys, dir+"/serial"), Firmware: line(sys, dir+"/firmware_rev"),
			sysDir: dir,
		}
		if s := line(sys, dir+"/state"); s != "" && s != "live" {
			d.Blind = "the controller is " + s
		}
		out = append(out, d)
	}
	return out, nil
}

// addNamespace hangs nvme0n1 (or nvme0c0n1 of a multipath head) on its controller.
func addNamespace(controllers []Device, name string) {
	digits := strings.TrimPrefix(name, "nvme")
	end := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		return
	}
	for i := range controllers {
		if controllers[i].Name == "nvme"+digits[:end] {
			controllers[i].Blocks = append(controllers[i].Blocks, name)
		}
	}
}

func (d *Device) mmc(sys fs.FS) {
	d.Protocol = ProtocolMMC
	d.Model = line(sys, d.sysDir+"/name")
	d.Firmware = line(sys, d.sysDir+"/fwrev")
	if kind := line(sys, d.sysDir+"/type"); kind != "" && kind != "MMC" {
		d.Blind = "an " + kind + " card reports no health"
	}
}

// scsi tells SATA, UFS and native SCSI drives apart without a command to the drive.
func (d *Device) scsi(sys fs.FS) {
	if dir := ufsDescriptor(sys, d.Name); dir != "" {
		d.Protocol, d.ufsDir = ProtocolUFS, dir
		return
	}
	// Page 89h (ATA information) exists where a translation layer says that a SATA drive
	// is behind it. Bridges without it may hang on pass-through commands: they get none.
	_, err := fs.Stat(sys, d.sysDir+"/vpd_pg89")
	if line(sys, d.sysDir+"/vendor") == "ATA" || err == nil {
		d.Protocol = ProtocolATA
	} else {
		d.Protocol = ProtocolSCSI
		d.Blind = "a SCSI drive or a bridge without ATA pass-through"
	}
	if d.Serial == "" {
		if b, err := fs.ReadFile(sys, d.sysDir+"/vpd_pg80"); err == nil && len(b) > 4 {
			d.Serial, _ = text(b[4:])
		}
	}
}

// ufsDescriptor looks for the host controller's health descriptor above the drive.
func ufsDescriptor(sys fs.FS, name string) string {
	target, err := fs.ReadLink(sys, "block/"+name)
	if err != nil {
		return ""
	}
	for dir := path.Join("block", target); dir != "." && dir != "/" && !strings.HasPrefix(dir, ".."); dir = path.Dir(dir) {
		if _, err := fs.Stat(sys, dir+"/health_descriptor"); err == nil {
			return dir + "/health_descriptor"
		}
	}
	return ""
}

// Suspended says whether the kernel has put the device to sleep (runtime power
// management): opening its node would wake it.
func (d Device) Suspended(sys fs.FS) bool {
	return line(sys, d.sysDir+"/power/runtime_status") == "suspended"
}

// IOErrors gives how many commands to a SCSI or SATA drive the kernel saw fail.
func (d Device) IOErrors(sys fs.FS) (n uint64, ok bool) {
	n, err := strconv.ParseUint(line(sys, d.sysDir+"/ioerr_cnt"), 0, 64)
	return n, err == nil
}

// IOs gives how many reads, writes, discards and flushes the device's blocks have done;
// it stays the same while nobody uses them.
func (d Device) IOs(sys fs.FS) (n uint64, ok bool) {
	for _, b := range d.Blocks {
		s, err := ParseStat(line(sys, "block/"+b+"/stat"))
		if err != nil {
			return 0, false
		}
		n += s.Reads + s.Writes + s.Discards + s.Flushes
	}
	return n, len(d.Blocks) > 0
}

// Stat is what Strata uses of /sys/block/*/stat (Documentation/block/stat.rst).
type Stat struct {
	Reads, Writes, Discards, Flushes uint64 // requests done
	InFlight                         uint64 // requests now
	BusyMillis                       uint64 // time with a request in flight
}

// ParseStat reads the line of /sys/block/*/stat: 11 numbers, 15 since Linux 4.18, 17
// since 5.5.
func ParseStat(s string) (Stat, error) {
	var v [17]uint64
	n := 0
	for f := range strings.FieldsSeq(s) {
		if n == len(v) {
			break
		}
		x, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return Stat{}, fmt.Errorf("block statistics %q: %w", s, err)
		}
		v[n] = x
		n++
	}
	if n < 11 {
		return Stat{}, fmt.Errorf("block statistics %q: %d numbers, want at least 11", s, n)
	}
	return Stat{Reads: v[0], Writes: v[4], Discards: v[11], Flushes: v[15], InFlight: v[8], BusyMillis: v[9]}, nil
}

// line reads a sysfs attribute of one line; an absent one is empty.
func line(sys fs.FS, name string) string {
	b, err := fs.ReadFile(sys, name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(strings.TrimRight(string(b), "\x00"))
}
