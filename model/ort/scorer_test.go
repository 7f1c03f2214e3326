//go:build cgo

package ort

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/strata-edge/strata/internal/testreq"
	"github.com/strata-edge/strata/model"
)

// library finds ONNX Runtime for tests: as the program does, or in the build folder.
func library(tb testing.TB) string {
	tb.Helper()
	built := filepath.Join(testreq.Top(tb), "build", "lib", runtime.GOARCH, LibraryName)
	path, err := Find(append(Candidates(""), built))
	if err != nil {
		testreq.Missing(tb, "ort", err.Error())
	}
	return path
}

// bundle makes a signed bundle of random weights for the built-in schema's shape.
func bundle(tb testing.TB, spoil func(*model.Metadata)) *model.Bundle {
	tb.Helper()
	s, err := model.Default()
	if err != nil {
		tb.Fatal(err)
	}
	r := rand.New(rand.NewPCG(11, 12))
	widths := []int{s.Width(), 48, 32, len(s.Classes)}
	n := &model.Network{Clip: 8, Shift: make([]float32, s.Width()), Scale: make([]float32, s.Width())}
	for i := range n.Shift {
		n.Shift[i], n.Scale[i] = float32(r.NormFloat64()), float32(math.Abs(r.NormFloat64()))
	}
	for i := 1; i < len(widths); i++ {
		l := model.Dense{In: widths[i-1], Out: widths[i], W: make([]float32, widths[i-1]*widths[i]), B: make([]float32, widths[i])}
		for k := range l.W {
			l.W[k] = float32(r.NormFloat64() * math.Sqrt(2/float64(l.In)))
		}
		n.Layers = append(n.Layers, l)
	}
	onnx, err := n.ONNX()
	if err != nil {
		tb.Fatal(err)
	}
	sum := sha256.Sum256(onnx)
	m := model.Metadata{Format: 1, Version: 1, Schema: s.Hash, Inputs: s.Width(), Classes: s.Classes, ModelSHA256: hex.EncodeToString(sum[:])}
	for range 4 {
		g := model.Golden{X: rows(r, 1, s.Width()), Y: make([]float32, len(s.Classes))}
		n.Score(g.X, g.Y)
		m.Golden = append(m.Golden, g)
	}
	meta, err := json.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		tb.Fatal(err)
	}
	b, err := model.Open(onnx, meta, model.Sign(key, onnx, meta), model.Policy{Keys: []ed25519.PublicKey{pub}, Schema: s})
	if err != nil {
		tb.Fatal(err)
	}
	if spoil != nil {
		spoil(&b.Meta)
	}
	return b
}

func rows(r *rand.Rand, n, width int) []float32 {
	x := make([]float32, n*width)
	for i := range x {
		if r.IntN(3) == 0 {
			x[i] = float32(3 * r.NormFloat64())
		}
	}
	return x
}

func open(tb testing.TB) (*Scorer, *model.Bundle) {
	tb.Helper()
	lib := library(tb)
	b := bundle(tb, nil)
	s, err := Open(lib, b)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s, b
}

// The network in plain Go, which the trainer measures, and ONNX Runtime agree.
func TestParity(t *testing.T) {
	s, b := open(t)
	seed := rand.Uint64()
	t.Logf("seed %d, ONNX Runtime %s", seed, s.Version())
	r := rand.New(rand.NewPCG(seed, 1))
	const n = 512
	x := rows(r, n, s.inputs)
	got, want := make([]float32, n*s.outputs), make([]float32, s.outputs)
	for done := 0; done < n; {
		k := min(1+r.IntN(70), n-done)
		if err := s.Score(x[done*s.inputs:(done+k)*s.inputs], k, got[done*s.outputs:]); err != nil {
			t.Fatal(err)
		}
		done += k
	}
	var worst float64
	for i := range n {
		b.Network.Score(x[i*s.inputs:(i+1)*s.inputs], want)
		for k, y := range want {
			worst = max(worst, math.Abs(float64(y-got[i*s.outputs+k])))
		}
	}
	t.Logf("largest difference over %d rows: %.2g", n, worst)
	if !(worst <= 1e-5) {
		t.Errorf("largest difference %g, want at most 1e-5", worst)
	}
}

func TestScoreRefuses(t *testing.T) {
	s, _ := open(t)
	out := make([]float32, 2*s.outputs)
	good := make([]float32, 2*s.inputs)
	if err := s.Score(good, 2, out); err != nil {
		t.Fatal(err)
	}
	if err := s.Score(nil, 0, nil); err != nil {
		t.Errorf("no rows: %v", err)
	}
	for name, c := range map[string]struct {
		x    []float32
		rows int
		out  []float32
	}{
		"narrow":        {good[:len(good)-1], 2, out},
		"wide":          {good, 1, out},
		"negative rows": {nil, -1, out},
		"short output":  {good, 2, out[:s.outputs]},
	} {
		if err := s.Score(c.x, c.rows, c.out); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		x := append([]float32(nil), good...)
		x[s.inputs+5] = float32(v)
		clear(out)
		err := s.Score(x, 2, out)
		if err == nil || !strings.Contains(err.Error(), "row 1, feature 5") {
			t.Errorf("%g: %v", v, err)
		}
		for _, y := range out {
			if y != 0 {
				t.Fatalf("%g: something was written", v)
			}
		}
	}
}

// A row's score must not depend on the rows beside it or on those of the call before.
func TestScoreKeepsRowsApart(t *testing.T) {
	s, _ := open(t)
	r := rand.New(rand.NewPCG(1, 2))
	x := rows(r, 33, s.inputs)
	all, one := make([]float32, 33*s.outputs), make([]float32, s.outputs)
	if err := s.Score(x, 33, all); err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{0, 7, 31, 32} {
		if err := s.Score(x[i*s.inputs:(i+1)*s.inputs], 1, one); err != nil {
			t.Fatal(err)
		}
		for k, y := range one {
			if math.Abs(float64(y-all[i*s.outputs+k])) > 1e-5 {
				t.Errorf("row %d, class %d: alone %g, among others %g", i, k, y, all[i*s.outputs+k])
			}
		}
	}
}

func TestOpenChecksGoldenRows(t *testing.T) {
	lib := library(t)
	b := bundle(t, func(m *model.Metadata) { m.Golden[2].Y[3] += 1e-3 })
	if s, err := Open(lib, b); err == nil || !strings.Contains(err.Error(), "golden row 2") {
		t.Errorf("%v, %v", s, err)
	}
}

func TestOpenRefusesLibrary(t *testing.T) {
	b := bundle(t, nil)
	dir := t.TempDir()
	text := filepath.Join(dir, LibraryName)
	if err := os.WriteFile(text, []byte("no library"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{text, filepath.Join(dir, "none")} {
		if _, err := Open(path, b); err == nil {
			t.Errorf("%s: loaded", path)
		}
	}
}

// Models are exchanged while the service runs: the new one opens before the old closes.
func TestOpenCloseRepeatedly(t *testing.T) {
	lib := library(t)
	b := bundle(t, nil)
	out := make([]float32, len(b.Meta.Classes))
	for range 5 {
		old, err := Open(lib, b)
		if err != nil {
			t.Fatal(err)
		}
		now, err := Open(lib, b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(lib+".other", b); err == nil {
			t.Error("a second library was loaded beside the first")
		}
		if err := errors.Join(old.Close(), old.Close()); err != nil {
			t.Fatal(err)
		}
		if err := old.Score(b.Meta.Golden[0].X, 1, out); !errors.Is(err, errClosed) {
			t.Errorf("closed: %v", err)
		}
		if err := now.Score(b.Meta.Golden[0].X, 1, out); err != nil {
			t.Fatal(err)
		}
		if err := now.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestScoreConcurrently(t *testing.T) {
	s, b := open(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := b.CheckGolden(s.Score); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestScoreAllocatesNothing(t *testing.T) {
	s, _ := open(t)
	x, out := make([]float32, 40*s.inputs), make([]float32, 40*s.outputs)
	if n := testing.AllocsPerRun(100, func() {
		if err := s.Score(x, 40, out); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%g allocations a call, want none", n)
	}
}

func BenchmarkScore(b *testing.B) {
	s, _ := open(b)
	for _, n := range []int{1, 8, 32} {
		x, out := rows(rand.New(rand.NewPCG(1, 1)), n, s.inputs), make([]float32, n*s.outputs)
		b.Run(map[int]string{1: "1 row", 8: "8 rows", 32: "32 rows"}[n], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Score(x, n, out); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*n), "µs/row")
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	lib := library(b)
	m := bundle(b, nil)
	hold, err := Open(lib, m)
	if err != nil {
		b.Fatal(err)
	}
	defer hold.Close() //nolint:errcheck // measured, not tested
	for b.Loop() {
		s, err := Open(lib, m)
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
