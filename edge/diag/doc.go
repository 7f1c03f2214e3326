// Package diag is Strata's vocabulary: what is measured (Signal), what it means
// (Event), what belongs together (Episode) and what is at fault (Finding), with the
// codes, causes and scopes that name them.
//
// Everything above floor 0 speaks in these types; the package itself knows no source,
// no storage and no network. The values are plain data: copy them, share them between
// goroutines, but do not change one that was handed over.
//
// codes.yaml and causes.yaml are the single lists; `go generate` writes the Go
// constants and docs/CODES.md and docs/CAUSES.md from them.
package diag

//go:generate go run ./gen -codes codes.yaml -causes causes.yaml -go . -docs ../../docs
