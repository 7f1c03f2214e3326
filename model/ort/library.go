package ort

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// Errors that a caller may want to tell apart: in both cases Strata goes on without.
var (
	ErrUnavailable = errors.New("built without cgo: no ONNX Runtime")
	ErrNoLibrary   = errors.New("no ONNX Runtime library")
)

// EnvLibrary names the library's file; it comes behind the configured path and before
// the usual places.
const EnvLibrary = "STRATA_ORT_LIB"

// LibraryName is the file's name in the usual places.
const LibraryName = "libonnxruntime.so.1"

// MinVersion is the oldest release that is loaded: earlier ones can be crashed by a
// model file.
const MinVersion = "1.27.0"

// Candidates gives the files to try, in order: configured (empty for none) alone where
// it is set, else $STRATA_ORT_LIB alone where it is set, else lib/ beside the program,
// /usr/lib/strata, and the user's cache.
func Candidates(configured string) []string {
	if configured != "" {
		return []string{configured}
	}
	if env := os.Getenv(EnvLibrary); env != "" {
		return []string{env}
	}
	var out []string
	if exe, err := os.Executable(); err == nil {
		dir := filepath.Dir(exe)
		out = append(out, filepath.Join(dir, "lib", LibraryName), filepath.Join(dir, "lib", runtime.GOARCH, LibraryName))
	}
	out = append(out, filepath.Join("/usr/lib/strata", LibraryName))
	if cache, err := os.UserCacheDir(); err == nil {
		out = append(out, filepath.Join(cache, "strata", LibraryName))
	}
	return out
}

// Find gives the first candidate that exists. It is an error where that file could have
// been replaced by somebody else: what is loaded runs with all rights of this process.
func Find(candidates []string) (string, error) {
	for _, c := range candidates {
		st, err := os.Stat(c)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("find ONNX Runtime: %w", err)
		}
		if !st.Mode().IsRegular() {
			return "", fmt.Errorf("find ONNX Runtime: %s is no file", c)
		}
		if st.Mode().Perm()&0o002 != 0 {
			return "", fmt.Errorf("find ONNX Runtime: %s is writable for everybody", c)
		}
		if sys, ok := st.Sys().(*syscall.Stat_t); ok && sys.Uid != 0 && int(sys.Uid) != os.Geteuid() {
			return "", fmt.Errorf("find ONNX Runtime: %s belongs to user %d, not to root or this user", c, sys.Uid)
		}
		// A path keeps the loader from searching the library folders for a bare name.
		abs, err := filepath.Abs(c)
		if err != nil {
			return "", fmt.Errorf("find ONNX Runtime: %w", err)
		}
		return abs, nil
	}
	return "", fmt.Errorf("%w in %d places, the last %q", ErrNoLibrary, len(candidates), last(candidates))
}

func last(s []string) string {
	if len(s) == 0 {
		return ""
	}
	return s[len(s)-1]
}
