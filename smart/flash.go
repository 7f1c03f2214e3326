package smart

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// FlashLife is the wear that eMMC (JEDEC JESD84-B51, EXT_CSD 267–269) and UFS (JESD220,
// health descriptor) report: A and B are the two kinds of memory in the part.
type FlashLife struct {
	A, B   LifeBand
	PreEOL PreEOL
}

// LifeBand is the device life time estimation: 1 to 10 are bands of 10 %, 11 means
// exceeded, 0 not defined.
type LifeBand uint8

const bandExceeded = 0x0b

// Used gives the upper end of the band in per cent; ok is false where it is not defined.
func (l LifeBand) Used() (percent int, ok bool) {
	return min(10*int(l), 100), l >= 1 && l <= bandExceeded
}

// PreEOL says how many reserved blocks are used up: 1 normal, 2 warning (80 %),
// 3 urgent (90 %), 0 not defined.
type PreEOL uint8

// The states of PreEOL.
const (
	PreEOLNormal  PreEOL = 1
	PreEOLWarning PreEOL = 2
	PreEOLUrgent  PreEOL = 3
)

// Used gives the worse of both bands.
func (f FlashLife) Used() (percent int, ok bool) {
	a, okA := f.A.Used()
	b, okB := f.B.Used()
	switch {
	case okA && okB:
		return max(a, b), true
	case okA:
		return a, true
	}
	return b, okB
}

// ParseMMCLife reads the text of life_time ("0x01 0x02") and pre_eol_info ("0x01").
func ParseMMCLife(lifeTime, preEOL string) (FlashLife, error) {
	var f FlashLife
	ab := strings.Fields(lifeTime)
	if len(ab) != 2 {
		return f, fmt.Errorf("life_time %q: want two numbers", strings.TrimSpace(lifeTime))
	}
	values := [3]uint8{}
	for i, s := range append(ab, strings.TrimSpace(preEOL)) {
		v, err := strconv.ParseUint(s, 0, 8)
		if err != nil {
			return f, fmt.Errorf("life_time %q, pre_eol_info %q: %w", strings.TrimSpace(lifeTime), strings.TrimSpace(preEOL), err)
		}
		values[i] = uint8(v)
	}
	f = FlashLife{LifeBand(values[0]), LifeBand(values[1]), PreEOL(values[2])}
	if f.A > bandExceeded || f.B > bandExceeded || f.PreEOL > PreEOLUrgent {
		return FlashLife{}, fmt.Errorf("life_time %q, pre_eol_info %q: not values of the standard",
			strings.TrimSpace(lifeTime), strings.TrimSpace(preEOL))
	}
	return f, nil
}

func readMMC(sys fs.FS, dir string) (FlashLife, error) {
	life, err := fs.ReadFile(sys, dir+"/life_time")
	if err != nil {
		return FlashLife{}, fmt.Errorf("read life time: %w", err)
	}
	eol, err := fs.ReadFile(sys, dir+"/pre_eol_info")
	if err != nil {
		return FlashLife{}, fmt.Errorf("read pre-EOL state: %w", err)
	}
	return ParseMMCLife(string(life), string(eol))
}

func readUFS(sys fs.FS, dir string) (FlashLife, error) {
	var v [3]string
	for i, name := range [...]string{"life_time_estimation_a", "life_time_estimation_b", "eol_info"} {
		b, err := fs.ReadFile(sys, dir+"/"+name)
		if err != nil {
			return FlashLife{}, fmt.Errorf("read health descriptor: %w", err)
		}
		v[i] = strings.TrimSpace(string(b))
	}
	return ParseMMCLife(v[0]+" "+v[1], v[2])
}

func (h *Health) judgeFlash() {
	used, ok := h.Flash.Used()
	if ok || h.Flash.PreEOL != 0 {
		h.Verdict = Healthy
	} else {
		h.unseen("flash", "the part does not define its life time")
		return
	}
	if !ok {
		h.unseen("life_time", "the part does not define its life time")
	}
	exceeded := h.Flash.A == bandExceeded || h.Flash.B == bandExceeded
	switch {
	case exceeded:
		h.worse(Failing, "worn", "the rated life is exceeded")
	case ok && used >= usedFailing:
		h.worse(Watch, "worn", "90 to 100 %% of the rated life is used")
	}
	switch h.Flash.PreEOL {
	case PreEOLUrgent:
		h.worse(Failing, "spare_low", "over 90 %% of the reserved blocks are used")
	case PreEOLWarning:
		h.worse(Watch, "spare_low", "over 80 %% of the reserved blocks are used")
	}
}
