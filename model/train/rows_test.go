package main

import (
	"strings"
	"testing"
)

func TestParseRows(t *testing.T) {
	s := smallSchema(t)
	line := func(run, label, extra string) string {
		return `{"run":` + run + `,"scenario":"a","scope":"host:x","label":"` + label + `","schema":"` + s.Short() + `"` + extra +
			`,"x":[0,1,2,3,4,5,6,7,8,9,10,11]}` + "\n"
	}
	d, err := parseRows([]byte(line("1", "none", "")+"\n"+line(`"b"`, "l3.path.loss", `,"part":"shifted"`)+
		line("2", "ignore", "")+line("3", "l3.ttl.loop", "")), s)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.rows) != 3 || d.ignored != 1 || d.untrained != 1 {
		t.Fatalf("%d rows, %d ignored, %d untrained", len(d.rows), d.ignored, d.untrained)
	}
	if d.rows[0].class != none || d.rows[1].class != 2 || d.rows[1].part != shifted || d.rows[2].class != none {
		t.Errorf("rows %+v", d.rows)
	}
	good := line("1", "none", "")
	for name, text := range map[string]string{
		"nothing":        "",
		"no JSON":        "run\n",
		"unknown key":    line("1", "none", `,"note":1`),
		"unknown label":  line("1", "l9.nothing", ""),
		"unknown part":   line("1", "none", `,"part":"all"`),
		"other schema":   strings.Replace(good, s.Short(), "0000", 1),
		"narrow":         strings.Replace(good, ",11]", "]", 1),
		"too large":      strings.Replace(good, ",11]", ",1e60]", 1),
		"no run":         strings.Replace(good, `"run":1,`, "", 1),
		"run null":       line("null", "none", ""),
		"cut gzip":       string(zipped(t, []byte(good))[:20]),
		"broken gzip":    "\x1f\x8bnothing",
		"very long line": `{"x":[` + strings.Repeat("0,", maxLine) + "0]}",
	} {
		if _, err := parseRows([]byte(text), s); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// No run may be in two parts, and every scenario must be in all three.
func TestSplitKeepsRunsTogether(t *testing.T) {
	s := smallSchema(t)
	d, err := parseRows(synthetic(t, s, 40, 1), s)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.split(); err != nil {
		t.Fatal(err)
	}
	of := map[string]part{}
	seen := map[string]bool{}
	for _, r := range d.rows {
		if p, ok := of[r.run]; ok && p != r.part {
			t.Fatalf("run %s is in %s and %s", r.run, p, r.part)
		}
		of[r.run] = r.part
		seen[r.scenario+" "+r.part.String()] = true
	}
	if len(seen) != 4*3 {
		t.Errorf("%d pairs of scenario and part, want 12", len(seen))
	}
	if n := countRuns(d.of(training)); n != 24 {
		t.Errorf("%d of 40 runs train, want 24", n)
	}
	few, err := parseRows(synthetic(t, s, 1, 1), s)
	if err != nil {
		t.Fatal(err)
	}
	if few.split() == nil {
		t.Error("one run was enough for three parts")
	}
	torn, err := parseRows(synthetic(t, s, 8, 1), s)
	if err != nil {
		t.Fatal(err)
	}
	torn.rows[0].part = shifted
	if torn.split() == nil {
		t.Error("a run in two parts was accepted")
	}
}

func FuzzParseRows(f *testing.F) {
	s := smallSchema(f)
	rows := synthetic(f, s, 2, 1)
	f.Add(rows)
	f.Add(zipped(f, rows))
	f.Add([]byte(`{"run":1,"label":"none","x":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseRows(b, s)
		if err != nil {
			return
		}
		for _, r := range d.rows {
			if len(r.x) != s.Width() || r.class < none || r.class >= len(s.Classes) {
				t.Fatalf("accepted %+v", r)
			}
		}
	})
}

func BenchmarkParseRows(b *testing.B) {
	s := smallSchema(b)
	rows := synthetic(b, s, 200, 1)
	b.SetBytes(int64(len(rows)))
	for b.Loop() {
		if _, err := parseRows(rows, s); err != nil {
			b.Fatal(err)
		}
	}
}
