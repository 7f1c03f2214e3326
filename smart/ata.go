package smart

import "strings"

const ataPage = 512

// Identify is what Strata uses of ATA IDENTIFY DEVICE (ACS-3, 7.12.7).
type Identify struct {
	Model, Serial, Firmware string
	WWN                     uint64 // words 108–111, 0 where the drive has none
	Sectors                 uint64 // of LogicalSector bytes
	LogicalSector           uint32 // bytes
	PhysicalSector          uint32 // bytes
	Rotation                uint16 // word 217: 0 not reported, 1 solid state, else rpm
	FormFactor              uint16 // word 168 bits 3:0, 0 not reported
	MajorVersion            uint16 // word 80, one bit a standard
	MinorVersion            uint16 // word 81
	SMARTSupported          bool   // word 82 bit 0
	SMARTEnabled            bool   // word 85 bit 0
	Checked                 bool   // the page carries an integrity word and it is right
}

// SolidState says whether the drive states that nothing in it turns.
func (d Identify) SolidState() bool { return d.Rotation == 1 }

// Bytes gives the capacity.
func (d Identify) Bytes() uint64 { return d.Sectors * uint64(d.LogicalSector) }

// ataString reads words whose two characters are swapped.
func ataString(b []byte) (string, bool) {
	var buf [40]byte
	n := copy(buf[:], b)
	for i := 0; i+1 < n; i += 2 {
		buf[i], buf[i+1] = buf[i+1], buf[i]
	}
	return text(buf[:n])
}

// DecodeIdentify reads the 512 bytes of IDENTIFY DEVICE.
func DecodeIdentify(b []byte) (Identify, error) {
	if err := checkLen(PageIdentify, b, ataPage); err != nil {
		return Identify{}, err
	}
	word := func(n int) uint16 { return le16(b, 2*n) }
	if blank(b) {
		return Identify{}, refuse(PageIdentify, "all bytes are zero")
	}
	// Word 255 is the integrity word: its low byte 0xA5 says that a checksum follows.
	signed := b[510] == 0xa5
	if signed {
		if err := checkSum(PageIdentify, b); err != nil {
			return Identify{}, err
		}
	} else if word(255) != 0 {
		return Identify{}, refuse(PageIdentify, "integrity word 0x%04x has not its signature 0xa5", word(255))
	}
	if word(0)&0x8000 != 0 {
		return Identify{}, refuse(PageIdentify, "word 0 is 0x%04x: not an ATA device", word(0))
	}
	d := Identify{
		MajorVersion: word(80), MinorVersion: word(81),
		Rotation: word(217), FormFactor: word(168) & 0xf,
		LogicalSector: 512, Checked: signed,
	}
	fields := [...]struct {
		name     string
		from, to int
		into     *string
	}{
		{"model", 27, 46, &d.Model}, {"serial number", 10, 19, &d.Serial}, {"firmware", 23, 26, &d.Firmware},
	}
	for _, f := range fields {
		s, ok := ataString(b[2*f.from : 2*f.to+2])
		if !ok {
			return Identify{}, refuse(PageIdentify, "%s holds bytes that are no text", f.name)
		}
		*f.into = s
	}
	if d.Model == "" {
		return Identify{}, refuse(PageIdentify, "no model name")
	}
	// Words 82–87 count only where words 83 and 87 carry the pattern 01 in their top bits.
	if word(83)>>14 == 1 {
		d.SMARTSupported = word(82)&1 != 0
		if word(87)>>14 == 1 {
			d.SMARTEnabled = word(85)&1 != 0
			if word(87)&(1<<8) != 0 {
				d.WWN = uint64(word(108))<<48 | uint64(word(109))<<32 | uint64(word(110))<<16 | uint64(word(111))
			}
		}
	}
	d.Sectors = uint64(le32(b, 2*60))
	if word(83)>>14 == 1 && word(83)&(1<<10) != 0 {
		d.Sectors = le64(b, 2*100)
	}
	d.PhysicalSector = d.LogicalSector
	if w := word(106); w>>14 == 1 {
		if w&(1<<12) != 0 {
			if size := 2 * le32(b, 2*117); size >= 512 && size <= 1<<16 {
				d.LogicalSector = size
			}
		}
		d.PhysicalSector = d.LogicalSector
		if w&(1<<13) != 0 {
			d.PhysicalSector = d.LogicalSector << (w & 0xf)
		}
	}
	return d, nil
}

// Flags are an attribute's status flags.
type Flags uint16

// The flags, as the drives' makers agree on them.
const (
	FlagPrefailure Flags = 1 << iota // below its threshold the drive expects to fail
	FlagOnline                       // updated while the drive works
	FlagPerformance
	FlagErrorRate
	FlagEventCount
	FlagAutoKeep
)

// String gives the flags in the six letters POSRCK, a dash for each that is unset.
func (f Flags) String() string {
	var b strings.Builder
	for i, c := range "POSRCK" {
		if f&(1<<i) == 0 {
			c = '-'
		}
		b.WriteRune(c)
	}
	if f&^0x3f != 0 {
		b.WriteByte('+')
	} else {
		b.WriteByte(' ')
	}
	return b.String()
}

// Attribute is one line of the vendor-specific SMART table.
type Attribute struct {
	ID           uint8
	Flags        Flags
	Value, Worst uint8 // normalised: higher is better
	Threshold    uint8 // 0: never fails
	HasThreshold bool  // a threshold page was read and has this attribute
	RawBytes     [6]byte
	Reserved     byte // the entry's last byte; some makers extend the raw value into it
}

// Raw gives the raw value as a 48-bit number.
func (a Attribute) Raw() uint64 {
	return uint64(le32(a.RawBytes[:], 0)) | uint64(le16(a.RawBytes[:], 4))<<32
}

// FailedNow says whether the attribute is at or below its threshold.
func (a Attribute) FailedNow() bool {
	return a.HasThreshold && a.Threshold != 0 && a.Value <= a.Threshold
}

// FailedPast says whether it was so once and is no more.
func (a Attribute) FailedPast() bool {
	return a.HasThreshold && a.Threshold != 0 && !a.FailedNow() && a.Worst <= a.Threshold
}

// count reads a raw value that counts events. Some makers keep two more words above the
// count, so the low word counts where anything stands above the low 32 bits.
func (a Attribute) count() uint64 {
	raw := a.Raw()
	if raw>>32 != 0 {
		return raw & 0xffff
	}
	return raw
}

// Data is the SMART READ DATA page.
type Data struct {
	Revision       uint16
	OfflineStatus  uint8 // byte 362
	SelfTestStatus uint8 // byte 363: high nibble result, low nibble tenths that remain
	Attributes     []Attribute
}

// Find gives the attribute of an id.
func (d Data) Find(id uint8) (Attribute, bool) {
	for _, a := range d.Attributes {
		if a.ID == id {
			return a, true
		}
	}
	return Attribute{}, false
}

const (
	ataEntries  = 30
	ataEntryLen = 12
)

// DecodeData reads the 512 bytes of SMART READ DATA (B0h/D0h): 30 entries of 12 bytes
// from byte 2, the checksum in byte 511.
func DecodeData(b []byte) (Data, error) {
	if err := checkLen(PageData, b, ataPage); err != nil {
		return Data{}, err
	}
	if err := checkSum(PageData, b); err != nil {
		return Data{}, err
	}
	d := Data{Revision: le16(b, 0), OfflineStatus: b[362], SelfTestStatus: b[363]}
	for i := range ataEntries {
		e := b[2+i*ataEntryLen:][:ataEntryLen]
		if e[0] == 0 {
			continue
		}
		if d.Attributes == nil {
			d.Attributes = make([]Attribute, 0, ataEntries)
		}
		a := Attribute{ID: e[0], Flags: Flags(le16(e, 1)), Value: e[3], Worst: e[4], Reserved: e[11]}
		copy(a.RawBytes[:], e[5:11])
		d.Attributes = append(d.Attributes, a)
	}
	if len(d.Attributes) == 0 {
		return Data{}, refuse(PageData, "holds no attribute")
	}
	return d, nil
}

// Thresholds maps attribute ids to thresholds; Has tells 0 from absent.
type Thresholds struct {
	Revision uint16
	value    [256]uint8
	has      [256]bool
}

// Get gives the threshold of an attribute.
func (t *Thresholds) Get(id uint8) (threshold uint8, ok bool) { return t.value[id], t.has[id] }

// DecodeThresholds reads the 512 bytes of SMART READ THRESHOLDS (B0h/D1h).
func DecodeThresholds(b []byte) (Thresholds, error) {
	if err := checkLen(PageThresholds, b, ataPage); err != nil {
		return Thresholds{}, err
	}
	if err := checkSum(PageThresholds, b); err != nil {
		return Thresholds{}, err
	}
	t := Thresholds{Revision: le16(b, 0)}
	found := false
	for i := range ataEntries {
		e := b[2+i*ataEntryLen:][:2]
		if e[0] == 0 {
			continue
		}
		t.value[e[0]], t.has[e[0]] = e[1], true
		found = true
	}
	if !found {
		return Thresholds{}, refuse(PageThresholds, "holds no attribute")
	}
	return t, nil
}

// Apply puts the thresholds beside the attributes of the same id.
func (t *Thresholds) Apply(d *Data) {
	for i := range d.Attributes {
		a := &d.Attributes[i]
		a.Threshold, a.HasThreshold = t.Get(a.ID)
	}
}
