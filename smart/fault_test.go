package smart

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"
)

// page is one page of a recorded drive with what decodes it into a Health.
type page struct {
	name   string
	bytes  []byte
	sealed bool // carries a checksum
	read   func([]byte) (*Health, error)
}

func pagesOf(r record) []page {
	var out []page
	if r.Table != nil && len(r.Table.Table) > 0 {
		data, thresholds := dataPages(r)
		limits, err := DecodeThresholds(thresholds)
		out = append(out,
			page{PageIdentify, identifyPage(r), true, func(b []byte) (*Health, error) {
				d, err := DecodeIdentify(b)
				return &Health{Identify: &d}, err
			}},
			page{PageData, data, true, func(b []byte) (*Health, error) {
				d, err2 := DecodeData(b)
				limits.Apply(&d)
				return &Health{Data: &d}, errors.Join(err, err2)
			}},
			page{PageThresholds, thresholds, true, func(b []byte) (*Health, error) {
				t, err := DecodeThresholds(b)
				d, err2 := DecodeData(data)
				t.Apply(&d)
				return &Health{Data: &d}, errors.Join(err, err2)
			}})
	}
	if r.NVMe != nil {
		out = append(out,
			page{PageNVMeIdentify, nvmeIdentifyPage(r), false, func(b []byte) (*Health, error) {
				d, err := DecodeNVMeIdentify(b)
				return &Health{NVMeID: &d}, err
			}},
			page{PageNVMeHealth, nvmeHealthPage(r), false, func(b []byte) (*Health, error) {
				n, err := DecodeNVMeHealth(b)
				return &Health{NVMe: &n}, err
			}})
	}
	return out
}

// TestDamagedPages cuts, blanks and flips the pages of recorded drives. A page that
// carries a checksum, or that is short or blank, must be refused by name; NVMe pages carry
// none, so a flip there may pass, but never turn a drive that is not healthy into one that
// is, unless it hit the very field that said so.
func TestDamagedPages(t *testing.T) {
	var pages []page
	for _, r := range records(t) {
		pages = append(pages, pagesOf(r)...)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	const cases = 20000
	refused, passed := 0, 0
	for range cases {
		p := pages[rng.IntN(len(pages))]
		b := append([]byte(nil), p.bytes...)
		must, kind := false, rng.IntN(4)
		bit := -1
		switch kind {
		case 0: // truncated or too long
			n := rng.IntN(len(b) + 64)
			if n == len(b) {
				n--
			}
			b = append(b, make([]byte, 64)...)[:n]
			must = true
		case 1: // all zero
			clear(b)
			must = true
		case 2: // a run of zeros, unless there was nothing to blank
			from := rng.IntN(len(b))
			run := b[from:min(from+1+rng.IntN(256), len(b))]
			var sum byte
			for _, v := range run {
				sum += v
			}
			clear(run)
			must = p.sealed && sum != 0 && p.name != PageIdentify
		case 3: // one bit
			bit = rng.IntN(len(b) * 8)
			b[bit/8] ^= 1 << (bit % 8)
			must = p.sealed
		}
		h, err := p.read(b)
		if err == nil {
			passed++
			if must {
				t.Fatalf("seed %d: %s: damage %d passed as intact", seed, p.name, kind)
			}
			sound, soundErr := p.read(p.bytes)
			if soundErr != nil {
				t.Fatal(soundErr)
			}
			h.Judge()
			sound.Judge()
			told := bit < 0 || bit/8 < 6 || bit/8 >= 160 && bit/8 < 176 // the fields that carry the verdict
			if h.Verdict == Healthy && sound.Verdict != Healthy && !told {
				t.Fatalf("seed %d: %s: a flip of bit %d turned %s into healthy", seed, p.name, bit, sound.Verdict)
			}
			continue
		}
		refused++
		var pe *PageError
		if !errors.As(err, &pe) || pe.Page != p.name || pe.Fault == "" {
			t.Fatalf("seed %d: %s: error %q does not name page and fault", seed, p.name, err)
		}
		if h.Judge(); h.Verdict == Healthy && p.name != PageThresholds {
			t.Fatalf("seed %d: %s: refused and yet healthy", seed, p.name)
		}
	}
	t.Logf("%d cases: %d refused, %d passed", cases, refused, passed)
}

func TestVerdicts(t *testing.T) {
	attr := func(id uint8, raw byte) Attribute {
		return Attribute{ID: id, Value: 100, Worst: 100, HasThreshold: true, Threshold: 10, RawBytes: [6]byte{raw}}
	}
	no := false
	good := NVMeHealth{Spare: 100, SpareThreshold: 10, Temperature: 40, TemperatureKnown: true}
	with := func(change func(*NVMeHealth)) *NVMeHealth {
		n := good
		change(&n)
		return &n
	}
	for _, c := range []struct {
		name string
		h    Health
		want Verdict
		key  string
	}{
		{"nothing read", Health{}, Unknown, ""},
		{"nvme good", Health{NVMe: &good}, Healthy, ""},
		{"nvme read-only", Health{NVMe: with(func(n *NVMeHealth) { n.Warning = WarnReadOnly })}, Failed, "read_only"},
		{"nvme spare bit", Health{NVMe: with(func(n *NVMeHealth) { n.Warning = WarnSpare })}, Failing, "spare_low"},
		{"nvme spare value", Health{NVMe: with(func(n *NVMeHealth) { n.Spare = 5 })}, Failing, "spare_low"},
		{"nvme hot", Health{NVMe: with(func(n *NVMeHealth) { n.Warning = WarnTemperature })}, Watch, "temperature"},
		{"nvme reserved bit", Health{NVMe: with(func(n *NVMeHealth) { n.Warning = 0x40 })}, Failing, "critical_warning"},
		{"nvme worn", Health{NVMe: with(func(n *NVMeHealth) { n.Used = 100 })}, Failing, "worn"},
		{"nvme odd temperature", Health{NVMe: with(func(n *NVMeHealth) { n.TemperatureKnown = false })}, Unknown, ""},
		{"nvme media errors", Health{NVMe: with(func(n *NVMeHealth) { n.MediaErrors.Lo = 1 })}, Watch, "media_errors"},
		{"ata good", Health{Data: &Data{Attributes: []Attribute{attr(5, 0)}}}, Healthy, ""},
		{"ata without thresholds or status", Health{Data: &Data{Attributes: []Attribute{{ID: 5}}}}, Unknown, ""},
		{"ata few reallocated", Health{Data: &Data{Attributes: []Attribute{attr(5, 3)}}}, Watch, "reallocated"},
		{"ata many reallocated", Health{Data: &Data{Attributes: []Attribute{attr(5, 16)}}}, Failing, "reallocated"},
		{"ata pending", Health{Data: &Data{Attributes: []Attribute{attr(197, 1)}}}, Failing, "pending"},
		{"ata offline", Health{Data: &Data{Attributes: []Attribute{attr(198, 1)}}}, Failing, "uncorrectable"},
		{"ata cable", Health{Data: &Data{Attributes: []Attribute{attr(199, 9)}}}, Watch, "link_crc"},
		{"ata status alone is not enough", Health{Status: new(bool)}, Failed, "status"},
		{"ata prefail", Health{Data: &Data{Attributes: []Attribute{{ID: 1, Flags: FlagPrefailure, Value: 5, HasThreshold: true, Threshold: 6}}}}, Failed, "prefail"},
		{"ata status bad", Health{Status: &no, Data: &Data{Attributes: []Attribute{attr(5, 0)}}}, Failed, "status"},
		{"flash good", Health{Flash: &FlashLife{1, 2, PreEOLNormal}}, Healthy, ""},
		{"flash undefined", Health{Flash: &FlashLife{}}, Unknown, ""},
		{"flash exceeded", Health{Flash: &FlashLife{0x0b, 2, PreEOLNormal}}, Failing, "worn"},
		{"flash urgent", Health{Flash: &FlashLife{1, 1, PreEOLUrgent}}, Failing, "spare_low"},
	} {
		c.h.Judge()
		if c.h.Verdict != c.want {
			t.Errorf("%s: %s, want %s (%v)", c.name, c.h.Verdict, c.want, c.h.Reasons)
		}
		if c.key != "" && (len(c.h.Reasons) == 0 || c.h.Reasons[0].Key != c.key) {
			t.Errorf("%s: reasons %v, want %s", c.name, c.h.Reasons, c.key)
		}
	}
}
