package main

import (
	"math"
	"slices"
)

// The learnt tree is the baseline that a network has to beat: whoever reads a diagnosis
// can follow a tree, but not a network.

// treeNode is a split (x[feature] ≤ at goes left) or, with feature −1, a leaf.
type treeNode struct {
	feature     int
	at          float32
	left, right int32
	class       int
}

type tree []treeNode

func (t tree) classify(x []float32) int {
	n := t[0]
	for n.feature >= 0 {
		if x[n.feature] <= n.at {
			n = t[n.left]
		} else {
			n = t[n.right]
		}
	}
	return n.class
}

const (
	treeBins = 64 // thresholds a feature, at most
	treeLeaf = 4  // rows in a leaf, at least
)

// bins holds the rows with every feature replaced by its place among the thresholds.
type bins struct {
	at      [][]float32 // thresholds of each feature, rising
	cell    [][]uint8   // by feature, then row: the number of thresholds below the value
	class   []int       // 0 for none, then the causes
	classes int
}

func newBins(rows []row, classes int) *bins {
	width := len(rows[0].x)
	b := &bins{at: make([][]float32, width), cell: make([][]uint8, width), classes: classes + 1}
	for _, r := range rows {
		b.class = append(b.class, r.class+1)
	}
	for f := range width {
		values := make([]float32, len(rows))
		for i, r := range rows {
			values[i] = r.x[f]
		}
		slices.Sort(values)
		values = slices.Compact(values)
		for k := 1; k < len(values); k += max(1, len(values)/treeBins) {
			b.at[f] = append(b.at[f], values[k-1]+(values[k]-values[k-1])/2)
		}
		b.at[f] = b.at[f][:min(len(b.at[f]), math.MaxUint8)]
		b.cell[f] = make([]uint8, len(rows))
		for i, r := range rows {
			n, _ := slices.BinarySearch(b.at[f], r.x[f])
			b.cell[f][i] = uint8(n)
		}
	}
	return b
}

// treeRecipe is what the baseline is allowed to choose by validation.
type treeRecipe struct {
	depth   int
	balance float64 // 0: a row counts 1; 1: every class counts the same; 0.5: between
}

// bestTree grows a tree for each recipe and keeps the one with the best macro-F1 on the
// validation rows, the treatment that the network gets.
func bestTree(d *dataset) tree {
	train, valid := d.of(training), d.of(validation)
	classes := len(d.schema.Classes)
	b := newBins(train, classes)
	var best tree
	bestF1 := -1.0
	for _, depth := range []int{5, 8, 12} {
		for _, balance := range []float64{0, 0.5, 1} {
			t := b.grow(treeRecipe{depth, balance})
			s := newScores(classes)
			for _, r := range valid {
				s.add(r.class, t.classify(r.x))
			}
			if f1 := s.macroF1(); f1 > bestF1 {
				best, bestF1 = t, f1
			}
		}
	}
	return best
}

// grow makes a tree by Gini impurity. Equal splits go to the lower feature and threshold.
func (b *bins) grow(c treeRecipe) tree {
	freq := make([]int, b.classes)
	for _, k := range b.class {
		freq[k]++
	}
	weight := make([]float64, b.classes)
	for k, n := range freq {
		if n > 0 {
			inverse := float64(len(b.class)) / float64(n)
			switch c.balance {
			case 0:
				weight[k] = 1
			case 0.5:
				weight[k] = math.Sqrt(inverse)
			default:
				weight[k] = inverse
			}
		}
	}
	rows := make([]int32, len(b.class))
	for i := range rows {
		rows[i] = int32(i)
	}
	var t tree
	b.split(&t, rows, weight, c.depth)
	return t
}

// split appends the subtree of rows and gives its place.
func (b *bins) split(t *tree, rows []int32, weight []float64, depth int) int32 {
	at := int32(len(*t))
	total := make([]float64, b.classes)
	for _, i := range rows {
		total[b.class[i]] += weight[b.class[i]]
	}
	top := 0
	for k, w := range total {
		if w > total[top] {
			top = k
		}
	}
	*t = append(*t, treeNode{feature: -1, class: top - 1})
	if depth == 0 || len(rows) < 2*treeLeaf {
		return at
	}
	feature, cell := b.bestSplit(rows, weight, total)
	if feature < 0 {
		return at
	}
	var left, right []int32
	for _, i := range rows {
		if b.cell[feature][i] <= cell {
			left = append(left, i)
		} else {
			right = append(right, i)
		}
	}
	l := b.split(t, left, weight, depth-1)
	r := b.split(t, right, weight, depth-1)
	(*t)[at] = treeNode{feature: feature, at: b.at[feature][cell], left: l, right: r}
	return at
}

// bestSplit gives the feature and the last cell of its left side, or −1 where no split
// makes the rows purer.
func (b *bins) bestSplit(rows []int32, weight, total []float64) (feature int, cell uint8) {
	feature = -1
	best := purity(total) * (1 + 1e-9)
	hist := make([]float64, (math.MaxUint8+1)*b.classes)
	number := make([]int, math.MaxUint8+1)
	left, right := make([]float64, b.classes), make([]float64, b.classes)
	for f, thresholds := range b.at {
		if len(thresholds) == 0 {
			continue
		}
		cells := len(thresholds) + 1
		clear(hist[:cells*b.classes])
		clear(number[:cells])
		column := b.cell[f]
		for _, i := range rows {
			c := int(column[i])
			hist[c*b.classes+b.class[i]] += weight[b.class[i]]
			number[c]++
		}
		clear(left)
		copy(right, total)
		n := 0
		for c := range thresholds {
			if number[c] == 0 {
				continue
			}
			n += number[c]
			for k, w := range hist[c*b.classes : (c+1)*b.classes] {
				left[k] += w
				right[k] -= w
			}
			if n < treeLeaf || len(rows)-n < treeLeaf {
				continue
			}
			if p := purity(left) + purity(right); p > best {
				best, feature, cell = p, f, uint8(c)
			}
		}
	}
	return feature, cell
}

// purity is Σw²/Σw: its sum over both sides is largest where Gini impurity is least.
func purity(w []float64) float64 {
	sum, squares := 0.0, 0.0
	for _, v := range w {
		sum += v
		squares += float64(v * v)
	}
	if sum <= 0 {
		return 0
	}
	return squares / sum
}
