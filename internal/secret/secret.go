// Package secret reads credentials from files that only their owner can read. The
// uplinks use it; nothing is cached, so a rotated file is seen at the next connection.
package secret

import (
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// Max is the largest credential file in bytes; a longer one is a mistaken path.
const Max = 64 << 10

// Read gives the file's bytes. It refuses a file that is not a regular one or that
// group or others may read, write or run (any mode beyond 0600).
func Read(path string) ([]byte, error) {
	// Not blocking: a named pipe in place of the file must not hang the caller.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("credential file: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("credential file: %w", err)
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("credential file %s: not a regular file", path)
	}
	if perm := st.Mode().Perm(); perm&0o177 != 0 {
		return nil, fmt.Errorf("credential file %s: mode %04o lets others at it; it must be 0600 or less", path, perm)
	}
	b, err := io.ReadAll(io.LimitReader(f, Max+1))
	if err != nil {
		return nil, fmt.Errorf("credential file %s: %w", path, err)
	}
	if len(b) > Max {
		return nil, fmt.Errorf("credential file %s: over %d bytes", path, Max)
	}
	return b, nil
}

// Line gives the file's one line without its end.
func Line(path string) (string, error) {
	b, err := Read(path)
	if err != nil {
		return "", err
	}
	s := strings.TrimRight(string(b), "\r\n")
	if s == "" || strings.ContainsAny(s, "\r\n\x00") {
		return "", fmt.Errorf("credential file %s: must hold exactly one line", path)
	}
	return s, nil
}
