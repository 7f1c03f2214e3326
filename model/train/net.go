package main

import (
	"math"

	"github.com/strata-edge/strata/model"
)

// Every product below that is added to something stands in a conversion, float64(a*b):
// the language then forbids the compiler to fuse the two operations, which would change
// last bits between architectures. Exponentials come from model.Logistic alone.

// dense is a fully connected layer during training. w is laid out by input, so that
// inputs of 0, which are most, cost nothing.
type dense struct {
	in, out int
	w, b    params
}

// params is a block of numbers with Adam's state.
type params struct{ v, grad, m, s []float64 }

func newParams(n int) params {
	return params{make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n)}
}

// newDense draws weights uniformly with He's variance, 2/in.
func newDense(in, out int, r *rng) dense {
	d := dense{in: in, out: out, w: newParams(in * out), b: newParams(out)}
	limit := math.Sqrt(6 / float64(in))
	for i := range d.w.v {
		d.w.v[i] = (float64(2*r.float()) - 1) * limit
	}
	return d
}

// forward computes y = b + Wᵀx.
func (d *dense) forward(x, y []float64) {
	copy(y, d.b.v)
	for i, v := range x {
		if v == 0 {
			continue
		}
		for o, w := range d.w.v[i*d.out : (i+1)*d.out] {
			y[o] += float64(v * w)
		}
	}
}

// backward adds the gradient for one row and, where dx is not nil, gives the gradient
// of the input.
func (d *dense) backward(x, dy, dx []float64) {
	for o, g := range dy {
		d.b.grad[o] += g
	}
	for i, v := range x {
		w, grad := d.w.v[i*d.out:(i+1)*d.out], d.w.grad[i*d.out:(i+1)*d.out]
		if v != 0 {
			for o, g := range dy {
				grad[o] += float64(v * g)
			}
		}
		if dx != nil {
			sum := 0.0
			for o, g := range dy {
				sum += float64(w[o] * g)
			}
			dx[i] = sum
		}
	}
}

// Adam's usual constants.
const (
	beta1   = 0.9
	beta2   = 0.999
	epsilon = 1e-8
)

// adam makes one step on the mean of n rows' gradients; decay pulls towards 0.
type adam struct {
	rate         float64
	pow1, pow2   float64 // beta to the power of the steps made
	rowsInverted float64
}

func (a *adam) begin(rate float64, n int) {
	a.rate = rate
	a.pow1 *= beta1
	a.pow2 *= beta2
	a.rowsInverted = 1 / float64(n)
}

func (a *adam) step(p *params, decay float64) {
	c1, c2 := 1-a.pow1, 1-a.pow2
	for i, g := range p.grad {
		g *= a.rowsInverted
		p.m[i] = float64(beta1*p.m[i]) + float64((1-beta1)*g)
		p.s[i] = float64(beta2*p.s[i]) + float64((1-beta2)*float64(g*g))
		move := p.m[i] / c1 / (math.Sqrt(p.s[i]/c2) + epsilon)
		p.v[i] -= float64(a.rate * (move + float64(decay*p.v[i])))
		p.grad[i] = 0
	}
}

// perceptron is the network during training.
type perceptron struct {
	layers []dense
	h      [][]float64 // h[0] the input, h[i+1] the output of layer i
	d      [][]float64 // gradients, as h
	mask   [][]bool    // hidden units that are dropped for this row, as h
}

func newPerceptron(widths []int, r *rng) *perceptron {
	p := &perceptron{}
	for i, w := range widths {
		p.h = append(p.h, make([]float64, w))
		p.d = append(p.d, make([]float64, w))
		p.mask = append(p.mask, make([]bool, w))
		if i > 0 {
			p.layers = append(p.layers, newDense(widths[i-1], w, r))
		}
	}
	return p
}

// forward gives the logits of the row in h[0]. With drop above 0, hidden units are
// dropped at that rate and the others scaled up to make up for it.
func (p *perceptron) forward(drop float64, r *rng) []float64 {
	last := len(p.layers) - 1
	for i := range p.layers {
		y := p.h[i+1]
		p.layers[i].forward(p.h[i], y)
		if i == last {
			break
		}
		for k, v := range y {
			gone := v <= 0 || (drop > 0 && r.float() < drop)
			p.mask[i+1][k] = gone
			switch {
			case gone:
				y[k] = 0
			case drop > 0:
				y[k] = v / (1 - drop)
			}
		}
	}
	return p.h[len(p.h)-1]
}

// backward adds the gradients for the row of the last forward, given those of the logits
// in d's last slice.
func (p *perceptron) backward(drop float64) {
	for i := len(p.layers) - 1; i >= 0; i-- {
		if i == 0 {
			p.layers[0].backward(p.h[0], p.d[1], nil)
			return
		}
		p.layers[i].backward(p.h[i], p.d[i+1], p.d[i])
		for k, gone := range p.mask[i] {
			if gone {
				p.d[i][k] = 0
			} else if drop > 0 {
				p.d[i][k] /= 1 - drop
			}
		}
	}
}

// snapshot copies the weights out, restore copies them back.
func (p *perceptron) snapshot() [][]float64 {
	var out [][]float64
	for _, l := range p.layers {
		out = append(out, append([]float64(nil), l.w.v...), append([]float64(nil), l.b.v...))
	}
	return out
}

func (p *perceptron) restore(s [][]float64) {
	for i, l := range p.layers {
		copy(l.w.v, s[2*i])
		copy(l.b.v, s[2*i+1])
	}
}

// export gives the network as the device runs it, in float32 and laid out by output.
// The calibration, slope[k]·logit + offset[k], is folded into the last layer.
func (p *perceptron) export(st standard, slope, offset []float64) *model.Network {
	n := &model.Network{Shift: st.shift, Scale: st.scale, Clip: clipAt}
	for i, l := range p.layers {
		d := model.Dense{In: l.in, Out: l.out, W: make([]float32, l.in*l.out), B: make([]float32, l.out)}
		for o := range l.out {
			a, b := 1.0, 0.0
			if i == len(p.layers)-1 {
				a, b = slope[o], offset[o]
			}
			d.B[o] = float32(float64(a*l.b.v[o]) + b)
			for k := range l.in {
				d.W[o*l.in+k] = float32(a * l.w.v[k*l.out+o])
			}
		}
		n.Layers = append(n.Layers, d)
	}
	return n
}
