//go:build cgo

package ort

import "testing"

func TestOlder(t *testing.T) {
	for v, want := range map[string]bool{
		"1.27.0": false, "1.27.1": false, "1.28.0": false, "2.0.0": false, "1.100.0": false,
		"1.26.9": true, "1.24.3": true, "0.99.0": true, "1.27": true, "": true, "1.x.0": true, "1.27.0-rc1": true,
	} {
		if older(v, MinVersion) != want {
			t.Errorf("older(%q) is %t", v, !want)
		}
	}
}
