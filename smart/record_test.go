package smart

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strata-edge/strata/internal/testreq"
)

// record is what tests use of a recorded drive (smartctl's JSON output).
type record struct {
	file     string
	Model    string `json:"model_name"`
	Serial   string `json:"serial_number"`
	Firmware string `json:"firmware_version"`
	Device   struct {
		Protocol string `json:"protocol"`
	} `json:"device"`
	Capacity struct {
		Blocks, Bytes uint64
	} `json:"user_capacity"`
	Logical  uint64  `json:"logical_block_size"`
	Physical uint64  `json:"physical_block_size"`
	Rotation *uint16 `json:"rotation_rate"`
	Status   *struct {
		Passed bool `json:"passed"`
	} `json:"smart_status"`
	Table *struct {
		Revision uint16
		Table    []struct {
			ID                   uint8
			Value, Worst, Thresh uint8
			WhenFailed           string `json:"when_failed"`
			Flags                struct{ Value uint16 }
			Raw                  struct{ Value uint64 }
		}
	} `json:"ata_smart_attributes"`
	NVMe *struct {
		Warning      uint8  `json:"critical_warning"`
		Temperature  int    `json:"temperature"`
		Spare        uint8  `json:"available_spare"`
		Threshold    uint8  `json:"available_spare_threshold"`
		Used         uint8  `json:"percentage_used"`
		Read         uint64 `json:"data_units_read"`
		Written      uint64 `json:"data_units_written"`
		HostReads    uint64 `json:"host_reads"`
		HostWrites   uint64 `json:"host_writes"`
		Busy         uint64 `json:"controller_busy_time"`
		Cycles       uint64 `json:"power_cycles"`
		Hours        uint64 `json:"power_on_hours"`
		Unsafe       uint64 `json:"unsafe_shutdowns"`
		Media        uint64 `json:"media_errors"`
		Errors       uint64 `json:"num_err_log_entries"`
		WarningTime  uint32 `json:"warning_temp_time"`
		CriticalTime uint32 `json:"critical_comp_time"`
		Sensors      []int  `json:"temperature_sensors"`
	} `json:"nvme_smart_health_information_log"`
	PCI struct {
		ID        uint16 `json:"id"`
		Subsystem uint16 `json:"subsystem_id"`
	} `json:"nvme_pci_vendor"`
	OUI        uint32                  `json:"nvme_ieee_oui_identifier"`
	Controller uint16                  `json:"nvme_controller_id"`
	Namespaces uint32                  `json:"nvme_number_of_namespaces"`
	Total      uint64                  `json:"nvme_total_capacity"`
	Version    struct{ Value uint32 }  `json:"nvme_version"`
	Temp       struct{ Current *int }  `json:"temperature"`
	Cycles     *uint64                 `json:"power_cycle_count"`
	PowerOn    struct{ Hours *uint64 } `json:"power_on_time"`
}

func records(tb testing.TB) []record {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join(testreq.Data(tb), "smart-nvme", "json", "*.json"))
	if err != nil || len(files) == 0 {
		testreq.Missing(tb, "data", "no recorded drives")
	}
	var out []record
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			tb.Fatal(err)
		}
		r := record{file: filepath.Base(f)}
		if err := json.Unmarshal(b, &r); err != nil {
			tb.Fatalf("%s: %v", f, err)
		}
		out = append(out, r)
	}
	return out
}

// seal makes the bytes of a page add up to zero.
func seal(b []byte) []byte {
	b[len(b)-1] = 0
	var sum byte
	for _, v := range b {
		sum += v
	}
	b[len(b)-1] = -sum
	return b
}

func swapped(dst []byte, s string) {
	copy(dst, strings.Repeat(" ", len(dst)))
	copy(dst, s)
	for i := 0; i+1 < len(dst); i += 2 {
		dst[i], dst[i+1] = dst[i+1], dst[i]
	}
}

func identifyPage(r record) []byte {
	b := make([]byte, 512)
	put := func(word int, v uint16) { binary.LittleEndian.PutUint16(b[2*word:], v) }
	put(0, 0x0040)
	swapped(b[20:40], r.Serial)
	swapped(b[46:54], r.Firmware)
	swapped(b[54:94], r.Model)
	put(82, 1)
	put(83, 0x4000|1<<10)
	put(85, 1)
	put(87, 0x4000)
	binary.LittleEndian.PutUint32(b[120:], uint32(min(r.Capacity.Blocks, 0x0fffffff)))
	binary.LittleEndian.PutUint64(b[200:], r.Capacity.Blocks)
	w := uint16(0x4000)
	if r.Logical > 512 {
		w |= 1 << 12
		binary.LittleEndian.PutUint32(b[234:], uint32(r.Logical/2))
	}
	if r.Physical > r.Logical {
		w |= 1 << 13
		for s := r.Logical; s < r.Physical; s *= 2 {
			w++
		}
	}
	put(106, w)
	if r.Rotation != nil {
		put(217, max(*r.Rotation, 1))
	}
	b[510] = 0xa5
	return seal(b)
}

// dataPages gives the data and thresholds pages; they hold at most 30 attributes, as
// the real ones do.
func dataPages(r record) (data, thresholds []byte) {
	data, thresholds = make([]byte, 512), make([]byte, 512)
	binary.LittleEndian.PutUint16(data, r.Table.Revision)
	binary.LittleEndian.PutUint16(thresholds, r.Table.Revision)
	for i, a := range r.Table.Table {
		e := data[2+12*i:][:12]
		e[0] = a.ID
		binary.LittleEndian.PutUint16(e[1:], a.Flags.Value)
		e[3], e[4] = a.Value, a.Worst
		for j := range 7 { // the seventh byte is the entry's last: a few formats use it
			e[5+j] = byte(a.Raw.Value >> (8 * j))
		}
		t := thresholds[2+12*i:]
		t[0], t[1] = a.ID, a.Thresh
	}
	return seal(data), seal(thresholds)
}

func nvmeIdentifyPage(r record) []byte {
	b := make([]byte, 4096)
	le := binary.LittleEndian
	le.PutUint16(b, r.PCI.ID)
	le.PutUint16(b[2:], r.PCI.Subsystem)
	copy(b[4:], strings.Repeat(" ", 68))
	copy(b[4:24], r.Serial)
	copy(b[24:64], r.Model)
	copy(b[64:72], r.Firmware)
	b[73], b[74], b[75] = byte(r.OUI), byte(r.OUI>>8), byte(r.OUI>>16)
	le.PutUint16(b[78:], r.Controller)
	le.PutUint32(b[80:], r.Version.Value)
	le.PutUint64(b[280:], r.Total)
	le.PutUint32(b[516:], r.Namespaces)
	return b
}

func nvmeHealthPage(r record) []byte {
	b := make([]byte, 512)
	le := binary.LittleEndian
	n := r.NVMe
	b[0] = n.Warning
	le.PutUint16(b[1:], uint16(n.Temperature+273))
	b[3], b[4], b[5] = n.Spare, n.Threshold, n.Used
	for i, v := range []uint64{n.Read, n.Written, n.HostReads, n.HostWrites, n.Busy, n.Cycles, n.Hours, n.Unsafe, n.Media, n.Errors} {
		le.PutUint64(b[32+16*i:], v)
	}
	le.PutUint32(b[192:], n.WarningTime)
	le.PutUint32(b[196:], n.CriticalTime)
	for i, t := range n.Sensors {
		le.PutUint16(b[200+2*i:], uint16(t+273))
	}
	return b
}
