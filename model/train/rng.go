package main

// rng is SplitMix64. The trainer has its own generator because its sequence is part of
// what makes a model reproducible, over releases of Go too.
type rng uint64

func (r *rng) next() uint64 {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// float gives a number in [0, 1).
func (r *rng) float() float64 { return float64(r.next()>>11) / (1 << 53) }

// below gives a number in [0, n), for n far below 2^32.
func (r *rng) below(n int) int { return int(r.next() >> 32 * uint64(n) >> 32) }

// shuffle permutes s.
func (r *rng) shuffle(s []int) {
	for i := len(s) - 1; i > 0; i-- {
		k := r.below(i + 1)
		s[i], s[k] = s[k], s[i]
	}
}
