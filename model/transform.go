package model

import "math"

// transformVersion goes into the schema's hash: change it with any function below.
const transformVersion = 1

const (
	// ratioPrior shrinks a rate over few observations towards 0.
	ratioPrior = 2
	// ratioCap bounds a rate whose denominator was hardly seen.
	ratioCap = 4
	// leadSpan is the lead in seconds beyond which more says nothing more: the window.
	leadSpan = 10
	topLayer = 7
)

// LogValue gives ln(1+v) of a count, a sum or a level; 0 for negative values and NaN.
func LogValue(v float64) float32 {
	if !(v > 0) {
		return 0
	}
	return float32(math.Log1p(min(v, math.MaxFloat32)))
}

// RatioValue gives v/(over+2), at most 4; 0 where nothing was seen.
func RatioValue(v, over float64) float32 {
	if !(v > 0) {
		return 0
	}
	if !(over > 0) {
		over = 0
	}
	return float32(min(min(v, math.MaxFloat32)/(min(over, math.MaxFloat32)+ratioPrior), ratioCap))
}

// FlagValue gives 1 for true.
func FlagValue(on bool) float32 {
	if on {
		return 1
	}
	return 0
}

// ShareValue gives hit/all; 0 for an empty block.
func ShareValue(hit, all int) float32 {
	if all <= 0 {
		return 0
	}
	return float32(hit) / float32(all)
}

// LayerValue gives layer/7; 1 where ok is false, because no layer has a symptom.
func LayerValue(layer int, ok bool) float32 {
	if !ok {
		return 1
	}
	return float32(layer) / topLayer
}

// LeadValue gives, as a share of 10 s (−1 to 1), by how many seconds the
// candidate's first symptom precedes the block's: positive where the candidate came
// first. It is 0 where ok is false, because one of the two has no symptom.
func LeadValue(seconds float64, ok bool) float32 {
	if !ok || math.IsNaN(seconds) {
		return 0
	}
	return float32(max(-leadSpan, min(leadSpan, seconds)) / leadSpan)
}
