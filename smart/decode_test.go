package smart

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strata-edge/strata/internal/testreq"
)

// healthOf decodes the pages rebuilt from a recorded drive.
func healthOf(t testing.TB, r record) *Health {
	t.Helper()
	h := &Health{}
	switch {
	case r.Table != nil:
		data, thresholds := dataPages(r)
		d, err := DecodeData(data)
		if err != nil {
			t.Fatalf("%s: %v", r.file, err)
		}
		th, err := DecodeThresholds(thresholds)
		if err != nil {
			t.Fatalf("%s: %v", r.file, err)
		}
		th.Apply(&d)
		h.Data = &d
	case r.NVMe != nil:
		n, err := DecodeNVMeHealth(nvmeHealthPage(r))
		if err != nil {
			t.Fatalf("%s: %v", r.file, err)
		}
		h.NVMe = &n
	}
	h.Judge()
	return h
}

func TestRecordedATA(t *testing.T) {
	drives, attributes := 0, 0
	for _, r := range records(t) {
		if r.Table == nil || len(r.Table.Table) == 0 {
			continue
		}
		drives++
		h := healthOf(t, r)
		rep := h.Report()
		if got, want := len(rep.Attributes.Table), len(r.Table.Table); got != want {
			t.Fatalf("%s: %d attributes, want %d", r.file, got, want)
		}
		for i, want := range r.Table.Table {
			attributes++
			got := rep.Attributes.Table[i]
			if got.ID != want.ID || got.Value != want.Value || got.Worst != want.Worst || *got.Threshold != want.Thresh ||
				got.Flags.Value != want.Flags.Value || got.WhenFailed != want.WhenFailed || got.Raw.Value != want.Raw.Value&(1<<48-1) {
				t.Errorf("%s: attribute %d: got %+v, want %+v", r.file, want.ID, got, want)
			}
		}
		if r.Temp.Current != nil {
			if got, ok := h.Temperature(); !ok || got != *r.Temp.Current {
				t.Errorf("%s: temperature %d (%v), want %d", r.file, got, ok, *r.Temp.Current)
			}
		}
		if r.PowerOn.Hours != nil {
			if got, ok := h.PowerOnHours(); !ok || got != *r.PowerOn.Hours {
				t.Errorf("%s: power-on hours %d (%v), want %d", r.file, got, ok, *r.PowerOn.Hours)
			}
		}
		if r.Cycles != nil {
			if got, ok := h.PowerCycles(); !ok || got != *r.Cycles {
				t.Errorf("%s: power cycles %d (%v), want %d", r.file, got, ok, *r.Cycles)
			}
		}
		if r.Status != nil && rep.Status.Passed != r.Status.Passed {
			t.Errorf("%s: passed %v, want %v", r.file, rep.Status.Passed, r.Status.Passed)
		}
		id, err := DecodeIdentify(identifyPage(r))
		if err != nil {
			t.Fatalf("%s: %v", r.file, err)
		}
		if id.Model != r.Model || id.Serial != r.Serial || id.Firmware != r.Firmware || id.Bytes() != r.Capacity.Bytes ||
			uint64(id.PhysicalSector) != r.Physical || !id.SMARTEnabled || !id.Checked {
			t.Errorf("%s: identify gives %+v", r.file, id)
		}
	}
	if drives < 50 {
		t.Fatalf("only %d ATA drives in the data", drives)
	}
	t.Logf("%d drives, %d attributes", drives, attributes)
}

func TestRecordedNVMe(t *testing.T) {
	drives := 0
	for _, r := range records(t) {
		if r.NVMe == nil {
			continue
		}
		drives++
		n, want := healthOf(t, r).NVMe, r.NVMe
		for _, c := range [...]struct {
			name      string
			got, want uint64
		}{
			{"warning", uint64(n.Warning), uint64(want.Warning)},
			{"temperature", uint64(n.Temperature), uint64(want.Temperature)},
			{"spare", uint64(n.Spare), uint64(want.Spare)},
			{"threshold", uint64(n.SpareThreshold), uint64(want.Threshold)},
			{"used", uint64(n.Used), uint64(want.Used)},
			{"read", n.UnitsRead.Lo, want.Read},
			{"written", n.UnitsWritten.Lo, want.Written},
			{"host reads", n.HostReads.Lo, want.HostReads},
			{"host writes", n.HostWrites.Lo, want.HostWrites},
			{"busy", n.BusyMinutes.Lo, want.Busy},
			{"cycles", n.PowerCycles.Lo, want.Cycles},
			{"hours", n.PowerOnHours.Lo, want.Hours},
			{"unsafe", n.UnsafeShutdowns.Lo, want.Unsafe},
			{"media", n.MediaErrors.Lo, want.Media},
			{"errors", n.ErrorEntries.Lo, want.Errors},
			{"warning time", uint64(n.WarningMinutes), uint64(want.WarningTime)},
			{"critical time", uint64(n.CriticalMinutes), uint64(want.CriticalTime)},
		} {
			if c.got != c.want {
				t.Errorf("%s: %s: %d, want %d", r.file, c.name, c.got, c.want)
			}
		}
		for i, s := range want.Sensors {
			if !n.SensorPresent[i] || n.Sensors[i] != s {
				t.Errorf("%s: sensor %d: %d, want %d", r.file, i, n.Sensors[i], s)
			}
		}
		id, err := DecodeNVMeIdentify(nvmeIdentifyPage(r))
		if err != nil {
			t.Fatalf("%s: %v", r.file, err)
		}
		if id.Model != r.Model || id.Serial != r.Serial || id.VendorID != r.PCI.ID || id.OUI != r.OUI || id.Total.Lo != r.Total ||
			id.ControllerID != r.Controller || id.Namespaces != r.Namespaces || id.Version != r.Version.Value {
			t.Errorf("%s: identify gives %+v", r.file, id)
		}
	}
	if drives < 25 {
		t.Fatalf("only %d NVMe drives in the data", drives)
	}
	t.Logf("%d drives", drives)
}

// TestLabels holds the verdict to the labels that stand beside the recorded drives.
func TestLabels(t *testing.T) {
	f, err := os.Open(filepath.Join(testreq.Data(t), "smart-nvme", "labels.tsv"))
	if err != nil {
		testreq.Missing(t, "data", err.Error())
	}
	defer f.Close()
	labels := map[string]string{}
	for s := bufio.NewScanner(f); s.Scan(); {
		c := strings.Split(s.Text(), "\t")
		labels[c[0]] = c[len(c)-1]
	}
	seen := map[string]int{}
	for _, r := range records(t) {
		if r.NVMe == nil && (r.Table == nil || len(r.Table.Table) == 0) {
			continue
		}
		h := healthOf(t, r)
		label := labels[r.file]
		seen[label+"/"+string(h.Verdict)]++
		if (h.Verdict == Healthy) != (label == "healthy") {
			t.Errorf("%s: %s (%v), labelled %s", r.file, h.Verdict, h.Reasons, label)
		}
	}
	t.Log(seen)
}
