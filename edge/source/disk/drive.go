package disk

import (
	"strconv"
	"time"

	"github.com/strata-edge/strata/edge/diag"
	"github.com/strata-edge/strata/smart"
)

// drive is what the source remembers of one drive.
type drive struct {
	dev    smart.Device
	scope  diag.Scope
	health smart.Health // of the last reading that worked
	read   bool         // health is set

	busy  bool      // a reading is under way
	since diag.Time // when it began
	ios   uint64    // requests done before it

	states   map[string]bool   // states that were reported as holding
	why      string            // the reason of the state "unobservable"
	totals   map[string]uint64 // lifetime counts at the last reading
	ioErrors uint64            // the kernel's count
	counted  bool              // ioErrors is set
}

func newDrive() *drive {
	return &drive{states: map[string]bool{}, totals: map[string]uint64{}}
}

func (d *drive) emit(now diag.Time, emit func(diag.Signal), name string, v float64, hold time.Duration, extra ...diag.Attr) {
	attrs := append([]diag.Attr{{Key: "system.device", Value: d.dev.Name}}, extra...)
	if d.health.Model != "" {
		attrs = append(attrs, diag.Attr{Key: "disk.model", Value: d.health.Model})
	}
	emit(diag.Signal{Time: now, Source: sourceName, Name: name, Scope: d.scope, Value: v, Hold: hold, Attrs: attrs})
}

// state reports a change of a state; a state that never held is not reported as over.
func (d *drive) state(now diag.Time, emit func(diag.Signal), name string, holds bool, extra ...diag.Attr) {
	if d.states[name] == holds {
		return
	}
	d.states[name] = holds
	v := 0.0
	if holds {
		v = 1
	}
	d.emit(now, emit, name, v, 0, extra...)
}

// blind reports that the drive cannot be seen, once for each reason.
func (d *drive) blind(now diag.Time, emit func(diag.Signal), why string) {
	if d.states["unobservable"] && d.why == why {
		return
	}
	d.states["unobservable"], d.why = true, why
	d.emit(now, emit, "unobservable", 1, 0, diag.Attr{Key: "reason", Value: why})
}

// end reports every state that holds as over.
func (d *drive) end(now diag.Time, emit func(diag.Signal)) {
	for name, holds := range d.states {
		if holds {
			d.state(now, emit, name, false)
		}
	}
}

// report gives the states of a new reading and what was counted since the one before.
func (d *drive) report(now diag.Time, emit func(diag.Signal)) {
	h := &d.health
	if n := h.NVMe; n != nil {
		w := n.Warning
		bits := diag.Attr{Key: "nvme.critical_warning", Value: "0x" + strconv.FormatUint(uint64(w), 16)}
		d.state(now, emit, "nvme.critical_warning", w != 0, bits)
		d.state(now, emit, "nvme.degraded", w&smart.WarnDegraded != 0, bits)
		d.state(now, emit, "nvme.read_only", w&smart.WarnReadOnly != 0, bits)
		d.count(now, emit, "nvme.media_errors", n.MediaErrors.Saturated())
	}
	if failing, ok := h.Prefail(); ok {
		d.state(now, emit, "ata.prefail", failing)
	}
	d.state(now, emit, "spare_low", h.SpareLow())
	d.state(now, emit, "overheated", h.Overheated())
	// Errors reported to the host stay in the drive's lifetime count for ever: only new
	// ones are news.
	if n, ok := h.ReportedUncorrectable(); ok {
		d.count(now, emit, "ata.reported_uncorrectable", n)
	}
	if n, ok := h.LinkCRC(); ok {
		d.count(now, emit, "ata.link_crc", n)
	}
}

// count reports by how much a lifetime count grew. The first reading is the baseline; a
// count that falls was reset and starts anew.
func (d *drive) count(now diag.Time, emit func(diag.Signal), name string, total uint64) {
	last, known := d.totals[name]
	if known && total > last {
		d.emit(now, emit, name, float64(total-last), 0)
	}
	d.totals[name] = total
}

// levels gives the readings that stand until the next one is due.
func (s *Source) levels(d *drive, now diag.Time, emit func(diag.Signal)) {
	hold := s.cfg.Interval*2 + s.cfg.Interval/2
	h := &d.health
	if t, ok := h.Temperature(); ok {
		d.emit(now, emit, "temperature", float64(t), hold)
	}
	if used, ok := h.Used(); ok {
		d.emit(now, emit, "wear", float64(used), hold)
	}
	for _, c := range [...]struct {
		name string
		get  func() (uint64, bool)
	}{
		{"ata.reallocated", h.Reallocated},
		{"ata.pending", h.Pending},
		{"ata.offline_uncorrectable", h.OfflineUncorrectable},
	} {
		if n, ok := c.get(); ok {
			d.emit(now, emit, c.name, float64(n), hold)
		}
	}
}
