package dissect

import "time"

// Table reassembles and parses a bounded set of flows. Make one with New.
type Table struct {
	cfg   Config
	stats Stats
	emit  func(*Message)
	out   builder

	flows  map[Key]*flow
	oldest *flow // least recently used
	newest *flow
	free   *flow // flow structs to use again

	pool    pool
	pending pending
	made    int                  // flow structs made
	slots   int                  // capacity of all lists of held segments
	name    [4 * maxDNSName]byte // scratch of the DNS parser: every byte may take four
}

const (
	minFlowBytes  = 4 << 10
	maxFlowBytes  = 64 << 10
	minTotalBytes = 64 << 10
	maxAttempts   = 4        // segments of a direction that no detector knows before the flow is unknown
	maxProbe      = 512      // bytes kept while a detector wants more
	maxHole       = 32 << 10 // a jump wider than this is not reordering
	maxHeld       = 16       // segments of a direction held behind a hole
	flowStruct    = 2 << 10  // a flow with its protocol state and map entry, rounded up, for Memory
)

const heldStruct = 64 // size of held

// New makes an empty Table.
func New(c Config) *Table {
	if c.MaxFlows <= 0 {
		c.MaxFlows = 1024
	}
	if c.FlowBytes <= 0 || c.FlowBytes > maxFlowBytes {
		c.FlowBytes = maxFlowBytes
	}
	c.FlowBytes = max(c.FlowBytes, minFlowBytes)
	if c.TotalBytes <= 0 {
		c.TotalBytes = 2 << 20
	}
	c.TotalBytes = max(c.TotalBytes, minTotalBytes)
	if c.MaxPending <= 0 {
		c.MaxPending = 1024
	}
	if c.DNSTimeout <= 0 {
		c.DNSTimeout = 2 * time.Second
	}
	if c.HoldTime <= 0 {
		c.HoldTime = time.Second
	}
	t := &Table{cfg: c, flows: make(map[Key]*flow)}
	t.pool.limit = c.TotalBytes
	t.pending.init(c.MaxPending)
	return t
}

// Feed takes one segment and calls emit for each message that it completes, in order of
// each direction. The segment, its payload and the messages are borrowed.
func (t *Table) Feed(s *Segment, emit func(*Message)) {
	t.stats.Segments++
	t.stats.Bytes += uint64(len(s.Payload))
	t.emit = emit
	defer t.done()
	switch {
	case s.From > B:
		t.drop(DropTransport)
	case s.Key.Proto == TCP:
		t.segment(s)
	case s.Key.Proto == UDP:
		t.datagram(s)
	default:
		t.drop(DropTransport)
	}
}

// Expire reports DNS queries without an answer and gives up holes that were waited for
// long enough. Call it every second or so of event time.
func (t *Table) Expire(now int64, emit func(*Message)) {
	t.emit = emit
	defer t.done()
	t.expireDNS(now)
	for f := t.oldest; f != nil; f = f.newer {
		for side := range f.half {
			h := &f.half[side]
			if len(h.held) > 0 && now-h.heldSince > int64(t.cfg.HoldTime) {
				t.giveUp(f, h)
			}
		}
	}
}

// Flush gives up every hole at once, as at the end of a replay. Unanswered queries are
// Expire's.
func (t *Table) Flush(emit func(*Message)) {
	t.emit = emit
	defer t.done()
	for f := t.oldest; f != nil; f = f.newer {
		for side := range f.half {
			if h := &f.half[side]; len(h.held) > 0 {
				t.giveUp(f, h)
			}
		}
	}
}

// Blind says that payload of a flow is no longer delivered (its budget is spent): its
// open DNS queries are forgotten without a statement, since an answer would not be seen.
func (t *Table) Blind(key Key) { t.blindDNS(key) }

// Protocol tells what a flow was recognised as.
func (t *Table) Protocol(key Key) Protocol {
	if f := t.flows[key]; f != nil {
		return f.proto
	}
	return Unknown
}

// Len is the number of flows with state.
func (t *Table) Len() int { return len(t.flows) }

// Stats gives the counters.
func (t *Table) Stats() Stats { return t.stats }

// Memory gives the bytes that the table holds: buffers, flow structs and DNS queries.
func (t *Table) Memory() int {
	return t.pool.bytes + t.made*flowStruct + t.slots*heldStruct + t.pending.memory()
}

func (t *Table) done() { t.emit = nil }

func (t *Table) drop(d Drop) { t.stats.Drops[d]++ }

// begin starts the one message being built; send hands it out.
func (t *Table) begin(k Kind, p Protocol, key Key, from Side, at, wall int64) *builder {
	t.out.reset()
	m := &t.out.msg
	m.Kind, m.Protocol, m.Key, m.From, m.Time, m.Wall = k, p, key, from, at, wall
	return &t.out
}

func (t *Table) send() {
	t.stats.Messages++
	if t.emit != nil {
		t.emit(&t.out.msg)
	}
}

// flow is the state of one flow.
type flow struct {
	key          Key
	older, newer *flow
	half         [2]half
	proto        Protocol
	bytes        int  // buffered
	closed       bool // ended: what still comes is a retransmission
	unknown      bool // no detector knew it
	lossy        bool // something of either direction was missed
	http         httpState
	tls          tlsState
	mqtt         mqttState
}

func (t *Table) lookup(key Key) *flow {
	f := t.flows[key]
	if f != nil && f != t.newest {
		t.unlink(f)
		t.link(f)
	}
	return f
}

func (t *Table) open(key Key) *flow {
	if len(t.flows) >= t.cfg.MaxFlows {
		t.drop(DropFlowEvicted)
		t.evict(t.oldest)
	}
	f := t.free
	if f != nil {
		t.free = f.newer
	} else {
		f = new(flow)
		t.made++
	}
	f.clear(key)
	t.flows[key] = f
	t.link(f)
	return f
}

// clear makes f a flow that has seen nothing. Its buffers must have been released.
func (f *flow) clear(key Key) {
	older, newer := f.older, f.newer
	heldA, heldB := f.half[A].held[:0], f.half[B].held[:0]
	sni := f.tls.serverName[:0]
	*f = flow{key: key, older: older, newer: newer}
	f.half[A].side, f.half[B].side = A, B
	f.half[A].held, f.half[B].held = heldA, heldB
	f.tls.serverName = sni
}

func (t *Table) link(f *flow) {
	f.older, f.newer = t.newest, nil
	if t.newest != nil {
		t.newest.newer = f
	} else {
		t.oldest = f
	}
	t.newest = f
}

func (t *Table) unlink(f *flow) {
	if f.older != nil {
		f.older.newer = f.newer
	} else {
		t.oldest = f.newer
	}
	if f.newer != nil {
		f.newer.older = f.older
	} else {
		t.newest = f.older
	}
}

func (t *Table) evict(f *flow) {
	t.releaseAll(f)
	delete(t.flows, f.key)
	t.unlink(f)
	f.newer = t.free
	f.older = nil
	t.free = f
}

// releaseAll gives back every buffer of a flow.
func (t *Table) releaseAll(f *flow) {
	for side := range f.half {
		h := &f.half[side]
		for i := range h.held {
			t.release(f, h.held[i].data)
			h.held[i].data = nil
		}
		h.held = h.held[:0]
		t.release(f, h.buf)
		t.release(f, h.handshake)
		h.buf, h.handshake = nil, nil
	}
}
