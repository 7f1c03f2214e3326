package main

import "github.com/strata-edge/strata/model"

// minPositives is the number of validation rows below which a class takes the
// calibration of all classes together instead of one of its own.
const minPositives = 8

// calibrate fits p = logistic(slope·logit + offset) for each class on rows that the
// weights were not fitted to (Platt scaling). It undoes what the weighting of rare
// causes did to the probabilities.
func (p *perceptron) calibrate(x [][]float64, rows []row, classes int) (slope, offset []float64) {
	logits := make([][]float64, classes)
	truth := make([][]bool, classes)
	var allLogits []float64
	var allTruth []bool
	for i, r := range rows {
		copy(p.h[0], x[i])
		for k, z := range p.forward(0, nil) {
			logits[k] = append(logits[k], z)
			truth[k] = append(truth[k], k == r.class)
			allLogits = append(allLogits, z)
			allTruth = append(allTruth, k == r.class)
		}
	}
	commonSlope, commonOffset := platt(allLogits, allTruth)
	slope, offset = make([]float64, classes), make([]float64, classes)
	for k := range classes {
		if count(truth[k]) < minPositives {
			slope[k], offset[k] = commonSlope, commonOffset
		} else {
			slope[k], offset[k] = platt(logits[k], truth[k])
		}
	}
	return slope, offset
}

const (
	// plattPrior is the weight, in rows, of the belief that nothing needs to change.
	plattPrior = 1.0
	// A slope outside would mean that the logits are worthless or the rows all alike.
	leastSlope, mostSlope = 0.1, 4
	mostOffset            = 8
)

// platt minimises cross-entropy + plattPrior/2·((slope−1)² + offset²) by Newton's method
// with halved steps. The targets are Platt's, (n₊+1)/(n₊+2) and 1/(n₋+2), so that rows
// which the network separates perfectly do not ask for infinite confidence.
func platt(logits []float64, truth []bool) (slope, offset float64) {
	positives := count(truth)
	high := float64(positives+1) / float64(positives+2)
	low := 1 / float64(len(truth)-positives+2)
	a, b := 1.0, 0.0
	// gradient gives the derivatives at (a, b).
	gradient := func(a, b float64) (ga, gb, haa, hab, hbb float64) {
		ga, gb = plattPrior*(a-1), plattPrior*b
		haa, hbb = plattPrior, plattPrior
		for i, z := range logits {
			t := low
			if truth[i] {
				t = high
			}
			q := model.Logistic(float64(a*z) + b)
			e, v := q-t, float64(q*(1-q))
			ga += float64(e * z)
			gb += e
			haa += float64(float64(v*z) * z)
			hab += float64(v * z)
			hbb += v
		}
		return ga, gb, haa, hab, hbb
	}
	norm := func(ga, gb float64) float64 { return float64(ga*ga) + float64(gb*gb) }
	for range 50 {
		ga, gb, haa, hab, hbb := gradient(a, b)
		size := norm(ga, gb)
		if size < 1e-18 {
			break
		}
		det := float64(haa*hbb) - float64(hab*hab)
		da := (float64(hbb*ga) - float64(hab*gb)) / det
		db := (float64(haa*gb) - float64(hab*ga)) / det
		// The function is convex: a step that shrinks the gradient is a good step.
		for range 20 {
			na, nb, _, _, _ := gradient(a-da, b-db)
			if norm(na, nb) < size {
				break
			}
			da, db = da/2, db/2
		}
		a, b = a-da, b-db
	}
	return max(leastSlope, min(mostSlope, a)), max(-mostOffset, min(mostOffset, b))
}

func count(truth []bool) int {
	n := 0
	for _, t := range truth {
		if t {
			n++
		}
	}
	return n
}
