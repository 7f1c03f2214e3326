package ort

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestCandidates(t *testing.T) {
	t.Setenv(EnvLibrary, "/env/lib.so")
	if got := Candidates("/conf/lib.so"); !slices.Equal(got, []string{"/conf/lib.so"}) {
		t.Errorf("configured: %q", got)
	}
	if got := Candidates(""); !slices.Equal(got, []string{"/env/lib.so"}) {
		t.Errorf("environment: %q", got)
	}
	t.Setenv(EnvLibrary, "")
	if got := Candidates(""); !slices.Contains(got, "/usr/lib/strata/"+LibraryName) {
		t.Errorf("usual places: %q", got)
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, LibraryName)
	if _, err := Find([]string{file, file}); !errors.Is(err, ErrNoLibrary) {
		t.Errorf("absent: %v", err)
	}
	if _, err := Find(nil); !errors.Is(err, ErrNoLibrary) {
		t.Errorf("nowhere to look: %v", err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := Find([]string{filepath.Join(dir, "none"), file}); err != nil || got != file {
		t.Errorf("%s, %v", got, err)
	}
	if err := os.Chmod(file, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Find([]string{file}); err == nil || errors.Is(err, ErrNoLibrary) {
		t.Errorf("writable for everybody: %v", err)
	}
	if _, err := Find([]string{dir}); err == nil || errors.Is(err, ErrNoLibrary) {
		t.Errorf("a folder: %v", err)
	}
}
