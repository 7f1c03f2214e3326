package model

import (
	"errors"
	"fmt"
	"math"
)

// Limits of a network. They keep a score far below its budget of 50 µs whatever the
// bundle says.
const (
	MaxLayers = 6
	MaxWidth  = 512 // of a row, a hidden layer and a score
)

// Dense is one fully connected layer: y[o] = B[o] + Σ W[o·In+i]·x[i].
type Dense struct {
	In, Out int
	W       []float32 // Out rows of In
	B       []float32 // Out
}

// Network is the learnt function: x is standardised to (x−Shift)·Scale, clipped to
// ±Clip, and passes the layers, each followed by max(0,y), the last by the logistic
// function.
type Network struct {
	Shift, Scale []float32
	Clip         float32
	Layers       []Dense
}

// Inputs gives the width of a row.
func (n *Network) Inputs() int { return len(n.Shift) }

// Outputs gives the width of a score.
func (n *Network) Outputs() int {
	if len(n.Layers) == 0 {
		return 0
	}
	return n.Layers[len(n.Layers)-1].Out
}

// Check says whether the shapes fit together and every number is finite.
func (n *Network) Check() error {
	width := len(n.Shift)
	if width == 0 || width > MaxWidth || len(n.Scale) != width {
		return fmt.Errorf("network: %d shifts and %d scales, want 1 to %d of each", width, len(n.Scale), MaxWidth)
	}
	if !(n.Clip > 0) {
		return fmt.Errorf("network: clip %g, want above 0", n.Clip)
	}
	if len(n.Layers) == 0 || len(n.Layers) > MaxLayers {
		return fmt.Errorf("network: %d layers, want 1 to %d", len(n.Layers), MaxLayers)
	}
	numbers := [][]float32{n.Shift, n.Scale, {n.Clip}}
	for i, l := range n.Layers {
		if l.In != width || l.Out < 1 || l.Out > MaxWidth || len(l.W) != l.In*l.Out || len(l.B) != l.Out {
			return fmt.Errorf("network: layer %d is %d to %d with %d weights and %d biases, behind a width of %d",
				i, l.In, l.Out, len(l.W), len(l.B), width)
		}
		width = l.Out
		numbers = append(numbers, l.W, l.B)
	}
	for _, vs := range numbers {
		for _, v := range vs {
			if !finite(v) {
				return errors.New("network: a parameter is not finite")
			}
		}
	}
	return nil
}

// Score computes one row in plain Go, for checks and where no runtime is at hand. It
// panics, as an index out of range does, where the widths do not fit.
func (n *Network) Score(x, out []float32) {
	h := make([]float32, n.Inputs())
	for i := range h {
		h[i] = max(-n.Clip, min(n.Clip, (x[i]-n.Shift[i])*n.Scale[i]))
	}
	for li, l := range n.Layers {
		y := make([]float32, l.Out)
		for o := range y {
			sum := l.B[o]
			for i, w := range l.W[o*l.In : (o+1)*l.In] {
				// The conversion keeps a compiler from fusing the two operations, so
				// that every architecture gives the same bits.
				sum += float32(w * h[i])
			}
			if li < len(n.Layers)-1 {
				sum = max(0, sum)
			}
			y[o] = sum
		}
		h = y
	}
	for o := range h {
		out[o] = float32(Logistic(float64(h[o])))
	}
}

// Logistic gives 1/(1+e^−x). Unlike one built on math.Exp, whose last bit depends on the
// architecture, it gives the same bits everywhere, which training needs.
func Logistic(x float64) float64 {
	if x < 0 {
		e := expNegative(x)
		return e / (1 + e)
	}
	return 1 / (1 + expNegative(-x))
}

// Halves of ln 2: the upper one has enough zero bits that its product with a small
// integer is exact.
const (
	ln2Hi = 6.93147180369123816490e-01
	ln2Lo = 1.90821492927058770002e-10
)

// expNegative gives e^x for x ≤ 0: x = k·ln 2 + r with |r| ≤ ln 2 / 2, and a Taylor
// polynomial of degree 13 in r, whose remainder is below 2^−60.
func expNegative(x float64) float64 {
	if x < -700 {
		return 0
	}
	k := math.Floor(float64(x*math.Log2E) + 0.5)
	r := x - float64(k*ln2Hi)
	r -= float64(k * ln2Lo)
	p := 1.0
	for i := 13.0; i >= 1; i-- {
		p = 1 + float64(float64(p*r)/i)
	}
	return math.Ldexp(p, int(k))
}

func finite(v float32) bool {
	f := float64(v)
	return !math.IsNaN(f) && !math.IsInf(f, 0)
}
