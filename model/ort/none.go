//go:build !cgo

package ort

import "github.com/strata-edge/strata/model"

// Scorer cannot be made without cgo.
type Scorer struct{}

// Open gives ErrUnavailable.
func Open(string, *model.Bundle) (*Scorer, error) { return nil, ErrUnavailable }

// Score gives ErrUnavailable.
func (*Scorer) Score([]float32, int, []float32) error { return ErrUnavailable }

// Version gives nothing.
func (*Scorer) Version() string { return "" }

// Close does nothing.
func (*Scorer) Close() error { return nil }
