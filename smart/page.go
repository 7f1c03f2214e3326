package smart

import (
	"fmt"
	"strings"
)

// Page names, as errors and the command line give them.
const (
	PageIdentify     = "ata identify"
	PageData         = "ata smart data"
	PageThresholds   = "ata smart thresholds"
	PageNVMeIdentify = "nvme identify controller"
	PageNVMeHealth   = "nvme health log"
	PageNVMeErrors   = "nvme error log"
)

// PageError says which page was refused and why.
type PageError struct {
	Page  string // one of the Page… names
	Fault string // "checksum 0x3f, want 0x00", "200 bytes, want 512", …
}

// Error gives "page: fault".
func (e *PageError) Error() string { return e.Page + ": " + e.Fault }

func refuse(page, format string, args ...any) error {
	return &PageError{Page: page, Fault: fmt.Sprintf(format, args...)}
}

func checkLen(page string, b []byte, want int) error {
	if len(b) != want {
		return refuse(page, "%d bytes, want %d", len(b), want)
	}
	return nil
}

// checkSum holds a page of 512 bytes to the rule of ATA8-ACS (7.48.6 and 7.13.7.88):
// all bytes add up to zero modulo 256, the last one making up for the rest.
func checkSum(page string, b []byte) error {
	var sum byte
	for _, v := range b {
		sum += v
	}
	if sum != 0 {
		return refuse(page, "wrong checksum: bytes add up to 0x%02x, want 0x00", sum)
	}
	return nil
}

func blank(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}

// text reads a space-padded ASCII field; ok is false where it holds anything else.
func text(b []byte) (s string, ok bool) {
	s = strings.Trim(string(b), " \x00")
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return "", false
		}
	}
	return s, true
}

func le16(b []byte, off int) uint16 { return uint16(b[off]) | uint16(b[off+1])<<8 }

func le32(b []byte, off int) uint32 {
	return uint32(le16(b, off)) | uint32(le16(b, off+2))<<16
}

func le64(b []byte, off int) uint64 {
	return uint64(le32(b, off)) | uint64(le32(b, off+4))<<32
}
