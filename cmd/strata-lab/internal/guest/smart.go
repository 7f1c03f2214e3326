package guest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// drive is what the smoke test compares of one drive: the subset of smartctl's JSON that
// says what the drive holds rather than how it was asked.
type drive struct {
	Model       string `json:"model_name"`
	Serial      string `json:"serial_number"`
	Firmware    string `json:"firmware_version"`
	Temperature struct {
		Current *int `json:"current"`
	} `json:"temperature"`
	PowerOn struct {
		Hours *int64 `json:"hours"`
	} `json:"power_on_time"`
	Cycles *int64                     `json:"power_cycle_count"`
	NVMe   map[string]json.RawMessage `json:"nvme_smart_health_information_log"`
	ATA    struct {
		Table []struct {
			ID     int `json:"id"`
			Value  int `json:"value"`
			Worst  int `json:"worst"`
			Thresh int `json:"thresh"`
			Raw    struct {
				Value uint64 `json:"value"`
			} `json:"raw"`
		} `json:"table"`
	} `json:"ata_smart_attributes"`
}

// moving are the fields that go on between two readings.
var moving = []string{
	"data_units_read", "data_units_written", "host_reads", "host_writes", "controller_busy_time", "power_on_hours",
}

// facts flattens a drive into comparable lines.
func (d drive) facts() map[string]string {
	out := map[string]string{"model": d.Model, "serial": d.Serial, "firmware": d.Firmware}
	number := func(name string, v *int64) {
		if v != nil {
			out[name] = fmt.Sprint(*v)
		}
	}
	if d.Temperature.Current != nil {
		out["temperature"] = fmt.Sprint(*d.Temperature.Current)
	}
	number("power_on_hours", d.PowerOn.Hours)
	number("power_cycles", d.Cycles)
	for k, v := range d.NVMe {
		if !slices.Contains(moving, k) {
			out["nvme."+k] = string(v)
		}
	}
	for _, a := range d.ATA.Table {
		out[fmt.Sprintf("ata.%d", a.ID)] = fmt.Sprintf("value %d worst %d thresh %d raw %d", a.Value, a.Worst, a.Thresh, a.Raw.Value)
	}
	return out
}

// findDrive picks the drive with the serial out of strata's JSON lines.
func findDrive(output, serial string) (drive, error) {
	dec := json.NewDecoder(strings.NewReader(output))
	for dec.More() {
		var d drive
		if err := dec.Decode(&d); err != nil {
			return drive{}, fmt.Errorf("not JSON: %w", err)
		}
		if d.Serial == serial {
			return d, nil
		}
	}
	return drive{}, fmt.Errorf("no drive %s in: %.300s", serial, output)
}

// compare says where strata's reading differs from smartctl's. Every fact of smartctl's
// must be there and equal.
func compare(strata, smartctl drive) (equal int, err error) {
	got, want := strata.facts(), smartctl.facts()
	var wrong []string
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if got[k] != want[k] {
			wrong = append(wrong, fmt.Sprintf("%s is %q, smartctl says %q", k, got[k], want[k]))
		}
	}
	if len(wrong) > 0 {
		return 0, fmt.Errorf("%s", strings.Join(wrong, "; "))
	}
	return len(want), nil
}
