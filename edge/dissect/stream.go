package dissect

import "math"

// untilClose as a skip passes over all that a direction still sends.
const untilClose = math.MaxUint64

// farAway is a jump in sequence numbers that no reordering and no retransmission makes.
const farAway = 1 << 20

// half is one direction of a TCP flow.
type half struct {
	side  Side
	known bool // next is valid
	fresh bool // seen from its SYN, and nothing missed since
	// synced: what comes next is where the parser expects it. Otherwise buf, where not
	// empty, begins at the start of a segment that a detector wants more of.
	synced   bool
	told     bool // Undecodable was said
	fin      bool
	attempts uint8

	isn       uint32
	next      uint32 // sequence number after the last byte taken or given up
	skip      uint64 // bytes to pass over
	buf       []byte // taken, not parsed
	bufTime   int64  // event time of the segment in which buf begins
	lastTime  int64  // event time of the last payload taken
	ack       uint32 // what the present segment acknowledges
	acks      bool   // ack is valid
	messages  uint32
	held      []held // behind a hole, in order of seq
	heldSince int64

	chunk     chunkState // HTTP/1 body
	rows      bool       // MQTT: the last segment was a row of packets
	record    recordState
	handshake []byte // TLS: the handshake message being gathered
}

// held is a segment behind a hole.
type held struct {
	seq        uint32
	missing    int
	time, wall int64
	ack        uint32
	acks       bool
	data       []byte
}

func (t *Table) segment(s *Segment) {
	f := t.lookup(s.Key)
	if f == nil {
		if len(s.Payload) == 0 && s.Length <= 0 && s.Flags&SYN == 0 {
			return
		}
		f = t.open(s.Key)
	}
	h := &f.half[s.From]
	seq := s.Seq
	if s.Flags&SYN != 0 {
		late := h.known && !h.fresh && h.next-s.Seq-1 < maxHole // overtaken by its data
		if h.known && h.isn != s.Seq && !late || f.closed {
			t.releaseAll(f)
			f.clear(s.Key)
		}
		if !h.known {
			h.known, h.fresh, h.isn, h.next = true, true, s.Seq, s.Seq+1
		}
		seq++
	}
	if !f.closed && !f.unknown {
		t.settle(f, s)
		if missing := max(s.Length-len(s.Payload), 0); len(s.Payload) > 0 || missing > 0 {
			h.ack, h.acks = s.Ack, s.Flags&ACK != 0
			t.receive(f, h, seq, s.Payload, missing, s.Time, s.Wall)
		}
	} else if len(s.Payload) > 0 {
		if f.closed {
			t.drop(DropDuplicate)
		} else {
			t.drop(DropUnknown)
		}
	}
	if s.Flags&(FIN|RST) != 0 && !f.closed {
		t.ended(f, h, s)
	}
}

// settle gives up holes that will not be filled any more: the receiver has acknowledged
// what lies behind, or they were waited for long enough.
func (t *Table) settle(f *flow, s *Segment) {
	for side := range f.half {
		h := &f.half[side]
		if len(h.held) == 0 {
			continue
		}
		acked := s.Flags&ACK != 0 && Side(side) != s.From && int32(s.Ack-h.held[0].seq) > 0
		if acked || s.Time-h.heldSince > int64(t.cfg.HoldTime) {
			t.giveUp(f, h)
		}
	}
}

// ended notes a FIN or RST of a direction.
func (t *Table) ended(f *flow, h *half, s *Segment) {
	for side := range f.half {
		if len(f.half[side].held) > 0 && s.Flags&RST != 0 {
			t.giveUp(f, &f.half[side])
		}
	}
	if f.proto == TLS {
		t.tlsEnded(f, h, s)
	}
	h.fin = true
	if s.Flags&RST != 0 || f.half[A].fin && f.half[B].fin && len(f.half[A].held)+len(f.half[B].held) == 0 {
		t.releaseAll(f)
		f.closed = true
	}
}

// receive puts a segment in its place in the stream.
func (t *Table) receive(f *flow, h *half, seq uint32, data []byte, missing int, at, wall int64) {
	if h.known {
		if d := int64(int32(seq - h.next)); d < -farAway || d > farAway && (uint64(d) > h.skip || h.skip == untilClose) {
			// Another connection on the same ports, or so much was missed that nothing
			// of the state is worth keeping.
			t.drop(DropGap)
			ack, acks := h.ack, h.acks
			t.releaseAll(f)
			f.clear(f.key)
			h.ack, h.acks = ack, acks
		}
	}
	if !h.known {
		h.known, h.next = true, seq
	}
	switch d := int32(seq - h.next); {
	case d < 0:
		behind := -int64(d)
		if behind >= int64(len(data)+missing) {
			t.drop(DropDuplicate)
			return
		}
		if behind > int64(len(data)) {
			missing -= int(behind) - len(data)
			data = nil
		} else {
			data = data[behind:]
		}
		if behind > 0 && !h.synced && len(h.buf) == 0 {
			// What is left does not begin where its sender began it.
			t.drop(DropUnsynced)
			h.next += uint32(len(data) + missing)
			h.fresh = false
			return
		}
	case d > 0:
		hole := uint64(d)
		if hole > h.skip && hole <= maxHole && t.hold(f, h, seq, data, missing, at, wall) {
			return
		}
		ack, acks := h.ack, h.acks
		for len(h.held) > 0 && int32(h.held[0].seq-seq) < 0 {
			t.giveUp(f, h)
		}
		h.ack, h.acks = ack, acks
		if d = int32(seq - h.next); d < 0 {
			t.receive(f, h, seq, data, missing, at, wall)
			return
		}
		t.lose(f, h, uint64(d), DropGap)
		h.next = seq
	}
	t.take(f, h, data, missing, at, wall)
	t.drain(f, h)
}

// hold keeps a segment until the hole before it is filled; false where it cannot.
func (t *Table) hold(f *flow, h *half, seq uint32, data []byte, missing int, at, wall int64) bool {
	if len(h.held) >= maxHeld {
		return false
	}
	i := len(h.held)
	for i > 0 && int32(h.held[i-1].seq-seq) >= 0 {
		if h.held[i-1].seq == seq && len(h.held[i-1].data) >= len(data) {
			t.drop(DropDuplicate)
			return true
		}
		i--
	}
	var b []byte
	if len(data) > 0 {
		var ok bool
		if b, ok = t.grow(f, nil, len(data)); !ok {
			return false
		}
		b = append(b, data...)
	}
	if len(h.held) == 0 {
		h.heldSince = at
	}
	room := cap(h.held)
	h.held = append(h.held, held{})
	t.slots += cap(h.held) - room
	copy(h.held[i+1:], h.held[i:])
	h.held[i] = held{seq: seq, missing: missing, time: at, wall: wall, ack: h.ack, acks: h.acks, data: b}
	return true
}

// drain takes what was held and is in order now.
func (t *Table) drain(f *flow, h *half) {
	for len(h.held) > 0 {
		d := int64(int32(h.held[0].seq - h.next))
		if d > 0 && uint64(d) > h.skip {
			return
		}
		x := h.held[0]
		n := copy(h.held, h.held[1:])
		h.held[n] = held{}
		h.held = h.held[:n]
		if d > 0 {
			t.lose(f, h, uint64(d), DropGap)
			h.next = x.seq
			d = 0
		}
		behind := int(-d)
		if behind >= len(x.data)+x.missing {
			t.drop(DropDuplicate)
			t.release(f, x.data)
			continue
		}
		data := x.data
		if behind > len(data) {
			x.missing -= behind - len(data)
			data = nil
		} else {
			data = data[behind:]
		}
		h.ack, h.acks = x.ack, x.acks
		t.take(f, h, data, x.missing, x.time, x.wall)
		t.release(f, x.data)
	}
}

// giveUp declares the hole before the first held segment lost and takes what follows.
func (t *Table) giveUp(f *flow, h *half) {
	if d := int32(h.held[0].seq - h.next); d > 0 {
		t.lose(f, h, uint64(d), DropGap)
		h.next = h.held[0].seq
	}
	t.drain(f, h)
	if len(h.held) > 0 {
		h.heldSince = h.held[0].time
	}
}

// lose takes note that n bytes of a direction are missing. Inside a body that is passed
// over anyway nothing is lost.
func (t *Table) lose(f *flow, h *half, n uint64, why Drop) {
	if n == 0 {
		return
	}
	if h.skip == untilClose {
		return
	}
	if n <= h.skip {
		h.skip -= n
		return
	}
	t.drop(why)
	if f.proto == HTTP1 || f.proto == Unknown {
		t.httpLost(f, h)
	}
	if f.proto == TLS {
		f.tls.judged = true // nothing may be inferred any more
	}
	t.desync(f, h)
	f.lossy = true
}

// desync leaves the framing: the parser looks for the next message at segment starts.
func (t *Table) desync(f *flow, h *half) {
	t.release(f, h.buf)
	t.release(f, h.handshake)
	h.buf, h.handshake = nil, nil
	h.synced, h.fresh, h.skip = false, false, 0
	h.chunk, h.rows = chunkState{}, false
	h.record = recordState{encrypted: h.record.encrypted}
}

// take parses bytes that are in order; missing bytes after them were not captured.
func (t *Table) take(f *flow, h *half, data []byte, missing int, at, wall int64) {
	h.next += uint32(len(data))
	if len(data) > 0 {
		h.lastTime = at
		t.parse(f, h, data, at, wall)
	}
	if missing > 0 {
		h.next += uint32(missing)
		t.lose(f, h, uint64(missing), DropCut)
	}
}

func (t *Table) parse(f *flow, h *half, data []byte, at, wall int64) {
	data = h.pass(data)
	if len(data) == 0 {
		return
	}
	work := data
	buffered := len(h.buf) > 0
	if buffered {
		b, ok := t.grow(f, h.buf, len(h.buf)+len(data))
		if !ok {
			t.lose(f, h, math.MaxUint32, DropGap)
			return
		}
		h.buf = append(b, data...)
		work = h.buf
	} else {
		h.bufTime = at
	}
	for len(work) > 0 {
		if f.unknown || f.closed {
			work = nil
			break
		}
		if !h.synced {
			found := t.probe(f, h, work, wall)
			if found == no && buffered && f.proto != Unknown && !f.unknown {
				// What was kept is not of this protocol; this segment may begin it.
				h.fresh, buffered = false, false
				t.release(f, h.buf)
				h.buf, h.bufTime, work = nil, at, data
				found = t.probe(f, h, work, wall)
			}
			if found == more && len(work) < maxProbe {
				break
			}
			if found != yes {
				work = nil
				break
			}
			h.synced, h.attempts = true, 0
		}
		n, ok := t.message(f, h, work, wall)
		if !ok {
			t.broken(f, h, wall)
			t.desync(f, h)
			return
		}
		if n == 0 {
			break
		}
		work = h.pass(work[n:])
		h.bufTime = at
		if !h.synced && f.proto != Unknown {
			work = nil // no segment starts here
		}
	}
	t.keep(f, h, work, buffered)
}

// pass takes what is to be passed over off the front.
func (h *half) pass(data []byte) []byte {
	if h.skip == 0 {
		return data
	}
	if h.skip == untilClose {
		return nil
	}
	n := min(h.skip, uint64(len(data)))
	h.skip -= n
	return data[n:]
}

// keep holds what is not parsed yet in buf; rest is a tail of buf where buffered.
func (t *Table) keep(f *flow, h *half, rest []byte, buffered bool) {
	if len(rest) == 0 {
		t.release(f, h.buf)
		h.buf = nil
		return
	}
	if buffered {
		if len(rest) < len(h.buf) {
			h.buf = h.buf[:copy(h.buf, rest)]
		}
		return
	}
	b, ok := t.grow(f, nil, len(rest))
	if !ok {
		t.lose(f, h, math.MaxUint32, DropGap)
		return
	}
	h.buf = append(b, rest...)
}

// message parses one message, or one step of one, at the start of work: the number of
// bytes it took (0: it wants more), false where the framing is lost.
func (t *Table) message(f *flow, h *half, work []byte, wall int64) (int, bool) {
	switch f.proto {
	case HTTP1:
		return t.http(f, h, work, wall)
	case TLS:
		return t.tls(f, h, work, wall)
	case DNS:
		return t.dnsStream(f, h, work, wall)
	case MQTT:
		return t.mqtt(f, h, work, wall)
	}
	return 0, false
}

// broken says that a direction does not follow its protocol, once, and only where
// nothing was missed that could explain it.
func (t *Table) broken(f *flow, h *half, wall int64) {
	t.drop(DropMalformed)
	if !h.fresh || h.told || f.lossy {
		return
	}
	h.told = true
	t.begin(Undecodable, f.proto, f.key, h.side, h.bufTime, wall)
	t.send()
}
