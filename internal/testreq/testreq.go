// Package testreq decides whether a test that needs more than a plain user's machine
// runs, skips or fails. It is for tests only.
//
// STRATA_REQUIRE is a comma-separated list of needs ("bpf,netns,data"). A need that
// the list names and the machine lacks is a failure, so that CI cannot pass by skipping;
// a need that it does not name is a skip with a reason.
package testreq

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Missing skips the test with the reason, or fails it where STRATA_REQUIRE names need.
func Missing(tb testing.TB, need, reason string) {
	tb.Helper()
	if slices.Contains(strings.Split(os.Getenv("STRATA_REQUIRE"), ","), need) {
		tb.Fatalf("%s is required (STRATA_REQUIRE) and missing: %s", need, reason)
	}
	tb.Skipf("needs %s: %s", need, reason)
}

// Root skips or fails the test, under the given need, where it does not run as root.
func Root(tb testing.TB, need string) {
	tb.Helper()
	if os.Geteuid() != 0 {
		Missing(tb, need, "not running as root")
	}
}

// Tool skips or fails the test, under the given need, where the program is not in PATH.
func Tool(tb testing.TB, need, program string) string {
	tb.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		p := filepath.Join(dir, program)
		if st, err := os.Stat(p); err == nil && st.Mode()&0o111 != 0 && !st.IsDir() {
			return p
		}
	}
	Missing(tb, need, program+" is not installed")
	return ""
}

// Top gives the top folder of the checkout.
func Top(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			return d
		}
		if d == filepath.Dir(d) {
			tb.Fatalf("no go.mod above %s", dir)
		}
	}
}

// Data gives the folder of public test data, beside the checkout or in STRATA_DATA.
func Data(tb testing.TB) string {
	tb.Helper()
	dir := os.Getenv("STRATA_DATA")
	if dir == "" {
		dir = filepath.Join(filepath.Dir(Top(tb)), "shared", "data")
	}
	if _, err := os.Stat(dir); err != nil {
		Missing(tb, "data", "no test data at "+dir)
	}
	return dir
}
