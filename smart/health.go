package smart

import (
	"fmt"
	"slices"
)

// Protocol is how a drive is spoken to.
type Protocol string

// The protocols. ProtocolNone is a drive that offers no health data of its own.
const (
	ProtocolATA  Protocol = "ATA"
	ProtocolNVMe Protocol = "NVMe"
	ProtocolMMC  Protocol = "MMC"
	ProtocolUFS  Protocol = "UFS"
	ProtocolSCSI Protocol = "SCSI"
	ProtocolNone Protocol = ""
)

// Verdict grades a drive. Unknown means that it could not be judged: it is never good news.
type Verdict string

// The verdicts, from good to bad; Unknown stands aside.
const (
	Unknown Verdict = "unknown"
	Healthy Verdict = "healthy"
	Watch   Verdict = "watch"   // something to look at; the drive works
	Failing Verdict = "failing" // expect it to fail, replace it
	Failed  Verdict = "failed"  // it says itself that it has failed
)

func (v Verdict) rank() int {
	return slices.Index([]Verdict{Unknown, Healthy, Watch, Failing, Failed}, v)
}

// Power is what CHECK POWER MODE says.
type Power string

// The power states.
const (
	PowerUnknown Power = ""
	PowerActive  Power = "active"
	PowerIdle    Power = "idle"
	PowerStandby Power = "standby"
)

// Reason is one ground of a verdict: a stable key and a sentence.
type Reason struct {
	Key  string `json:"key"`
	Text string `json:"text"`
}

// Health is all that was read of one drive at one time.
type Health struct {
	Device     Device
	Model      string
	Serial     string
	Firmware   string
	Power      Power
	Identify   *Identify // ATA
	Data       *Data     // ATA, with thresholds where they were read
	Status     *bool     // ATA SMART RETURN STATUS: true says good
	NVMe       *NVMeHealth
	NVMeID     *NVMeIdentify
	NVMeErrors []NVMeError
	Flash      *FlashLife // eMMC, UFS
	Verdict    Verdict
	Reasons    []Reason // why it is not Healthy
	Unseen     []Reason // what could not be read; the rest stands

	// OwnErrors is how much the reading itself raised the kernel's count of failed
	// commands (Device.IOErrors): a command that returns registers comes back with sense
	// data, and the kernel counts that as an error.
	OwnErrors uint64
}

// Thresholds of judgement. Shares of drives that failed within a year of showing the
// value come from the public Backblaze drive statistics.
const (
	reallocatedFailing = 16 // 24 % at 16–70 sectors, under 3 % below
	usedWatch          = 90 // per cent of rated life: time to plan the replacement
	usedFailing        = 100
	coldest            = 20 // °C: a temperature warning at or below is about cold
)

// Temperature gives the drive's temperature in °C.
func (h *Health) Temperature() (celsius int, ok bool) {
	if h.NVMe != nil {
		return h.NVMe.Temperature, h.NVMe.TemperatureKnown
	}
	if h.Data == nil {
		return 0, false
	}
	for _, id := range [...]uint8{attrTemperature, attrAirflow} {
		// Only the lowest byte is the current reading; the others hold extremes.
		if a, ok := h.Data.Find(id); ok {
			if t := int(int8(a.RawBytes[0])); t > -60 && t < 120 && t != 0 {
				return t, true
			}
		}
	}
	return 0, false
}

// PowerOnHours gives the lifetime in hours.
func (h *Health) PowerOnHours() (hours uint64, ok bool) {
	if h.NVMe != nil {
		return h.NVMe.PowerOnHours.Saturated(), true
	}
	if h.Data == nil {
		return 0, false
	}
	a, ok := h.Data.Find(attrPowerOnHours)
	raw := a.Raw()
	if raw>>32 != 0 {
		raw &= 0xffffff // makers that keep parts of an hour above the count use 24 bits for it
	}
	return raw, ok
}

// PowerCycles gives how often the drive was switched on.
func (h *Health) PowerCycles() (cycles uint64, ok bool) {
	if h.NVMe != nil {
		return h.NVMe.PowerCycles.Saturated(), true
	}
	return h.Count(attrPowerCycles)
}

// Count gives the raw count of an ATA attribute.
func (h *Health) Count(id uint8) (n uint64, ok bool) {
	if h.Data == nil {
		return 0, false
	}
	a, ok := h.Data.Find(id)
	return a.count(), ok
}

// Reallocated gives the sectors that the drive has replaced.
func (h *Health) Reallocated() (uint64, bool) { return h.Count(attrReallocated) }

// Pending gives the sectors that wait to be replaced.
func (h *Health) Pending() (uint64, bool) { return h.Count(attrPending) }

// OfflineUncorrectable gives the sectors that the drive's own scan could not read.
func (h *Health) OfflineUncorrectable() (uint64, bool) { return h.Count(attrOffline) }

// ReportedUncorrectable gives the errors reported to the host since the drive was made.
func (h *Health) ReportedUncorrectable() (uint64, bool) { return h.Count(attrReported) }

// LinkCRC gives the CRC errors between drive and host: the cable's, not the medium's.
func (h *Health) LinkCRC() (uint64, bool) { return h.Count(attrLinkCRC) }

// Prefail says whether the drive itself predicts its failure: by RETURN STATUS, or by a
// pre-failure attribute at its threshold. ok is false where neither could be read.
func (h *Health) Prefail() (failing, ok bool) {
	if h.Status != nil {
		failing, ok = !*h.Status, true
	}
	if h.Data != nil {
		for _, a := range h.Data.Attributes {
			ok = ok || a.HasThreshold
			failing = failing || a.Flags&FlagPrefailure != 0 && a.FailedNow()
		}
	}
	return failing, ok
}

// Overheated says whether the drive is above its own temperature limit.
func (h *Health) Overheated() bool {
	if n := h.NVMe; n != nil {
		// The bit stands for too cold as well.
		return n.Warning&WarnTemperature != 0 && (!n.TemperatureKnown || n.Temperature > coldest)
	}
	if h.Data == nil {
		return false
	}
	for _, id := range [...]uint8{attrTemperature, attrAirflow} {
		if a, ok := h.Data.Find(id); ok && a.FailedNow() {
			return true
		}
	}
	return false
}

// SpareLow says whether the spare blocks are below the limit that drive or standard sets.
func (h *Health) SpareLow() bool {
	switch {
	case h.NVMe != nil:
		return h.NVMe.Warning&WarnSpare != 0 || h.NVMe.Spare < h.NVMe.SpareThreshold
	case h.Flash != nil:
		return h.Flash.PreEOL >= PreEOLWarning
	}
	return false
}

// Used gives the share of the rated life that is used, in per cent. SATA drives have no
// such attribute that means the same on every model.
func (h *Health) Used() (percent int, ok bool) {
	switch {
	case h.NVMe != nil:
		return int(h.NVMe.Used), true
	case h.Flash != nil:
		return h.Flash.Used()
	}
	return 0, false
}

// Judge fills in Verdict and Reasons from what was read.
func (h *Health) Judge() {
	h.Verdict, h.Reasons = Unknown, nil
	switch {
	case h.NVMe != nil:
		h.Verdict = Healthy
		h.judgeNVMe()
	case h.Flash != nil:
		h.judgeFlash()
	case h.Data != nil || h.Status != nil:
		if _, ok := h.Prefail(); ok && h.Data != nil {
			h.Verdict = Healthy
		}
		h.judgeATA()
	}
}

func (h *Health) worse(v Verdict, key, format string, args ...any) {
	h.Reasons = append(h.Reasons, Reason{key, fmt.Sprintf(format, args...)})
	if v.rank() > h.Verdict.rank() {
		h.Verdict = v
	}
}

func (h *Health) unseen(key, format string, args ...any) {
	h.Unseen = append(h.Unseen, Reason{key, fmt.Sprintf(format, args...)})
}

func (h *Health) judgeNVMe() {
	n := h.NVMe
	for _, w := range [...]struct {
		bit  Warning
		v    Verdict
		key  string
		text string
	}{
		{WarnReadOnly, Failed, "read_only", "the drive has gone read-only"},
		{WarnDegraded, Failing, "degraded", "the drive says that its reliability is degraded"},
		{WarnSpare, Failing, "spare_low", "spare blocks are below the drive's threshold"},
		{WarnBackup, Failing, "backup_failed", "the backup of the drive's volatile memory has failed"},
		{WarnPMR, Failing, "pmr_unreliable", "the persistent memory region is unreliable"},
		{warnReserved, Failing, "critical_warning", "the drive raises a critical warning that is not defined"},
		{WarnTemperature, Watch, "temperature", "the temperature is outside the drive's thresholds"},
	} {
		if n.Warning&w.bit != 0 {
			h.worse(w.v, w.key, "%s", w.text)
		}
	}
	if n.Spare < n.SpareThreshold && n.Warning&WarnSpare == 0 {
		h.worse(Failing, "spare_low", "spare %d %% is below the threshold %d %%", n.Spare, n.SpareThreshold)
	}
	if c := n.MediaErrors.Saturated(); c > 0 {
		h.worse(Watch, "media_errors", "%d media and data integrity errors", c)
	}
	switch {
	case n.Used >= usedFailing:
		h.worse(Failing, "worn", "%d %% of the rated life is used", n.Used)
	case n.Used >= usedWatch:
		h.worse(Watch, "worn", "%d %% of the rated life is used", n.Used)
	}
	if !n.TemperatureKnown {
		h.unseen("temperature", "a composite temperature of %d K is implausible", n.implausibleComposite)
	}
	if n.implausibleCounter != "" {
		h.unseen("counters", "the counter of %s is implausible", n.implausibleCounter)
	}
	if h.Verdict == Healthy && (!n.TemperatureKnown || n.implausibleCounter != "") {
		h.Verdict = Unknown
	}
}

func (h *Health) judgeATA() {
	if h.Status != nil && !*h.Status {
		h.worse(Failed, "status", "the drive says that a threshold is exceeded")
	}
	if h.Data == nil {
		return
	}
	for _, a := range h.Data.Attributes {
		name := AttributeName(a.ID)
		switch {
		case a.FailedNow() && a.Flags&FlagPrefailure != 0:
			h.worse(Failed, "prefail", "pre-failure attribute %d %s is %d, threshold %d", a.ID, name, a.Value, a.Threshold)
		case a.FailedNow():
			h.worse(Watch, "attribute", "attribute %d %s is %d, threshold %d", a.ID, name, a.Value, a.Threshold)
		case a.FailedPast():
			h.worse(Watch, "attribute_past", "attribute %d %s was once %d, threshold %d", a.ID, name, a.Worst, a.Threshold)
		}
	}
	if n, _ := h.Reallocated(); n >= reallocatedFailing {
		h.worse(Failing, "reallocated", "%d sectors reallocated", n)
	} else if n > 0 {
		h.worse(Watch, "reallocated", "%d sectors reallocated", n)
	}
	if n, _ := h.Pending(); n > 0 {
		h.worse(Failing, "pending", "%d sectors wait for reallocation", n)
	}
	if n, _ := h.OfflineUncorrectable(); n > 0 {
		h.worse(Failing, "uncorrectable", "%d sectors cannot be read", n)
	}
	if n, _ := h.ReportedUncorrectable(); n > 0 {
		h.worse(Watch, "reported_uncorrectable", "%d errors reported that could not be corrected", n)
	}
	if n, _ := h.LinkCRC(); n > 0 {
		h.worse(Watch, "link_crc", "%d CRC errors between drive and host: cable or connector, not the medium", n)
	}
}
