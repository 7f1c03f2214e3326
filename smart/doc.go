// Package smart reads the health that drives report of themselves: ATA SMART by SG_IO
// ATA PASS-THROUGH(16), the NVMe health log by the admin ioctl, and the wear bands of
// eMMC and UFS from sysfs.
//
// It serves the disk source and the command line, and it knows no diagnosis: it says
// what a drive states, a verdict with reasons, and what it could not see. A drive that
// sleeps, refuses or sends a damaged page gets the verdict Unknown, never Healthy.
//
// The decoders (Decode…) are pure functions of one page each. They check length and,
// where the page has one, its checksum; a page they refuse gives a *PageError. They keep
// no reference to their input. Reader does the reading over an injected Opener, so tests
// replay recorded pages; it holds no state between calls and may be used by several
// goroutines, each on a device of its own. An ioctl cannot be interrupted: its own
// time-out (Reader.Timeout) bounds it where the driver keeps its word, and a caller that
// must not wait for a hung device calls Read from a goroutine it can afford to lose.
package smart
