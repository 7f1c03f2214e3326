package smart

import (
	"math"
	"math/big"
)

const (
	nvmeIdentifyLen = 4096
	nvmeHealthLen   = 512
	nvmeErrorLen    = 64
	kelvin          = 273 // drives give whole kelvin; the field's tools subtract 273
)

// Uint128 is a little-endian 128-bit counter of a log page.
type Uint128 struct{ Lo, Hi uint64 }

func le128(b []byte, off int) Uint128 { return Uint128{le64(b, off), le64(b, off+8)} }

// Saturated gives the value, or the largest uint64 where it does not fit.
func (u Uint128) Saturated() uint64 {
	if u.Hi != 0 {
		return math.MaxUint64
	}
	return u.Lo
}

// String gives the value in decimal.
func (u Uint128) String() string {
	v := new(big.Int).SetUint64(u.Hi)
	return v.Lsh(v, 64).Or(v, new(big.Int).SetUint64(u.Lo)).String()
}

// MarshalJSON writes the exact number.
func (u Uint128) MarshalJSON() ([]byte, error) { return []byte(u.String()), nil }

// NVMeIdentify is what Strata uses of Identify Controller (NVMe base 2.0, figure 275).
type NVMeIdentify struct {
	VendorID, SubsystemID   uint16
	Serial, Model, Firmware string
	OUI                     uint32
	ControllerID            uint16
	Version                 uint32 // major<<16 | minor<<8 | tertiary, 0 before 1.2
	WarnTemperature         int    // °C, 0 not reported
	CriticalTemperature     int    // °C, 0 not reported
	Total, Unallocated      Uint128
	Namespaces              uint32
	ErrorLogEntries         int // ELPE + 1
}

// DecodeNVMeIdentify reads the 4096 bytes of Identify Controller (CNS 01h).
func DecodeNVMeIdentify(b []byte) (NVMeIdentify, error) {
	if err := checkLen(PageNVMeIdentify, b, nvmeIdentifyLen); err != nil {
		return NVMeIdentify{}, err
	}
	if blank(b) {
		return NVMeIdentify{}, refuse(PageNVMeIdentify, "all bytes are zero")
	}
	d := NVMeIdentify{
		VendorID: le16(b, 0), SubsystemID: le16(b, 2),
		OUI:          uint32(b[73]) | uint32(b[74])<<8 | uint32(b[75])<<16,
		ControllerID: le16(b, 78), Version: le32(b, 80),
		Total: le128(b, 280), Unallocated: le128(b, 296), Namespaces: le32(b, 516),
		ErrorLogEntries: int(b[262]) + 1,
	}
	if t := le16(b, 266); t != 0 {
		d.WarnTemperature = int(t) - kelvin
	}
	if t := le16(b, 268); t != 0 {
		d.CriticalTemperature = int(t) - kelvin
	}
	fields := [...]struct {
		name     string
		from, to int
		into     *string
	}{
		{"serial number", 4, 24, &d.Serial}, {"model", 24, 64, &d.Model}, {"firmware", 64, 72, &d.Firmware},
	}
	for _, f := range fields {
		s, ok := text(b[f.from:f.to])
		if !ok {
			return NVMeIdentify{}, refuse(PageNVMeIdentify, "%s holds bytes that are no text", f.name)
		}
		*f.into = s
	}
	if d.Model == "" && d.Serial == "" {
		return NVMeIdentify{}, refuse(PageNVMeIdentify, "neither model nor serial number")
	}
	return d, nil
}

// Warning is the critical-warning byte of the health log.
type Warning uint8

// The bits (NVMe base 2.0, figure 207).
const (
	WarnSpare       Warning = 1 << iota // spare blocks below the threshold
	WarnTemperature                     // above or below a temperature threshold
	WarnDegraded                        // reliability degraded by media or internal errors
	WarnReadOnly                        // media in read-only mode
	WarnBackup                          // the volatile memory's backup failed
	WarnPMR                             // persistent memory region unreliable
	warnReserved    Warning = 0xc0
)

// NVMeHealth is the SMART / Health Information log (02h). Temperatures are in °C.
type NVMeHealth struct {
	Warning              Warning
	Temperature          int  // composite
	TemperatureKnown     bool // false for a reading that no drive can have
	Spare                uint8
	SpareThreshold       uint8 // both in per cent
	Used                 uint8 // per cent of the rated life, may pass 100
	UnitsRead            Uint128
	UnitsWritten         Uint128 // of 512,000 bytes
	HostReads            Uint128
	HostWrites           Uint128
	BusyMinutes          Uint128
	PowerCycles          Uint128
	PowerOnHours         Uint128
	UnsafeShutdowns      Uint128
	MediaErrors          Uint128
	ErrorEntries         Uint128
	WarningMinutes       uint32
	CriticalMinutes      uint32
	Sensors              [8]int // valid where SensorPresent
	SensorPresent        [8]bool
	ThermalTransition    [2]uint32
	ThermalSeconds       [2]uint32
	implausibleCounter   string
	implausibleComposite uint16
}

// A drive outside this range of kelvin (−73 to 177 °C) does not work: the page or the
// firmware is wrong, and the reading counts as not seen.
const (
	minKelvin = 200
	maxKelvin = 450
)

// DecodeNVMeHealth reads the 512 bytes of log page 02h. The page carries no checksum;
// what can be checked is its length, that it is not blank, and that percentages are ones.
func DecodeNVMeHealth(b []byte) (NVMeHealth, error) {
	if err := checkLen(PageNVMeHealth, b, nvmeHealthLen); err != nil {
		return NVMeHealth{}, err
	}
	if blank(b) {
		return NVMeHealth{}, refuse(PageNVMeHealth, "all bytes are zero")
	}
	if blank(b[:6]) {
		return NVMeHealth{}, refuse(PageNVMeHealth, "temperature, spare and threshold are all zero")
	}
	h := NVMeHealth{
		Warning: Warning(b[0]), Spare: b[3], SpareThreshold: b[4], Used: b[5],
		UnitsRead: le128(b, 32), UnitsWritten: le128(b, 48), HostReads: le128(b, 64), HostWrites: le128(b, 80),
		BusyMinutes: le128(b, 96), PowerCycles: le128(b, 112), PowerOnHours: le128(b, 128),
		UnsafeShutdowns: le128(b, 144), MediaErrors: le128(b, 160), ErrorEntries: le128(b, 176),
		WarningMinutes: le32(b, 192), CriticalMinutes: le32(b, 196),
		ThermalTransition: [2]uint32{le32(b, 216), le32(b, 220)},
		ThermalSeconds:    [2]uint32{le32(b, 224), le32(b, 228)},
	}
	if h.Spare > 100 {
		return NVMeHealth{}, refuse(PageNVMeHealth, "available spare %d %%, want at most 100", h.Spare)
	}
	if h.SpareThreshold > 100 {
		return NVMeHealth{}, refuse(PageNVMeHealth, "spare threshold %d %%, want at most 100", h.SpareThreshold)
	}
	k := le16(b, 1)
	if k >= minKelvin && k <= maxKelvin {
		h.Temperature, h.TemperatureKnown = int(k)-kelvin, true
	} else {
		h.implausibleComposite = k
	}
	for i := range h.Sensors {
		if k := le16(b, 200+2*i); k != 0 {
			h.Sensors[i], h.SensorPresent[i] = int(k)-kelvin, true
		}
	}
	// No drive reaches 2^64 of anything here.
	for _, c := range [...]struct {
		name string
		v    Uint128
	}{
		{"data units read", h.UnitsRead}, {"data units written", h.UnitsWritten},
		{"host reads", h.HostReads}, {"host writes", h.HostWrites}, {"busy time", h.BusyMinutes},
		{"power cycles", h.PowerCycles}, {"power-on hours", h.PowerOnHours},
		{"unsafe shutdowns", h.UnsafeShutdowns}, {"media errors", h.MediaErrors}, {"error log entries", h.ErrorEntries},
	} {
		if c.v.Hi != 0 {
			h.implausibleCounter = c.name
			break
		}
	}
	return h, nil
}

// NVMeError is one entry of the Error Information log (01h).
type NVMeError struct {
	Count     uint64 // running number since the drive was made
	Queue     uint16
	Command   uint16
	Status    uint16 // status field without the phase bit
	Location  uint16 // byte and bit of the command at fault
	LBA       uint64
	Namespace uint32
	Device    bool // status code type 2: media and data integrity errors
}

// DecodeNVMeErrors reads log page 01h: whole entries of 64 bytes; unused ones are left out.
func DecodeNVMeErrors(b []byte) ([]NVMeError, error) {
	if len(b) == 0 || len(b)%nvmeErrorLen != 0 {
		return nil, refuse(PageNVMeErrors, "%d bytes, want whole entries of %d", len(b), nvmeErrorLen)
	}
	var out []NVMeError
	for e := range len(b) / nvmeErrorLen {
		p := b[e*nvmeErrorLen:][:nvmeErrorLen]
		count := le64(p, 0)
		if count == 0 {
			if !blank(p) {
				return nil, refuse(PageNVMeErrors, "entry %d has content and no number", e)
			}
			continue
		}
		status := le16(p, 12) >> 1
		out = append(out, NVMeError{
			Count: count, Queue: le16(p, 8), Command: le16(p, 10), Status: status,
			Location: le16(p, 14), LBA: le64(p, 16), Namespace: le32(p, 24),
			Device: status>>8&7 == 2,
		})
	}
	return out, nil
}
