package dissect

import (
	"hash/maphash"
	"time"
)

// pending holds the queries that wait for an answer, oldest first.
type pending struct {
	max   int
	seed  maphash.Seed
	index map[pendingKey]int32
	slots []pendingSlot
	free  []int32
	first int32 // oldest, -1 where empty
	last  int32
	names int // bytes of names held
}

type pendingKey struct {
	flow     Key
	from     Side
	id       uint16
	question uint64
}

type pendingSlot struct {
	key        pendingKey
	time       int64
	prev, next int32
	qtype      uint16
	told       bool // the query was told, so its lack of an answer may be
	name       []byte
}

func (p *pending) init(limit int) {
	*p = pending{max: limit, seed: maphash.MakeSeed(), index: make(map[pendingKey]int32), first: -1, last: -1}
}

func (p *pending) memory() int { return len(p.slots)*256 + p.names }

func (p *pending) key(flow *Key, from Side, m *dnsMessage) pendingKey {
	var lower [4 * maxDNSName]byte
	n := copy(lower[:], m.name)
	for i, c := range lower[:n] {
		if c >= 'A' && c <= 'Z' {
			lower[i] = c | 0x20 // answers may spell the name in another case
		}
	}
	return pendingKey{*flow, from, m.id, maphash.Bytes(p.seed, lower[:n]) ^ uint64(m.qtype)<<48}
}

func (p *pending) has(flow *Key, from Side, m *dnsMessage) bool {
	_, ok := p.index[p.key(flow, from, m)]
	return ok
}

// ask remembers a query; a repeated one keeps its first time. It says whether the oldest
// was forgotten for it.
func (p *pending) ask(flow *Key, from Side, m *dnsMessage, at int64, told bool) (forgot bool) {
	k := p.key(flow, from, m)
	if _, ok := p.index[k]; ok {
		return false
	}
	if len(p.index) >= p.max {
		p.remove(p.first)
		forgot = true
	}
	var i int32
	if n := len(p.free); n > 0 {
		i, p.free = p.free[n-1], p.free[:n-1]
	} else {
		i = int32(len(p.slots))
		p.slots = append(p.slots, pendingSlot{})
	}
	s := &p.slots[i]
	p.names -= cap(s.name)
	s.name = append(s.name[:0], m.name...)
	p.names += cap(s.name)
	s.key, s.time, s.qtype, s.told = k, at, m.qtype, told
	s.prev, s.next = p.last, -1
	if p.last >= 0 {
		p.slots[p.last].next = i
	} else {
		p.first = i
	}
	p.last = i
	p.index[k] = i
	return forgot
}

func (p *pending) answer(flow *Key, from Side, m *dnsMessage, at int64) (int64, bool) {
	i, ok := p.index[p.key(flow, from, m)]
	if !ok {
		return 0, false
	}
	d := at - p.slots[i].time
	p.remove(i)
	return d, d >= 0
}

func (p *pending) remove(i int32) {
	s := &p.slots[i]
	delete(p.index, s.key)
	if s.prev >= 0 {
		p.slots[s.prev].next = s.next
	} else {
		p.first = s.next
	}
	if s.next >= 0 {
		p.slots[s.next].prev = s.prev
	} else {
		p.last = s.prev
	}
	p.free = append(p.free, i)
}

func (t *Table) expireDNS(now int64) {
	p := &t.pending
	for p.first >= 0 {
		s := &p.slots[p.first]
		if now-s.time < int64(t.cfg.DNSTimeout) {
			return
		}
		if s.told {
			b := t.begin(DNSUnanswered, DNS, s.key.flow, s.key.from, s.time, 0)
			b.num("dns.id", float64(s.key.id))
			b.question(s.name, s.qtype)
			b.msg.Elapsed = time.Duration(now - s.time)
			t.send()
		}
		p.remove(p.first)
	}
}

func (t *Table) blindDNS(key Key) {
	p := &t.pending
	for i := p.first; i >= 0; {
		next := p.slots[i].next
		if p.slots[i].key.flow == key {
			p.remove(i)
		}
		i = next
	}
}
