package main

import (
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/strata-edge/strata/model"
)

// recipe is how a network is trained. All of it is part of what a model's bytes depend on.
type recipe struct {
	seed      uint64
	hidden    []int
	epochs    int     // at most
	patience  int     // epochs without a better validation before stopping
	batch     int     // rows a step
	rate      float64 // of Adam, falling to 0 in a straight line over the epochs
	decay     float64 // towards 0, times the rate
	dropUnit  float64 // share of hidden units dropped for a row
	dropBlock float64 // chance that a block other than self is shown as absent
}

func defaultRecipe(seed uint64) recipe {
	return recipe{
		seed: seed, hidden: []int{48, 32}, epochs: 60, patience: 10, batch: 64,
		rate: 2e-3, decay: 0.01, dropUnit: 0.1, dropBlock: 0.1,
	}
}

// maxWeight bounds how much more a positive row counts than a negative one.
const maxWeight = 10

// positiveWeights gives for each class √(negatives/positives), within 1 and maxWeight:
// rare causes are not drowned, and one mislabelled row is not everything.
func positiveWeights(rows []row, classes int) []float64 {
	count := make([]int, classes)
	for _, r := range rows {
		if r.class != none {
			count[r.class]++
		}
	}
	w := make([]float64, classes)
	for k, n := range count {
		w[k] = 1
		if n > 0 {
			w[k] = max(1, min(maxWeight, math.Sqrt(float64(len(rows)-n)/float64(n))))
		}
	}
	return w
}

// fit trains on the training rows, stops and calibrates on the validation rows, and
// gives the network as it ships.
func fit(d *dataset, c recipe, log io.Writer) (*model.Network, error) {
	train, valid := d.of(training), d.of(validation)
	classes := len(d.schema.Classes)
	st := newStandard(train)
	x := standardise(st, train)
	xv := standardise(st, valid)
	weights := positiveWeights(train, classes)
	r := rng(c.seed)
	p := newPerceptron(append(append([]int{d.schema.Width()}, c.hidden...), classes), &r)
	blocks := otherBlocks(d.schema)
	absent := st.absent()

	order := make([]int, len(train))
	for i := range order {
		order[i] = i
	}
	step := adam{pow1: 1, pow2: 1}
	best, bestAt := math.Inf(1), 0
	var kept [][]float64
	for epoch := 1; epoch <= c.epochs && epoch-bestAt <= c.patience; epoch++ {
		r.shuffle(order)
		rate := c.rate * float64(c.epochs-epoch+1) / float64(c.epochs)
		for from := 0; from < len(order); from += c.batch {
			rows := order[from:min(from+c.batch, len(order))]
			for _, i := range rows {
				copy(p.h[0], x[i])
				for _, b := range blocks {
					if r.float() < c.dropBlock {
						for _, k := range b {
							p.h[0][k] = absent[k]
						}
					}
				}
				logits := p.forward(c.dropUnit, &r)
				lossGradient(logits, train[i].class, weights, p.d[len(p.d)-1])
				p.backward(c.dropUnit)
			}
			step.begin(rate, len(rows))
			for i := range p.layers {
				step.step(&p.layers[i].w, c.decay)
				step.step(&p.layers[i].b, 0)
			}
		}
		loss := p.brier(xv, valid, weights)
		if loss < best {
			best, bestAt, kept = loss, epoch, p.snapshot()
		}
		fmt.Fprintf(log, "epoch %2d: validation %.5f, best %.5f of epoch %d\n", epoch, loss, best, bestAt) //nolint:errcheck // progress for people
	}
	if kept == nil {
		return nil, errors.New("fit: the loss is not a number from the first epoch on")
	}
	p.restore(kept)
	slope, offset := p.calibrate(xv, valid, classes)
	n := p.export(st, slope, offset)
	if err := n.Check(); err != nil {
		return nil, fmt.Errorf("fit: %w", err)
	}
	return n, nil
}

// lossGradient gives the gradient of the weighted cross-entropy by the logits.
func lossGradient(logits []float64, class int, weights, out []float64) {
	for k, z := range logits {
		out[k] = model.Logistic(z)
		if k == class {
			out[k] = (out[k] - 1) * weights[k]
		}
	}
}

// brier gives the weighted mean square of probability minus truth. It decides when to
// stop: it needs no logarithm and does not reward growing confidence without end.
func (p *perceptron) brier(x [][]float64, rows []row, weights []float64) float64 {
	sum := 0.0
	for i, r := range rows {
		copy(p.h[0], x[i])
		for k, z := range p.forward(0, nil) {
			e, w := model.Logistic(z), 1.0
			if k == r.class {
				e, w = 1-e, weights[k]
			}
			sum += float64(w * float64(e*e))
		}
	}
	return sum / float64(len(rows))
}

// otherBlocks gives the columns of each block but self.
func otherBlocks(s *model.Schema) [][]int {
	by := map[model.Block][]int{}
	for i, f := range s.Features {
		by[f.Block] = append(by[f.Block], i)
	}
	var out [][]int
	for b := model.Self + 1; b <= model.Device; b++ {
		if len(by[b]) > 0 {
			out = append(out, by[b])
		}
	}
	return out
}

func standardise(st standard, rows []row) [][]float64 {
	out := make([][]float64, len(rows))
	for i, r := range rows {
		out[i] = make([]float64, len(r.x))
		st.apply(r.x, out[i])
	}
	return out
}
