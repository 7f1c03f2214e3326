package flow

import "github.com/strata-edge/strata/edge/diag"

// slot remembers what the previous harvest saw of one flow on one port.
type slot struct {
	key         Key
	next        int32 // the flow's next side, -1 at the end of the chain
	gen         uint32
	first, last diag.Time
	dir         [2]Dir
	icmp        [ICMPClasses]uint16
	badSums     uint16
	responses   uint32
	responseSum uint32
	responseMax uint32
	ingress     bool
	established bool
	refused     bool
	resetMidway bool
	watch       bool      // a silence is being timed: look at it although no packet came
	large       bool      // the present stall is one of large packets only
	told        diag.Time // when the present silence was last reported
	tried       uint32    // SYNs when told
	pendingLoss uint32    // retransmits that made no progress yet
	waiting     uint32    // datagrams since the peer's last one
	waitSince   diag.Time
}

// slots is the compact twin of the kernel's flow table: bounded by the same number.
type slots struct {
	max    int
	heads  map[tuple]int32 // first side of each flow
	list   []slot
	free   []int32
	live   int
	missed uint64 // flows that found no slot
}

func newSlots(max int) *slots {
	return &slots{max: max, heads: make(map[tuple]int32)}
}

// find gives the slot of k, or -1.
func (s *slots) find(k *Key) int32 {
	i, ok := s.heads[k.tuple()]
	if !ok {
		return -1
	}
	for ; i >= 0; i = s.list[i].next {
		if s.list[i].key == *k {
			return i
		}
	}
	return -1
}

// add makes a slot for k, or gives -1 where all are taken.
func (s *slots) add(k *Key) int32 {
	var i int32
	switch {
	case len(s.free) > 0:
		i = s.free[len(s.free)-1]
		s.free = s.free[:len(s.free)-1]
	case len(s.list) < s.max:
		i = int32(len(s.list))
		s.list = append(s.list, slot{})
	default:
		s.missed++
		return -1
	}
	t := k.tuple()
	next := int32(-1)
	if h, ok := s.heads[t]; ok {
		next = h
	}
	s.list[i] = slot{key: *k, next: next}
	s.heads[t] = i
	s.live++
	return i
}

// primary gives the side of i's flow that counts: the earliest whose first packet came
// in, else the earliest.
func (s *slots) primary(i int32) int32 {
	best := int32(-1)
	for j := s.heads[s.list[i].key.tuple()]; j >= 0; j = s.list[j].next {
		if best < 0 || s.before(j, best) {
			best = j
		}
	}
	return best
}

func (s *slots) before(i, j int32) bool {
	a, b := &s.list[i], &s.list[j]
	if a.ingress != b.ingress {
		return a.ingress
	}
	if a.first != b.first {
		return a.first < b.first
	}
	return a.key.If < b.key.If
}

// other gives another side of i's flow, preferably one whose first packet went out. -1
// where there is none.
func (s *slots) other(i int32) int32 {
	best := int32(-1)
	for j := s.heads[s.list[i].key.tuple()]; j >= 0; j = s.list[j].next {
		if j != i && (best < 0 || !s.list[j].ingress) {
			best = j
		}
	}
	return best
}

// sweep frees the slots that the harvest gen did not see.
func (s *slots) sweep(gen uint32) {
	for t, head := range s.heads {
		h := head
		last := int32(-1)
		for i := head; i >= 0; {
			next := s.list[i].next
			if s.list[i].gen != gen {
				if last < 0 {
					h = next
				} else {
					s.list[last].next = next
				}
				s.free = append(s.free, i)
				s.live--
			} else {
				last = i
			}
			i = next
		}
		switch {
		case h < 0:
			delete(s.heads, t)
		case h != head:
			s.heads[t] = h
		}
	}
}
