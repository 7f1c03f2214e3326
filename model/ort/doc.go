// Package ort scores rows with ONNX Runtime. It is the one place of Strata that uses
// cgo; built without cgo, Open gives ErrUnavailable and the diagnosis goes on by rules
// and chains alone.
//
// The runtime is a shared library that is not part of the program: Candidates lists
// where it may be, Find picks the first that is there and safe to load, Open loads it
// and makes one session of a bundle that package model has checked. The session runs on
// the caller's thread, allocates nothing in Go, and answers up to 32 rows in one call
// to the library.
//
// A Scorer may be used by several goroutines, which then take turns; Close waits for
// the turn that is running. The library is loaded by the first Scorer and unloaded by
// the last one's Close.
package ort
