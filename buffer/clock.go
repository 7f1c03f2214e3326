package buffer

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// SystemStamp gives a function that reads the kernel's clocks: CLOCK_BOOTTIME, the wall
// clock, whether the kernel holds it synchronised (adjtimex), and the boot id, which is
// read once. It is the default of Options.Now.
func SystemStamp() (func() Stamp, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("read boot id: %w", err)
	}
	boot := strings.TrimSpace(string(b))
	return func() Stamp {
		s := Stamp{Boot: boot, Wall: time.Now().UTC()}
		var ts unix.Timespec
		if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) == nil {
			s.BootTime = time.Duration(ts.Nano())
		}
		var tx unix.Timex
		if state, err := unix.Adjtimex(&tx); err == nil {
			s.Synced = state != unix.TIME_ERROR && tx.Status&unix.STA_UNSYNC == 0
		}
		return s
	}, nil
}

// offset is what has to be added to the stamp's boot time to get its wall time.
func (s Stamp) offset() time.Duration { return time.Duration(s.Wall.UnixNano()) - s.BootTime }

// shiftOf gives what the known offsets of boots add to a stamp's wall time.
func shiftOf(s Stamp, offsets map[string]time.Duration) time.Duration {
	off, ok := offsets[s.Boot]
	if s.Synced || s.Wall.IsZero() || !ok {
		return 0
	}
	return off - s.offset()
}
