package smart

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

// Reader reads drives' health. The zero value reads nothing: set all three fields, or
// use NewReader.
type Reader struct {
	Sys     fs.FS         // sysfs
	Open    Opener        // opens device nodes
	Timeout time.Duration // for each command, kept by the kernel's driver
}

// NewReader gives a Reader of this machine: 5 s a command, ten times what a slow drive
// that is awake needs.
func NewReader() Reader {
	return Reader{Sys: os.DirFS("/sys"), Open: OpenNode, Timeout: 5 * time.Second}
}

// Read reads one drive. What is missing stands in Health.Unseen; the error is set where
// nothing of the drive's health could be read, and Health still says which drive it was.
func (r Reader) Read(d Device) (Health, error) {
	h := Health{Device: d, Model: d.Model, Serial: d.Serial, Firmware: d.Firmware, Verdict: Unknown}
	var err error
	switch {
	case d.Blind != "":
		err = errors.New(d.Blind)
	case d.Protocol == ProtocolNVMe:
		err = r.readNVMe(&h)
	case d.Protocol == ProtocolATA:
		err = r.readATA(&h)
	case d.Protocol == ProtocolMMC, d.Protocol == ProtocolUFS:
		var f FlashLife
		if d.Protocol == ProtocolMMC {
			f, err = readMMC(r.Sys, d.sysDir)
		} else {
			f, err = readUFS(r.Sys, d.ufsDir)
		}
		if err == nil {
			h.Flash = &f
		}
	default:
		err = errors.New("no way to read its health")
	}
	h.Judge()
	if err != nil {
		h.unseen("health", "%v", err)
		return h, fmt.Errorf("%s: %w", d.Name, err)
	}
	return h, nil
}

func (r Reader) readNVMe(h *Health) error {
	// An NVMe ioctl to anything but an NVMe node can wedge a bridge.
	if !strings.HasPrefix(h.Device.Path, "/dev/nvme") {
		return fmt.Errorf("%s is not an NVMe node", h.Device.Path)
	}
	dev, err := r.Open(h.Device.Path)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer dev.Close()
	id := make([]byte, nvmeIdentifyLen)
	if err := nvmeAdmin(dev, nvmeIdentifyOp, 0, nvmeCNSCtrl, id, r.Timeout); err != nil {
		h.unseen("identify", "read identify controller: %v", err)
	} else if d, err := DecodeNVMeIdentify(id); err != nil {
		h.unseen("identify", "%v", err)
	} else {
		h.NVMeID = &d
		h.Model, h.Serial, h.Firmware = d.Model, d.Serial, d.Firmware
	}
	log := make([]byte, nvmeHealthLen)
	if err := nvmeLog(dev, nvmeLogHealth, log, r.Timeout); err != nil {
		return fmt.Errorf("read health log: %w", err)
	}
	n, err := DecodeNVMeHealth(log)
	if err != nil {
		return err
	}
	h.NVMe = &n
	entries := 1
	if h.NVMeID != nil {
		entries = min(h.NVMeID.ErrorLogEntries, 16)
	}
	errs := make([]byte, entries*nvmeErrorLen)
	if err := nvmeLog(dev, nvmeLogErrors, errs, r.Timeout); err != nil {
		h.unseen("errors", "read error log: %v", err)
	} else if h.NVMeErrors, err = DecodeNVMeErrors(errs); err != nil {
		h.unseen("errors", "%v", err)
	}
	return nil
}

// errAsleep is what Read wraps for a drive that was left asleep.
var errAsleep = errors.New("asleep, left so")

// IsAsleep says whether Read left a drive alone because it sleeps.
func IsAsleep(err error) bool { return errors.Is(err, errAsleep) }

func (r Reader) readATA(h *Health) error {
	if h.Device.Suspended(r.Sys) {
		h.Power = PowerStandby
		return errAsleep
	}
	dev, err := r.Open(h.Device.Path)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer dev.Close()
	s := &ataSession{h: dev, timeout: r.Timeout}
	before, counted := h.Device.IOErrors(r.Sys)
	defer func() {
		if after, ok := h.Device.IOErrors(r.Sys); ok && counted && after > before {
			h.OwnErrors = min(after-before, uint64(s.answered))
		}
	}()
	if err := checkPower(s, h); err != nil {
		return err
	}
	page := make([]byte, ataPage)
	if _, err := s.command(ataIdentify, 0, false, page); err != nil {
		return fmt.Errorf("identify: %w", err)
	}
	id, err := DecodeIdentify(page)
	if err != nil {
		return err
	}
	h.Identify = &id
	h.Model, h.Firmware = id.Model, id.Firmware
	if id.Serial != "" {
		h.Serial = id.Serial
	}
	switch {
	case !id.SMARTSupported:
		return errors.New("drive does not support SMART")
	case !id.SMARTEnabled:
		return errors.New("SMART is switched off in the drive")
	}
	return readSMART(s, h)
}

// checkPower leaves a rotating drive that sleeps alone. Solid-state drives wake at no
// cost, and several of them report standby all the time.
func checkPower(s *ataSession, h *Health) error {
	regs, err := s.command(ataCheckPower, 0, false, nil)
	if errors.Is(err, errNoPassThrough) {
		return err
	}
	if err != nil {
		h.unseen("power", "check power mode: %v", err)
		if h.Device.Rotating && errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("check power mode: %w", err)
		}
		return nil
	}
	// ACS-3 table 45: 00h, 01h standby; 80h–83h idle; FFh active or idle.
	switch {
	case regs.count <= 0x01:
		h.Power = PowerStandby
	case regs.count&0xfc == 0x80:
		h.Power = PowerIdle
	default:
		h.Power = PowerActive
	}
	if h.Power == PowerStandby && h.Device.Rotating {
		return errAsleep
	}
	return nil
}

func readSMART(s *ataSession, h *Health) error {
	page := make([]byte, ataPage)
	_, dataErr := s.command(ataSMART, smartReadData, true, page)
	if dataErr != nil {
		dataErr = fmt.Errorf("read SMART data: %w", dataErr)
	} else if d, err := DecodeData(page); err != nil {
		dataErr = err
	} else {
		h.Data = &d
	}
	if h.Data != nil {
		clear(page)
		if _, err := s.command(ataSMART, smartThresholds, true, page); err != nil {
			h.unseen("thresholds", "read SMART thresholds: %v", err)
		} else if t, err := DecodeThresholds(page); err != nil {
			h.unseen("thresholds", "%v", err)
		} else {
			t.Apply(h.Data)
		}
	}
	regs, err := s.command(ataSMART, smartStatus, true, nil)
	good := regs.mid == smartMid && regs.high == smartHigh
	bad := regs.mid == smartBadMid && regs.high == smartBadHigh
	switch {
	case err != nil:
		h.unseen("status", "SMART return status: %v", err)
	case !good && !bad:
		h.unseen("status", "SMART return status: registers %02x %02x mean nothing", regs.mid, regs.high)
	default:
		h.Status = &good
	}
	if h.Data == nil && h.Status == nil {
		return dataErr
	}
	if dataErr != nil {
		h.unseen("data", "%v", dataErr)
	}
	return nil
}
