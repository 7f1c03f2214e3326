package model

import (
	"math"
	"math/rand/v2"
	"testing"
)

// randomNetwork is a network of no meaning: it tests shapes and arithmetic alone.
func randomNetwork(r *rand.Rand, widths ...int) *Network {
	n := &Network{Clip: 8, Shift: make([]float32, widths[0]), Scale: make([]float32, widths[0])}
	for i := range n.Shift {
		n.Shift[i], n.Scale[i] = float32(r.NormFloat64()), float32(math.Abs(r.NormFloat64()))
	}
	for i := 1; i < len(widths); i++ {
		l := Dense{In: widths[i-1], Out: widths[i], W: make([]float32, widths[i-1]*widths[i]), B: make([]float32, widths[i])}
		for k := range l.W {
			l.W[k] = float32(r.NormFloat64() / math.Sqrt(float64(l.In)))
		}
		for k := range l.B {
			l.B[k] = float32(r.NormFloat64())
		}
		n.Layers = append(n.Layers, l)
	}
	return n
}

func TestLogistic(t *testing.T) {
	for x := -60.0; x <= 60; x += 0.01 {
		want := 1 / (1 + math.Exp(-x))
		if got := Logistic(x); math.Abs(got-want) > 4e-16*want+1e-300 && math.Abs(got-want) > 1e-15*want {
			t.Fatalf("logistic of %g is %.17g, want %.17g", x, got, want)
		}
	}
	for _, c := range [][2]float64{{-1e9, 0}, {1e9, 1}, {math.Inf(-1), 0}, {math.Inf(1), 1}, {0, 0.5}} {
		if got := Logistic(c[0]); got != c[1] {
			t.Errorf("logistic of %g is %g", c[0], got)
		}
	}
}

func TestNetworkCheck(t *testing.T) {
	good := func() *Network { return randomNetwork(rand.New(rand.NewPCG(1, 1)), 5, 4, 3) }
	if err := good().Check(); err != nil {
		t.Fatal(err)
	}
	nan := float32(math.NaN())
	for name, spoil := range map[string]func(*Network){
		"empty":          func(n *Network) { *n = Network{} },
		"scale too few":  func(n *Network) { n.Scale = n.Scale[:4] },
		"no clip":        func(n *Network) { n.Clip = 0 },
		"clip not a num": func(n *Network) { n.Clip = nan },
		"no layers":      func(n *Network) { n.Layers = nil },
		"weights":        func(n *Network) { n.Layers[1].W = n.Layers[1].W[:5] },
		"biases":         func(n *Network) { n.Layers[0].B = nil },
		"gap":            func(n *Network) { n.Layers = n.Layers[1:] },
		"not a number":   func(n *Network) { n.Layers[0].W[3] = nan },
		"infinite":       func(n *Network) { n.Scale[0] = float32(math.Inf(1)) },
		"too deep":       func(n *Network) { n.Layers = make([]Dense, MaxLayers+1) },
	} {
		n := good()
		spoil(n)
		if n.Check() == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, err := n.ONNX(); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
}

func TestNetworkScoreByHand(t *testing.T) {
	n := &Network{
		Shift: []float32{1, 0}, Scale: []float32{2, 1}, Clip: 4,
		Layers: []Dense{
			{In: 2, Out: 2, W: []float32{1, 1, -1, 0}, B: []float32{0, 1}},
			{In: 2, Out: 1, W: []float32{0.5, 3}, B: []float32{-1}},
		},
	}
	// (3−1)·2 = 4 and −9, clipped to −4; hidden: max(0, 0) and max(0, −3); then −1.
	out := []float32{0}
	n.Score([]float32{3, -9}, out)
	if want := float32(1 / (1 + math.E)); math.Abs(float64(out[0]-want)) > 1e-7 {
		t.Errorf("score %g, want %g", out[0], want)
	}
}

func BenchmarkNetworkScore(b *testing.B) {
	n := randomNetwork(rand.New(rand.NewPCG(1, 1)), 170, 48, 32, 16)
	x, out := make([]float32, 170), make([]float32, 16)
	for b.Loop() {
		n.Score(x, out)
	}
}
