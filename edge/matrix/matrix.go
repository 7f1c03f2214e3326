package matrix

import (
	"crypto/sha256"
	"fmt"
	"math"
	"sort"
	"sync/atomic"

	"github.com/strata-edge/strata/edge/diag"
)

// Matrix maps signals by the rules that are current.
type Matrix struct {
	dir      string
	rules    atomic.Pointer[Rules]
	digest   [sha256.Size]byte
	unmapped atomic.Uint64
	rejected atomic.Uint64
}

// New compiles the built-in rules and those in dir ("" for none).
func New(dir string) (*Matrix, error) {
	m := &Matrix{dir: dir}
	if _, err := m.Reload(); err != nil {
		return nil, err
	}
	return m, nil
}

// Reload compiles the rule files again if they have changed, and says whether the new
// rules are in force. On an error the last good rules stay, and the same bad files are
// not reported again. Calls must not overlap.
func (m *Matrix) Reload() (changed bool, err error) {
	files, err := read(m.dir)
	if err != nil {
		// Whatever can be read next is a change, so that this error is seen to end.
		m.digest = [sha256.Size]byte{}
		return false, err
	}
	digest := digestOf(files)
	if digest == m.digest {
		return false, nil
	}
	m.digest = digest
	r, err := compile(files)
	if err != nil {
		return false, err
	}
	m.rules.Store(r)
	return true, nil
}

func digestOf(files map[string][]byte) (sum [sha256.Size]byte) {
	names := make([]string, 0, len(files))
	for n := range files {
		names = append(names, n)
	}
	sort.Strings(names)
	h := sha256.New()
	for _, n := range names {
		fmt.Fprintf(h, "%s %d\n", n, len(files[n]))
		h.Write(files[n])
	}
	h.Sum(sum[:0])
	return sum
}

// Rules gives the rules in force.
func (m *Matrix) Rules() *Rules { return m.rules.Load() }

// Stats counts what the matrix could not use.
type Stats struct {
	Unmapped uint64 // signals that no rule names
	Rejected uint64 // signals whose value is not a finite number
}

// Stats gives the counts since the start.
func (m *Matrix) Stats() Stats {
	return Stats{Unmapped: m.unmapped.Load(), Rejected: m.rejected.Load()}
}

// Map gives each event that s means to emit. The event shares s's Path and Attrs.
func (m *Matrix) Map(s diag.Signal, emit func(diag.Event)) {
	if math.IsNaN(s.Value) || math.IsInf(s.Value, 0) || s.Scope.IsZero() {
		m.rejected.Add(1)
		return
	}
	if !m.rules.Load().Map(s, emit) {
		m.unmapped.Add(1)
	}
}

// Map gives each event that s means to emit and says whether any rule names the signal.
func (r *Rules) Map(s diag.Signal, emit func(diag.Event)) (known bool) {
	rules := r.by[signalName{s.Source, s.Name}]
	for i := range rules {
		c := &rules[i]
		if s.Value < c.min || s.Value > c.max || !c.holds(s.Attrs) {
			continue
		}
		v := s.Value * c.scale
		if c.fixed {
			v = c.value
		}
		emit(diag.Event{Time: s.Time, Code: c.code, Scope: s.Scope, Path: s.Path, Value: v, Hold: s.Hold, Attrs: s.Attrs})
	}
	return len(rules) > 0
}

func (c *rule) holds(attrs []diag.Attr) bool {
	for i := range c.where {
		if !c.where[i].in(attrs) {
			return false
		}
	}
	return true
}

func (w *match) in(attrs []diag.Attr) bool {
	for i := range attrs {
		if attrs[i].Key != w.key {
			continue
		}
		for _, v := range w.oneOf {
			if attrs[i].Value == v {
				return true
			}
		}
	}
	return false
}
