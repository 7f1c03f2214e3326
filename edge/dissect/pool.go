package dissect

import "math/bits"

// Buffers come in powers of two from 512 B to 64 KiB.
const (
	minClass  = 9
	maxClass  = 16
	classes   = maxClass - minClass + 1
	maxIdling = 64 << 10 // bytes kept free for the next use
)

// pool owns the bytes of all buffers: those in use and those that wait.
type pool struct {
	limit  int
	bytes  int // in use and idle
	idling int
	idle   [classes][][]byte
}

func class(n int) int { return max(bits.Len(uint(max(n, 1)-1)), minClass) - minClass }

// take gives an empty buffer of at least n bytes, or nil where the limit forbids it.
func (p *pool) take(n int) []byte {
	c := class(n)
	if c >= classes {
		return nil
	}
	if last := len(p.idle[c]) - 1; last >= 0 {
		b := p.idle[c][last]
		p.idle[c][last] = nil
		p.idle[c] = p.idle[c][:last]
		p.idling -= cap(b)
		return b[:0]
	}
	size := 1 << (c + minClass)
	if p.bytes+size > p.limit {
		p.trim()
	}
	if p.bytes+size > p.limit {
		return nil
	}
	p.bytes += size
	return make([]byte, 0, size)
}

func (p *pool) give(b []byte) {
	if cap(b) == 0 {
		return
	}
	if p.idling+cap(b) > maxIdling {
		p.bytes -= cap(b)
		return
	}
	c := class(cap(b))
	p.idle[c] = append(p.idle[c], b[:0])
	p.idling += cap(b)
}

// trim lets go of every idle buffer.
func (p *pool) trim() {
	for c := range p.idle {
		clear(p.idle[c])
		p.idle[c] = p.idle[c][:0]
	}
	p.bytes -= p.idling
	p.idling = 0
}

// grow gives b room for need bytes and keeps its content; false where the flow's budget
// or the total forbids it, then b is unchanged.
func (t *Table) grow(f *flow, b []byte, need int) ([]byte, bool) {
	if need <= cap(b) {
		return b, true
	}
	if need > maxFlowBytes {
		t.drop(DropFlowBudget)
		return b, false
	}
	size := 1 << (class(need) + minClass)
	if f.bytes-cap(b)+size > t.cfg.FlowBytes {
		t.drop(DropFlowBudget)
		return b, false
	}
	for {
		if n := t.pool.take(need); n != nil {
			n = append(n, b...)
			t.release(f, b)
			f.bytes += cap(n)
			return n, true
		}
		victim := t.oldest
		for victim != nil && (victim == f || victim.bytes == 0) {
			victim = victim.newer
		}
		if victim == nil {
			t.drop(DropFlowBudget)
			return b, false
		}
		t.drop(DropMemory)
		t.evict(victim)
	}
}

func (t *Table) release(f *flow, b []byte) {
	f.bytes -= cap(b)
	t.pool.give(b)
}
