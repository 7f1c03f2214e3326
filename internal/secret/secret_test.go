package secret

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func write(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(p, mode); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestLine(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		mode       os.FileMode
		want, bad  string
	}{
		{"a line", "hunter2\n", 0o600, "hunter2", ""},
		{"read only", "hunter2", 0o400, "hunter2", ""},
		{"others may read", "hunter2\n", 0o604, "", "0600"},
		{"the group may read", "hunter2\n", 0o640, "", "0600"},
		{"two lines", "a\nb\n", 0o600, "", "exactly one line"},
		{"empty", "\n", 0o600, "", "exactly one line"},
		{"too long", strings.Repeat("x", Max+1), 0o600, "", "over"},
	} {
		got, err := Line(write(t, tc.text, tc.mode))
		if got != tc.want || (err == nil) != (tc.bad == "") || err != nil && !strings.Contains(err.Error(), tc.bad) {
			t.Errorf("%s: %q, %v", tc.name, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error repeats the secret", tc.name)
		}
	}
}

// TestPipesDoNotHang: a named pipe in place of the file has no writer to wait for.
func TestPipesDoNotHang(t *testing.T) {
	p := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(p, 0o600); err != nil {
		t.Skipf("no named pipes here: %v", err)
	}
	if _, err := Read(p); err == nil || !strings.Contains(err.Error(), "regular") {
		t.Errorf("a pipe: %v", err)
	}
}
