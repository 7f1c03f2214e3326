package matrix

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strata-edge/strata/edge/diag"
)

const good = `version: 1
rules:
  - {signal: flow/http.response, code: L7.HTTP.RESPONSE}
  - {signal: flow/http.response, code: L7.HTTP.5XX, where: {http.class: "5xx"}}
  - {signal: flow/dns.response, code: L7.DNS.ERROR, where: {dns.rcode: "1|4"}}
  - {signal: rail/ripple, code: L1.RAIL.RIPPLE, max: 11000, value: 1}
  - {signal: flow/rtt_us, code: L4.TCP.RTT, scale: 0.001, min: 1}
`

func codes(r *Rules, s diag.Signal) (out []string) {
	r.Map(s, func(e diag.Event) { out = append(out, e.Code.String()) })
	return out
}

func TestMap(t *testing.T) {
	r, err := Parse("x.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	svc := diag.Scope{Kind: diag.ScopeService, ID: "tcp/192.0.2.1:80"}
	for _, tc := range []struct {
		name string
		sig  diag.Signal
		want string
	}{
		{"one rule", diag.Signal{Source: "flow", Name: "http.response", Value: 1}, "L7.HTTP.RESPONSE"},
		{"two rules", diag.Signal{Source: "flow", Name: "http.response", Value: 1, Attrs: []diag.Attr{{Key: "http.class", Value: "5xx"}}}, "L7.HTTP.RESPONSE L7.HTTP.5XX"},
		{"either value", diag.Signal{Source: "flow", Name: "dns.response", Value: 1, Attrs: []diag.Attr{{Key: "dns.rcode", Value: "4"}}}, "L7.DNS.ERROR"},
		{"other value", diag.Signal{Source: "flow", Name: "dns.response", Value: 1, Attrs: []diag.Attr{{Key: "dns.rcode", Value: "41"}}}, ""},
		{"above max", diag.Signal{Source: "rail", Name: "ripple", Value: 11001}, ""},
		{"at max", diag.Signal{Source: "rail", Name: "ripple", Value: 11000}, "L1.RAIL.RIPPLE"},
		{"below min", diag.Signal{Source: "flow", Name: "rtt_us", Value: 0.5}, ""},
		{"unknown", diag.Signal{Source: "flow", Name: "nothing", Value: 1}, ""},
	} {
		tc.sig.Scope = svc
		if got := strings.Join(codes(r, tc.sig), " "); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
	r.Map(diag.Signal{Source: "flow", Name: "rtt_us", Value: 2500, Scope: svc}, func(e diag.Event) {
		if e.Value != 2.5 {
			t.Errorf("scaled value %g, want 2.5", e.Value)
		}
	})
}

func TestParseErrors(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"empty", "", "empty"},
		{"version", "version: 2\nrules: []\n", "version 2"},
		{"unknown key", "version: 1\nrules:\n  - {signal: a/b, code: L4.TCP.RTT, mni: 3}\n", "mni"},
		{"unknown code", "version: 1\nrules:\n  - {signal: a/b, code: L4.TCP.NOPE}\n", `rule 1 (a/b): unknown code "L4.TCP.NOPE"`},
		{"no source", "version: 1\nrules:\n  - {signal: b, code: L4.TCP.RTT}\n", "source/name"},
		{"range", "version: 1\nrules:\n  - {signal: a/b, code: L4.TCP.RTT, min: 3, max: 2}\n", "min 3 is above max 2"},
		{"not finite", "version: 1\nrules:\n  - {signal: a/b, code: L4.TCP.RTT, min: .nan}\n", "finite"},
		{"a state that cannot end", "version: 1\nrules:\n  - {signal: a/b, code: L1.CAN.BUS_OFF, min: 1}\n", "ends by the value 0"},
		{"two documents", good + "---\nversion: 1\n", "more than one document"},
		{"too large", strings.Repeat("#", maxFile+1), "more than a rule file may have"},
	} {
		if _, err := Parse("x.yaml", []byte(tc.text)); err == nil || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), "x.yaml:") {
			t.Errorf("%s: error %v, want one that names x.yaml and %q", tc.name, err, tc.want)
		}
	}
}

func TestReloadKeepsTheLastGood(t *testing.T) {
	dir := t.TempDir()
	own := filepath.Join(dir, "own.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(own, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(good)
	m, err := New(dir)
	if err != nil {
		t.Fatal(err)
	}
	n := m.Rules().Len()
	if changed, err := m.Reload(); changed || err != nil {
		t.Errorf("nothing changed: %v, %v", changed, err)
	}
	write("version: 1\nrules: [{signal: x, code: L4.TCP.RTT}]\n")
	if changed, err := m.Reload(); changed || err == nil {
		t.Errorf("a bad file: %v, %v", changed, err)
	}
	if m.Rules().Len() != n {
		t.Errorf("a bad file displaced the rules: %d, want %d", m.Rules().Len(), n)
	}
	if _, err := m.Reload(); err != nil {
		t.Errorf("the same bad file was reported again: %v", err)
	}
	write("version: 1\nrules:\n  - {signal: rail/mv, code: L1.RAIL.UNDERVOLTAGE}\n")
	if changed, err := m.Reload(); !changed || err != nil {
		t.Errorf("a mended file: %v, %v", changed, err)
	}
	if m.Rules().Len() != n-4 {
		t.Errorf("%d rules, want %d", m.Rules().Len(), n-4)
	}
}

func TestBuiltinRulesCompile(t *testing.T) {
	r, err := Load("")
	if err != nil {
		t.Fatal(err)
	}
	if r.Len() == 0 {
		t.Error("no built-in rules")
	}
}

func TestMapAllocatesNothing(t *testing.T) {
	r, err := Parse("x.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	s := diag.Signal{Source: "flow", Name: "http.response", Value: 1, Scope: diag.Device, Attrs: []diag.Attr{{Key: "http.class", Value: "5xx"}}}
	n := 0
	emit := func(diag.Event) { n++ }
	if a := testing.AllocsPerRun(100, func() { r.Map(s, emit) }); a != 0 {
		t.Errorf("%g allocations a signal", a)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("version: 1\nrules: []\n"))
	f.Add([]byte("version: 1\nrules:\n  - {signal: a/b, code: L4.TCP.RTT, where: {a: \"b|c\"}, min: 1e300}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Parse("fuzz.yaml", b)
		if (r == nil) == (err == nil) {
			t.Fatalf("rules %v with error %v", r, err)
		}
	})
}

func BenchmarkMap(b *testing.B) {
	r, err := Load("")
	if err != nil {
		b.Fatal(err)
	}
	s := diag.Signal{Source: "strata", Name: "dropped", Value: 1, Scope: diag.Device}
	emit := func(diag.Event) {}
	b.ReportAllocs()
	for b.Loop() {
		r.Map(s, emit)
	}
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("x.yaml", []byte(good)); err != nil {
			b.Fatal(err)
		}
	}
}
