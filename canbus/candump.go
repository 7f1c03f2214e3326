package canbus

import (
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Line is one line of a candump log.
type Line struct {
	Time      time.Time
	Interface string
	Frame     Frame
}

// ParseLine reads a line of candump's log format, as `candump -L` writes it:
//
//	(1436509052.249713) can0 123#DEADBEEF      data
//	(1436509052.249713) can0 1F334455#R        remote request
//	(1436509052.249713) can0 123##1DEADBEEF    CAN FD, one digit of flags
//	(1436509052.249713) can0 2000008C#0004000000000000  error frame
//
// A direction (T or R) and anything else behind the frame is passed over.
func ParseLine(s string) (Line, error) {
	var l Line
	stamp, rest, ok := strings.Cut(strings.TrimSpace(s), ")")
	if !ok || !strings.HasPrefix(stamp, "(") {
		return l, fmt.Errorf("candump line %q: want \"(time) interface id#data\"", clip(s))
	}
	t, err := parseTime(strings.TrimSpace(stamp[1:]))
	if err != nil {
		return l, fmt.Errorf("candump line %q: %w", clip(s), err)
	}
	l.Time = t
	fields := strings.Fields(rest)
	if len(fields) < 2 {
		return l, fmt.Errorf("candump line %q: want \"(time) interface id#data\"", clip(s))
	}
	l.Interface = fields[0]
	if err := parseFrame(fields[1], &l.Frame); err != nil {
		return l, fmt.Errorf("candump line %q: %w", clip(s), err)
	}
	return l, nil
}

func clip(s string) string {
	const most = 80
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// parseTime reads seconds since the epoch without a detour through floats.
func parseTime(s string) (time.Time, error) {
	sec, frac, _ := strings.Cut(s, ".")
	n, err := strconv.ParseInt(sec, 10, 64)
	// Past the year 9999 a time has no RFC 3339 form.
	if err != nil || n < 0 || n > 253402300799 || len(frac) > 9 {
		return time.Time{}, fmt.Errorf("time %q is not seconds since 1970", s)
	}
	ns := uint64(0)
	if frac != "" {
		if ns, err = strconv.ParseUint(frac, 10, 32); err != nil {
			return time.Time{}, fmt.Errorf("time %q is not seconds since 1970", s)
		}
		ns *= uint64(math.Pow10(9 - len(frac)))
	}
	return time.Unix(n, int64(ns)).UTC(), nil
}

func parseFrame(s string, f *Frame) error {
	id, data, ok := strings.Cut(s, "#")
	if !ok {
		return fmt.Errorf("frame %q has no #", s)
	}
	v, err := strconv.ParseUint(id, 16, 32)
	if err != nil || len(id) != 3 && len(id) != 8 {
		return fmt.Errorf("id %q: want 3 or 8 hexadecimal digits", id)
	}
	f.ID = uint32(v)
	switch {
	case len(id) == 3 && v > 0x7ff:
		return fmt.Errorf("id %q: a short id is at most 7FF", id)
	case len(id) == 8 && v&FlagError == 0:
		f.ID |= FlagExtended
	}
	if fd, ok := strings.CutPrefix(data, "#"); ok {
		if fd == "" {
			return fmt.Errorf("frame %q has no FD flags", s)
		}
		if _, err := strconv.ParseUint(fd[:1], 16, 4); err != nil {
			return fmt.Errorf("frame %q: FD flags %q", s, fd[:1])
		}
		f.FD, data = true, fd[1:]
	} else if strings.HasPrefix(data, "R") {
		f.ID |= FlagRemote
		return nil
	}
	// _9 to _F: the data length code of a classic frame of eight bytes
	if at := strings.IndexByte(data, '_'); at == 16 && !f.FD {
		data = data[:at]
	}
	limit := 8
	if f.FD {
		limit = 64
	}
	data = strings.ReplaceAll(data, ".", "")
	if len(data) > 2*limit {
		return fmt.Errorf("payload of %d digits, want at most %d", len(data), 2*limit)
	}
	n, err := hex.Decode(f.Data[:], []byte(data))
	if err != nil {
		return fmt.Errorf("payload %q: %w", data, err)
	}
	f.Len = uint8(n)
	return nil
}
