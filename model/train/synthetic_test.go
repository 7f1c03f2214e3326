package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math"
	"testing"

	"github.com/strata-edge/strata/model"
)

// smallSchema has features in two blocks and three causes.
func smallSchema(t testing.TB) *model.Schema {
	t.Helper()
	s, err := model.ParseSchema([]byte(`
version: 1
classes: [l4.port.refused, l4.port.filtered, l3.path.loss]
features:
- {blocks: [self], op: log, codes: [A, B, C, D, E, F]}
- {blocks: [above], op: log, codes: [A, B, C]}
- {blocks: [device], op: log, codes: [A, B, C]}
`))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// synthetic invents labelled rows of no meaning, to test the trainer's mechanics. A
// model of them must never ship.
//
// In every run one candidate is the root of one cause and four are not. The root of cause
// k has A..C[k] raised; the others have it raised as well, but then, as victims, their
// block above has it too. Two of the features say nothing.
func synthetic(t testing.TB, s *model.Schema, runs int, seed uint64) []byte {
	t.Helper()
	r := rng(seed)
	var out bytes.Buffer
	noise := func(scale float64) float64 {
		return float64(scale * (r.float() + r.float() + r.float() - 1.5))
	}
	classes := len(s.Classes)
	for run := range runs {
		k := run % (classes + 1)
		level := 1 + 2*r.float()
		for scope := range 5 {
			x := make([]float32, s.Width())
			label := labelNone
			hot := k < classes && r.float() < 0.5
			if scope == 0 && k < classes {
				label, hot = s.Classes[k], true
			}
			for i := range x {
				if r.float() < 0.3 {
					x[i] = float32(math.Abs(noise(0.6)))
				}
			}
			if k < classes && hot {
				x[k] += float32(level + noise(0.5))
				x[3+k%3] += float32(0.5 * level)
				if scope != 0 {
					x[6+k] += float32(level + noise(0.5))
				}
			}
			if k < classes {
				x[9+k] += float32(level)
			}
			for i, v := range x {
				var q float32
				if _, err := fmt.Sscanf(fmt.Sprintf("%.4g", v), "%g", &q); err != nil {
					t.Fatal(err)
				}
				x[i] = q
			}
			line, err := json.Marshal(map[string]any{
				"run": run, "scenario": fmt.Sprint("s", k), "scope": fmt.Sprint("host:", scope),
				"label": label, "schema": s.Hash, "x": x,
			})
			if err != nil {
				t.Fatal(err)
			}
			out.Write(append(line, '\n'))
		}
	}
	return out.Bytes()
}

func zipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
