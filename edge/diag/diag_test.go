package diag

import (
	"encoding/json"
	"testing"
)

func TestScopesReadBack(t *testing.T) {
	for _, s := range []string{
		"flow:tcp/192.0.2.1:40000-192.0.2.7:80@eth0", "service:tcp/[2001:db8::1]:443", "host:2001:db8::1",
		"if:eth0", "disk:S3X0N", "can:can0", "proc:nginx/17", "device", "site",
	} {
		v, err := ParseScope(s)
		if err != nil || v.String() != s {
			t.Errorf("%q reads back as %q (%v)", s, v, err)
		}
	}
	for _, s := range []string{"", "host", "host:", "device:", "planet:mars", ":x"} {
		if v, err := ParseScope(s); err == nil {
			t.Errorf("%q reads as %v", s, v)
		}
	}
}

func FuzzParseScope(f *testing.F) {
	for _, s := range []string{"host:192.0.2.1", "device", "device:", "if:", "::", "flow:a@b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if v, err := ParseScope(s); err == nil && v.String() != s {
			t.Fatalf("%q reads back as %q", s, v)
		}
	})
}

func TestCodes(t *testing.T) {
	for _, c := range Codes() {
		if got, err := ParseCode(c.Name); err != nil || got != c.Code || got.Layer() != c.Layer {
			t.Errorf("%s: %v, %v", c.Name, got, err)
		}
	}
	if Code(9999).String() != "code(9999)" {
		t.Error("an unknown code has no readable name")
	}
}

// TestCausesStandOnTheirEvidence: a cause that needs evidence which it forbids, or that
// accounts for its own only evidence, could never be found.
func TestCausesStandOnTheirEvidence(t *testing.T) {
	for _, c := range Causes() {
		if len(c.Any) == 0 && c.ID != "l0.undetermined" {
			t.Errorf("%s has no evidence", c.ID)
		}
		for _, a := range c.Any {
			for _, n := range c.None {
				if a.Code == n {
					t.Errorf("%s needs and forbids %s", c.ID, n)
				}
			}
			if info, _ := a.Code.Info(); info.Context {
				t.Errorf("%s: %s is a denominator, not evidence", c.ID, a.Code)
			}
		}
	}
}

func TestFindingsAreSmall(t *testing.T) {
	f := Finding{
		ID: "0123456789abcdef", Layer: 4, Cause: "l4.receiver.stalled", State: StateUpdate, Confidence: 0.93,
		Scope: Scope{ScopeService, "tcp/[2001:db8:1111:2222:3333:4444:5555:6666]:50051"}.Ref(),
	}
	b, err := json.Marshal(f)
	if err != nil || len(b) > 300 {
		t.Errorf("an update takes %d bytes, want at most 300: %s (%v)", len(b), b, err)
	}
}
