package model

import (
	"math"
	"testing"
)

func TestTransformsAreFinite(t *testing.T) {
	odd := []float64{0, -1, 1, 1e300, math.NaN(), math.Inf(1), math.Inf(-1), math.SmallestNonzeroFloat64}
	for _, a := range odd {
		for _, b := range odd {
			for name, v := range map[string]float32{"log": LogValue(a), "ratio": RatioValue(a, b), "lead": LeadValue(a, true)} {
				if f := float64(v); math.IsNaN(f) || f < -1 || f > 100 {
					t.Errorf("%s of %g and %g is %g", name, a, b, f)
				}
			}
		}
	}
}

func TestTransforms(t *testing.T) {
	for _, c := range []struct {
		name      string
		got, want float32
	}{
		{"log", LogValue(math.E - 1), 1},
		{"rate of few", RatioValue(1, 2), 0.25},
		{"rate of many", RatioValue(500, 998), 0.5},
		{"rate without denominator", RatioValue(2, 0), 1},
		{"rate beyond the cap", RatioValue(100, 0), 4},
		{"share", ShareValue(1, 4), 0.25},
		{"share of nothing", ShareValue(0, 0), 0},
		{"layer", LayerValue(7, true), 1},
		{"no layer", LayerValue(0, false), 1},
		{"lead", LeadValue(2.5, true), 0.25},
		{"lag", LeadValue(-40, true), -1},
		{"no onset", LeadValue(5, false), 0},
	} {
		if c.got != c.want {
			t.Errorf("%s: %g, want %g", c.name, c.got, c.want)
		}
	}
}
