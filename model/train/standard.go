package main

import (
	"math"
	"slices"
)

// clipAt bounds a standardised input: a value that far out says "very much", and the
// network was never shown how much more that is.
const clipAt = 8

// leastSpread keeps a feature that hardly varies in the lab from exploding in the field.
const leastSpread = 0.05

// standard is the standardisation of inputs. The shift is the median, which for most
// features is 0: what was not seen stays exactly 0. A feature that never varied in
// training has scale 0, because nothing was learnt about it.
type standard struct{ shift, scale []float32 }

func newStandard(rows []row) standard {
	width := len(rows[0].x)
	st := standard{make([]float32, width), make([]float32, width)}
	column := make([]float32, len(rows))
	for i := range width {
		for k, r := range rows {
			column[k] = r.x[i]
		}
		slices.Sort(column)
		median := column[len(column)/2]
		st.shift[i] = median
		if column[0] == column[len(column)-1] {
			continue
		}
		sum := 0.0
		for _, v := range column {
			d := float64(v) - float64(median)
			sum += float64(d * d)
		}
		st.scale[i] = float32(1 / max(math.Sqrt(sum/float64(len(column))), leastSpread))
	}
	return st
}

// apply writes x as the network sees it, by the device's own float32 arithmetic.
func (st standard) apply(x []float32, out []float64) {
	for i, v := range x {
		out[i] = float64(max(-clipAt, min(clipAt, (v-st.shift[i])*st.scale[i])))
	}
}

// absent gives what a feature of 0, which is a feature without a source, becomes.
func (st standard) absent() []float64 {
	out := make([]float64, len(st.shift))
	st.apply(make([]float32, len(st.shift)), out)
	return out
}
