package main

import (
	"math"

	"github.com/strata-edge/strata/model"
)

// decideAt is the probability from which a cause is given. edge/cause asks for more
// than a score; here the model is measured alone.
const decideAt = 0.5

// sureAt is the confidence from which being wrong is counted as confident and wrong.
const sureAt = 0.8

// scores counts answers against truth; classes are causes, none is −1.
type scores struct{ hit, truth, given []int }

func newScores(classes int) scores {
	return scores{make([]int, classes), make([]int, classes), make([]int, classes)}
}

func (s scores) add(truth, given int) {
	if truth != none {
		s.truth[truth]++
	}
	if given != none {
		s.given[given]++
	}
	if truth != none && truth == given {
		s.hit[truth]++
	}
}

func (s scores) precision(k int) float64 { return share(s.hit[k], s.given[k]) }
func (s scores) recall(k int) float64    { return share(s.hit[k], s.truth[k]) }
func (s scores) f1(k int) float64        { return share(2*s.hit[k], s.truth[k]+s.given[k]) }

// macroF1 is the mean F1 over the causes that occur.
func (s scores) macroF1() float64 {
	sum, n := 0.0, 0
	for k, t := range s.truth {
		if t > 0 {
			sum += s.f1(k)
			n++
		}
	}
	if n == 0 {
		return 0
	}
	return sum / float64(n)
}

func share(a, b int) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// majority gives the most frequent class of the rows.
func majority(rows []row, classes int) int {
	freq := make([]int, classes+1)
	for _, r := range rows {
		freq[r.class+1]++
	}
	top := 0
	for k, n := range freq {
		if n > freq[top] {
			top = k
		}
	}
	return top - 1
}

const eceBins = 10

// evaluate measures the network as it ships, the tree and the majority on rows.
func evaluate(n *model.Network, t tree, major int, rows []row, classes []string) model.Evaluation {
	net, byTree, byMajority := newScores(len(classes)), newScores(len(classes)), newScores(len(classes))
	var right, sureWrong int
	var bins [eceBins]struct {
		n, right   int
		confidence float64
	}
	type candidate struct {
		p    float64
		hits bool
	}
	roots, top := map[string]bool{}, map[string]candidate{}
	out := make([]float32, len(classes))
	for _, r := range rows {
		n.Score(r.x, out)
		given := none
		best := 0
		for k, v := range out {
			if v > out[best] {
				best = k
			}
		}
		p := float64(out[best])
		if r.class != none {
			roots[r.fault()] = true
		}
		if c, ok := top[r.fault()]; !ok || p > c.p {
			top[r.fault()] = candidate{p, r.class == best}
		}
		confidence := 1 - p
		if p >= decideAt {
			given, confidence = best, p
		}
		net.add(r.class, given)
		byTree.add(r.class, t.classify(r.x))
		byMajority.add(r.class, major)
		ok := given == r.class
		bin := &bins[min(eceBins-1, int(confidence*eceBins))]
		bin.n++
		bin.confidence += confidence
		if ok {
			right++
			bin.right++
		} else if given != none && p >= sureAt {
			sureWrong++
		}
	}
	e := model.Evaluation{
		Rows: len(rows), Runs: countRuns(rows),
		Accuracy: round(share(right, len(rows))), MacroF1: round(net.macroF1()),
		ConfidentWrong: round(share(sureWrong, len(rows))),
		TreeMacroF1:    round(byTree.macroF1()), MajorityMacroF1: round(byMajority.macroF1()),
	}
	ece := 0.0
	for _, b := range bins {
		if b.n > 0 {
			ece += math.Abs(float64(b.right)-b.confidence) / float64(len(rows))
		}
	}
	e.ECE = round(ece)
	found := 0
	for run := range roots {
		if top[run].hits {
			found++
		}
	}
	e.RootTop1 = round(share(found, len(roots)))
	for k, c := range classes {
		e.Classes = append(e.Classes, model.ClassMetrics{
			Cause: c, Rows: net.truth[k], Precision: round(net.precision(k)), Recall: round(net.recall(k)),
			F1: round(net.f1(k)), TreeF1: round(byTree.f1(k)),
		})
	}
	return e
}

// round keeps four digits behind the point: more is noise at any number of rows here.
func round(v float64) float64 { return math.Round(v*1e4) / 1e4 }
