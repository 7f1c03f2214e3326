package smart

import (
	"errors"
	"strings"
	"testing"
)

// sample is a small drive to seed the fuzzers with.
func sample() record {
	r := record{Model: "EXAMPLE 1", Serial: "S1", Firmware: "1.0"}
	r.Capacity.Blocks, r.Logical, r.Physical = 1<<21, 512, 4096
	r.PCI.ID, r.Version.Value = 0x1b36, 0x10400
	return r
}

func sampleData() []byte {
	b := make([]byte, 512)
	copy(b, []byte{16, 0, 5, 0x33, 0, 100, 99, 3, 0, 0, 0, 0, 0, 0, 194, 0x22, 0, 60, 40, 35, 0, 20, 0, 50, 0, 0})
	return seal(b)
}

func sampleLog() []byte {
	b := make([]byte, 512)
	copy(b, []byte{0, 0x43, 1, 100, 10, 1})
	b[128] = 7
	return b
}

// contract holds a decoder to what every decoder promises.
func contract(t *testing.T, page string, size int, b []byte, err error) {
	t.Helper()
	var pe *PageError
	if err != nil && (!errors.As(err, &pe) || pe.Page != page || pe.Fault == "") {
		t.Fatalf("error %q does not name page and fault", err)
	}
	if err == nil && size != 0 && len(b) != size {
		t.Fatalf("%d bytes accepted", len(b))
	}
}

func FuzzIdentify(f *testing.F) {
	f.Add(identifyPage(sample()))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := DecodeIdentify(b)
		contract(t, PageIdentify, 512, b, err)
		if err == nil && strings.ContainsFunc(d.Model+d.Serial+d.Firmware, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
			t.Fatalf("names with bytes that are no text: %+v", d)
		}
	})
}

func FuzzData(f *testing.F) {
	f.Add(sampleData())
	f.Add(make([]byte, 512))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 512 {
			seal(b) // else nearly every input stops at the checksum
		}
		d, err := DecodeData(b)
		contract(t, PageData, 512, b, err)
		h := Health{Data: &d}
		h.Judge()
		if err != nil && h.Verdict == Healthy {
			t.Fatal("refused and yet healthy")
		}
		_ = h.Report()
	})
}

func FuzzThresholds(f *testing.F) {
	f.Add(seal(append([]byte{16, 0, 5, 10}, make([]byte, 508)...)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 512 {
			seal(b)
		}
		_, err := DecodeThresholds(b)
		contract(t, PageThresholds, 512, b, err)
	})
}

func FuzzNVMeIdentify(f *testing.F) {
	f.Add(nvmeIdentifyPage(sample()))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := DecodeNVMeIdentify(b)
		contract(t, PageNVMeIdentify, 4096, b, err)
	})
}

func FuzzNVMeHealth(f *testing.F) {
	f.Add(sampleLog())
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := DecodeNVMeHealth(b)
		contract(t, PageNVMeHealth, 512, b, err)
		if err != nil {
			return
		}
		h := Health{NVMe: &n}
		h.Judge()
		if h.Verdict == Healthy && (b[0] != 0 || n.Spare < n.SpareThreshold) {
			t.Fatalf("healthy in spite of warning 0x%x, spare %d of %d", b[0], n.Spare, n.SpareThreshold)
		}
		_ = h.Report()
	})
}

func FuzzNVMeErrors(f *testing.F) {
	f.Add(append([]byte{1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 0, 5, 4}, make([]byte, 114)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := DecodeNVMeErrors(b)
		contract(t, PageNVMeErrors, 0, b, err)
	})
}

func FuzzSense(f *testing.F) {
	f.Add([]byte{0x72, 1, 0, 0x1d, 0, 0, 0, 14, 9, 12, 0, 0, 0, 0xff, 0, 0, 0, 0x4f, 0, 0xc2, 0, 0x50})
	f.Add([]byte{0x70, 0, 1, 0, 0x50, 0, 0xff, 10, 0, 0, 0x4f, 0xc2, 0, 0x1d})
	f.Fuzz(func(_ *testing.T, b []byte) { parseSense(b) })
}

func FuzzSysfs(f *testing.F) {
	f.Add("0x01 0x02", "0x01", "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17")
	f.Fuzz(func(t *testing.T, life, eol, stat string) {
		if v, err := ParseMMCLife(life, eol); err == nil && (v.A > bandExceeded || v.B > bandExceeded || v.PreEOL > PreEOLUrgent) {
			t.Fatalf("%+v out of range", v)
		}
		_, _ = ParseStat(stat)
	})
}

func TestAllocations(t *testing.T) {
	data, limits, log := sampleData(), seal(append([]byte{16, 0, 5, 10}, make([]byte, 508)...)), sampleLog()
	for _, c := range []struct {
		name string
		most float64
		f    func()
	}{
		{"data", 1, func() { _, _ = DecodeData(data) }},
		{"thresholds", 0, func() { _, _ = DecodeThresholds(limits) }},
		{"nvme health", 0, func() { _, _ = DecodeNVMeHealth(log) }},
	} {
		if got := testing.AllocsPerRun(100, c.f); got > c.most {
			t.Errorf("%s: %v allocations, want at most %v", c.name, got, c.most)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	id, data, nid, log := identifyPage(sample()), sampleData(), nvmeIdentifyPage(sample()), sampleLog()
	limits := seal(append([]byte{16, 0, 5, 10}, make([]byte, 508)...))
	errs := append([]byte{1}, make([]byte, 1023)...)
	for _, c := range []struct {
		name string
		f    func() error
	}{
		{"identify", func() error { _, err := DecodeIdentify(id); return err }},
		{"data", func() error { _, err := DecodeData(data); return err }},
		{"thresholds", func() error { _, err := DecodeThresholds(limits); return err }},
		{"nvme-identify", func() error { _, err := DecodeNVMeIdentify(nid); return err }},
		{"nvme-health", func() error { _, err := DecodeNVMeHealth(log); return err }},
		{"nvme-errors", func() error { _, err := DecodeNVMeErrors(errs); return err }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := c.f(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
