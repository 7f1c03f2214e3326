// Package matrix normalises Signals of many sources into Events of one vocabulary, by
// rules that are data: one strict YAML file a source, built in under rules/ and replaced
// or extended by the operator's own files.
//
// A compiled Rules never changes and may be used from any goroutine. Matrix holds the
// current Rules behind an atomic pointer: Map may run while Reload swaps, and a file that
// does not compile leaves the last good rules in force.
package matrix
