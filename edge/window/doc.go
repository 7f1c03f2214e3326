// Package window joins events in event time: it keeps the last ten seconds of every scope
// and hands out, whenever asked, the scopes that belong together as episodes.
//
// A Window belongs to one goroutine. Its memory is bounded by Config: the scope that was
// silent longest makes room for a new one, and what is dropped is counted. Episodes are
// copies; they stay valid after further calls.
package window
