package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strata-edge/strata/model"
)

func quick(seed uint64) recipe {
	c := defaultRecipe(seed)
	c.hidden, c.epochs = []int{12, 8}, 25
	return c
}

// The bytes below were made on amd64. Other architectures, and other compilers, must
// give the same: nothing in the trainer depends on either.
const syntheticModel = "73750793090ddd71"

func TestTrainingIsReproducible(t *testing.T) {
	s := smallSchema(t)
	raw := synthetic(t, s, 120, 5)
	build := func(seed uint64) *bundle {
		d, err := parseRows(raw, s)
		if err != nil {
			t.Fatal(err)
		}
		n, m, err := trainAndMeasure(d, quick(seed), io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		b, err := pack(d, n, m, 1, seed, "go")
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	first, again, other := build(1), build(1), build(2)
	if !bytes.Equal(first.onnx, again.onnx) || !bytes.Equal(first.meta, again.meta) {
		t.Error("the same rows and seed gave other bytes")
	}
	if bytes.Equal(first.onnx, other.onnx) {
		t.Error("another seed gave the same bytes")
	}
	sum := sha256.Sum256(append(first.onnx, first.meta...))
	if got := hex.EncodeToString(sum[:8]); got != syntheticModel {
		t.Errorf("SHA-256 of the bundle begins %s, want %s", got, syntheticModel)
	}
}

func TestTrainingLearns(t *testing.T) {
	s := smallSchema(t)
	d, err := parseRows(synthetic(t, s, 600, 9), s)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	n, m, err := trainAndMeasure(d, quick(3), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if err := report(&log, d, m); err != nil {
		t.Fatal(err)
	}
	t.Log(log.String())
	if m.Test.MacroF1 < 0.85 || m.Test.ECE > 0.08 || m.Test.RootTop1 < 0.9 {
		t.Errorf("macro-F1 %g, ECE %g, root top-1 %g: it should learn this", m.Test.MacroF1, m.Test.ECE, m.Test.RootTop1)
	}
	if m.Test.MajorityMacroF1 != 0 {
		t.Errorf("the majority is no cause, its macro-F1 is %g", m.Test.MajorityMacroF1)
	}
	decoded, err := n.ONNX()
	if err != nil {
		t.Fatal(err)
	}
	again, err := model.DecodeONNX(decoded)
	if err != nil {
		t.Fatal(err)
	}
	a, b := make([]float32, 3), make([]float32, 3)
	for _, r := range d.of(test) {
		n.Score(r.x, a)
		again.Score(r.x, b)
		for k := range a {
			if a[k] != b[k] {
				t.Fatal("the file gives other scores than the network")
			}
		}
	}
}

// The network in training arithmetic and the exported one must agree, also after the
// calibration was folded in.
func TestExportAgrees(t *testing.T) {
	s := smallSchema(t)
	d, err := parseRows(synthetic(t, s, 40, 2), s)
	if err != nil {
		t.Fatal(err)
	}
	r := rng(4)
	p := newPerceptron([]int{s.Width(), 12, 8, 3}, &r)
	st := newStandard(d.rows)
	slope, offset := []float64{0.5, 1, 2}, []float64{-1, 0, 0.25}
	n := p.export(st, slope, offset)
	out := make([]float32, 3)
	for _, row := range d.rows {
		st.apply(row.x, p.h[0])
		n.Score(row.x, out)
		for k, z := range p.forward(0, nil) {
			if want := model.Logistic(slope[k]*z + offset[k]); math.Abs(want-float64(out[k])) > 1e-6 {
				t.Fatalf("class %d: exported %g, trained %g", k, out[k], want)
			}
		}
	}
}

// Gradients are compared with differences of the loss.
func TestGradients(t *testing.T) {
	r := rng(8)
	p := newPerceptron([]int{4, 5, 3, 2}, &r)
	x := []float64{0.5, 0, -1.2, 2}
	weights := []float64{3, 1}
	loss := func() float64 {
		copy(p.h[0], x)
		sum := 0.0
		for k, z := range p.forward(0, nil) {
			q := model.Logistic(z)
			if k == 0 {
				sum -= weights[k] * math.Log(q)
			} else {
				sum -= math.Log(1 - q)
			}
		}
		return sum
	}
	copy(p.h[0], x)
	lossGradient(p.forward(0, nil), 0, weights, p.d[3])
	p.backward(0)
	const h = 1e-6
	for li, l := range p.layers {
		for _, ps := range []params{l.w, l.b} {
			for i := range ps.v {
				keep := ps.v[i]
				ps.v[i] = keep + h
				up := loss()
				ps.v[i] = keep - h
				down := loss()
				ps.v[i] = keep
				if want := (up - down) / (2 * h); math.Abs(want-ps.grad[i]) > 1e-6 {
					t.Errorf("layer %d, parameter %d: gradient %g, want %g", li, i, ps.grad[i], want)
				}
			}
		}
	}
}

func TestPlattUndoesAShift(t *testing.T) {
	r := rng(6)
	var logits []float64
	var truth []bool
	for range 4000 {
		z := 8*r.float() - 4
		logits = append(logits, z)
		truth = append(truth, r.float() < model.Logistic(0.5*z-1))
	}
	a, b := platt(logits, truth)
	if math.Abs(a-0.5) > 0.06 || math.Abs(b+1) > 0.12 {
		t.Errorf("slope %g, offset %g, want 0.5 and −1", a, b)
	}
	if a, b := platt([]float64{1, 2, 3}, []bool{false, false, false}); math.IsNaN(a+b) || a < leastSlope {
		t.Errorf("one class alone: %g, %g", a, b)
	}
	if a, b := platt(nil, nil); a != 1 || b != 0 {
		t.Errorf("no rows: %g, %g", a, b)
	}
}

func TestTree(t *testing.T) {
	r := rng(1)
	var rows []row
	for range 400 { // exclusive or of two features, a third says nothing
		a, b := r.float(), r.float()
		class := none
		if (a > 0.5) != (b > 0.3) {
			class = 0
		}
		rows = append(rows, row{class: class, x: []float32{float32(a), float32(r.float()), float32(b)}})
	}
	grown := newBins(rows, 1).grow(treeRecipe{depth: 6, balance: 1})
	wrong := 0
	for _, q := range rows {
		if grown.classify(q.x) != q.class {
			wrong++
		}
	}
	if wrong > 20 {
		t.Errorf("%d of %d rows wrong", wrong, len(rows))
	}
	leaf := newBins(rows[:2], 1).grow(treeRecipe{depth: 6})
	if len(leaf) != 1 {
		t.Errorf("two rows gave %d nodes", len(leaf))
	}
}

func TestScores(t *testing.T) {
	s := newScores(3)
	for _, c := range [][2]int{{0, 0}, {0, none}, {0, 1}, {1, 1}, {none, 1}, {none, none}} {
		s.add(c[0], c[1])
	}
	for name, c := range map[string][2]float64{
		"precision of 1": {s.precision(1), 1.0 / 3}, "recall of 0": {s.recall(0), 1.0 / 3},
		"F1 of 0": {s.f1(0), 0.5}, "F1 of 1": {s.f1(1), 0.5}, "macro-F1 without class 2": {s.macroF1(), 0.5},
	} {
		if math.Abs(c[0]-c[1]) > 1e-12 {
			t.Errorf("%s: %g, want %g", name, c[0], c[1])
		}
	}
}

// The whole command: train, load as an operator would, check, spoil, check.
func TestCommand(t *testing.T) {
	s := smallSchema(t)
	dir := t.TempDir()
	rows, out := filepath.Join(dir, "rows.jsonl.gz"), filepath.Join(dir, "model")
	if err := os.WriteFile(rows, zipped(t, synthetic(t, s, 200, 5)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	keyFile := filepath.Join(dir, "key.pem")
	if err := os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, error) {
		o, err := parseFlags(append([]string{"-rows", rows, "-out", out}, args...), io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		var text bytes.Buffer
		err = o.run(s, &text, io.Discard)
		return text.String(), err
	}
	if _, err := run("-check"); err == nil {
		t.Error("check without a bundle passed")
	}
	if _, err := run("-key", keyFile, "-version", "4", "-allow-worse"); err != nil {
		t.Fatal(err)
	}
	policy := model.Policy{Keys: []ed25519.PublicKey{key.Public().(ed25519.PublicKey)}, MinVersion: 4, Schema: s}
	b, err := model.LoadDir(out, policy)
	if err != nil {
		t.Fatal(err)
	}
	if b.Meta.Version != 4 || len(b.Meta.Golden) != 4 {
		t.Errorf("version %d with %d golden rows", b.Meta.Version, len(b.Meta.Golden))
	}
	if text, err := run("-check"); err != nil || !strings.Contains(text, "byte for byte") {
		t.Errorf("check: %s, %v", text, err)
	}
	if _, err := run("-allow-worse"); err != nil { // a new key, the next version
		t.Fatal(err)
	}
	if _, err := model.LoadDir(out, policy); !errors.Is(err, model.ErrUntrusted) {
		t.Errorf("the operator's key accepted another's signature: %v", err)
	}
	if _, err := run("-check"); err != nil {
		t.Error(err)
	}
	for _, name := range []string{model.ModelFile, model.MetadataFile, model.SignatureFile, model.PublicKeyFile} {
		path := filepath.Join(out, name)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		bad := bytes.Clone(good)
		bad[len(bad)/2] ^= 1
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := run("-check"); err == nil {
			t.Errorf("%s spoilt: check passed", name)
		}
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWorth(t *testing.T) {
	better, same := model.Evaluation{MacroF1: 0.9, TreeMacroF1: 0.8}, model.Evaluation{MacroF1: 0.8, TreeMacroF1: 0.8}
	if err := worth(model.Metrics{Test: better}); err != nil {
		t.Error(err)
	}
	if worth(model.Metrics{Test: same}) == nil || worth(model.Metrics{Test: better, Shifted: &same}) == nil {
		t.Error("a model no better than the tree may ship")
	}
}

// BenchmarkEpoch is one epoch over 1,200 rows of the built-in schema's shape.
func BenchmarkEpoch(b *testing.B) {
	s, err := model.Default()
	if err != nil {
		b.Fatal(err)
	}
	d, err := parseRows(synthetic(b, s, 400, 5), s)
	if err != nil {
		b.Fatal(err)
	}
	if err := d.split(); err != nil {
		b.Fatal(err)
	}
	c := defaultRecipe(1)
	c.epochs = 1
	for b.Loop() {
		if _, err := fit(d, c, io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}
