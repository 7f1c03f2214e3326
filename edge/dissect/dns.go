package dissect

import (
	"encoding/binary"
	"time"
)

// DNS over UDP and TCP (RFC 1035), with mDNS and LLMNR, which share its format.
//
// The parser is our own: it reads header and question in place, without allocating, and
// tells what is there of a packet that was cut behind them. The records of an answer are
// counted by the header only.

const (
	dnsHead         = 12
	maxDNSName      = 255
	maxDNSQuestions = 16      // told of one message
	maxDNSParts     = 4 << 10 // of a message over TCP that are looked at; the rest is passed over
)

// dnsMessage is the part of a message that is read.
type dnsMessage struct {
	id        uint16
	flags     uint16
	questions uint16
	answers   uint16
	others    uint32 // authority and additional records
	name      []byte // the first question's, without the last dot; "." for the root
	qtype     uint16
	qclass    uint16
	visible   bool // the first question is whole
	end       int  // offset behind the first question
	body      []byte
}

func (m *dnsMessage) response() bool { return m.flags&0x8000 != 0 }
func (m *dnsMessage) opcode() int    { return int(m.flags >> 11 & 15) }
func (m *dnsMessage) rcode() int     { return int(m.flags & 15) }

// dnsResult is what parseDNS found.
type dnsResult uint8

const (
	dnsOK dnsResult = iota
	dnsCut
	dnsBad
)

// parseDNS reads header and first question; the name is written to scratch. dnsCut says
// that b ends before the question does.
func parseDNS(b, scratch []byte, m *dnsMessage) dnsResult {
	*m = dnsMessage{body: b}
	if len(b) < dnsHead {
		return dnsCut
	}
	m.id = binary.BigEndian.Uint16(b)
	m.flags = binary.BigEndian.Uint16(b[2:])
	m.questions = binary.BigEndian.Uint16(b[4:])
	m.answers = binary.BigEndian.Uint16(b[6:])
	m.others = uint32(binary.BigEndian.Uint16(b[8:])) + uint32(binary.BigEndian.Uint16(b[10:]))
	m.end = dnsHead
	if m.questions == 0 {
		return dnsOK
	}
	name, end, r := dnsName(b, dnsHead, scratch)
	if r != dnsOK {
		return r
	}
	if len(b) < end+4 {
		return dnsCut
	}
	m.name = name
	m.qtype = binary.BigEndian.Uint16(b[end:])
	m.qclass = binary.BigEndian.Uint16(b[end+2:])
	m.end = end + 4
	m.visible = true
	return dnsOK
}

// dnsName reads a name at off, following pointers that lead backwards only, so that it
// ends. Bytes that would blur the text are written as \DDD, like zone files do.
func dnsName(b []byte, off int, dst []byte) ([]byte, int, dnsResult) {
	end, total := -1, 0
	for limit := off; ; {
		if off >= len(b) {
			return nil, 0, dnsCut
		}
		n := int(b[off])
		switch n & 0xc0 {
		case 0:
			off++
			if n == 0 {
				if end < 0 {
					end = off
				}
				if len(dst) == 0 {
					return append(dst, '.'), end, dnsOK
				}
				return dst, end, dnsOK
			}
			if total += n + 1; total > maxDNSName {
				return nil, 0, dnsBad
			}
			if off+n > len(b) {
				return nil, 0, dnsCut
			}
			if len(dst) > 0 {
				dst = append(dst, '.')
			}
			for _, c := range b[off : off+n] {
				switch {
				case c == '.' || c == '\\':
					dst = append(dst, '\\', c)
				case c < ' ' || c == 0x7f:
					dst = append(dst, '\\', '0'+c/100, '0'+c/10%10, '0'+c%10)
				default:
					dst = append(dst, c)
				}
			}
			off += n
		case 0xc0:
			if off+1 >= len(b) {
				return nil, 0, dnsCut
			}
			p := n&0x3f<<8 | int(b[off+1])
			if end < 0 {
				end = off + 2
			}
			if p >= limit {
				return nil, 0, dnsBad
			}
			limit, off = p, p
		default:
			return nil, 0, dnsBad
		}
	}
}

// plausible is what every sane message fulfils; strict adds what makes a chance match on
// another port unlikely.
func (m *dnsMessage) plausible() bool {
	switch m.opcode() {
	case 0, 1, 2, 4, 5:
	default:
		return false
	}
	return m.questions <= 64 && m.flags&0x0040 == 0
}

func (m *dnsMessage) strict(size int) bool {
	if m.opcode() != 0 || m.questions != 1 || !m.visible || m.flags&0x0040 != 0 || m.qclass != 1 || m.qtype == 0 || len(m.name) < 4 {
		return false
	}
	if !m.response() && (m.answers != 0 || m.others > 2 || m.rcode() != 0 || m.others == 0 && m.end != size) {
		return false
	}
	return true
}

func dnsPort(k *Key) bool { return k.port(53) || k.port(5353) || k.port(5355) }

// datagram parses a UDP payload. DNS on its own ports needs no flow state; on others a
// flow is believed once an answer has matched a query.
func (t *Table) datagram(s *Segment) {
	if len(s.Payload) == 0 {
		return
	}
	whole := s.Length <= len(s.Payload)
	var m dnsMessage
	if dnsPort(&s.Key) {
		switch r := parseDNS(s.Payload, t.name[:0], &m); {
		case r == dnsCut && !whole:
			if len(s.Payload) < dnsHead {
				t.drop(DropCut)
				return
			}
		case r != dnsOK || !m.plausible():
			t.drop(DropMalformed)
			if whole {
				t.begin(Undecodable, DNS, s.Key, s.From, s.Time, s.Wall)
				t.send()
			}
			return
		}
		t.dns(&s.Key, s.From, s.Time, s.Wall, &m, true)
		return
	}
	f := t.lookup(s.Key)
	if f == nil {
		f = t.open(s.Key)
	}
	if f.unknown {
		t.drop(DropUnknown)
		return
	}
	r := parseDNS(s.Payload, t.name[:0], &m)
	if r == dnsOK && m.strict(max(s.Length, len(s.Payload))) {
		if f.proto == DNS || m.response() && t.pending.has(&s.Key, s.From^1, &m) {
			f.proto = DNS
			t.dns(&s.Key, s.From, s.Time, s.Wall, &m, true)
			return
		}
		if !m.response() {
			t.dns(&s.Key, s.From, s.Time, s.Wall, &m, false)
		}
	}
	t.drop(DropUnknown)
	h := &f.half[s.From]
	if h.attempts++; f.proto == Unknown && h.attempts >= maxAttempts {
		f.unknown = true
	}
}

// detectDNSStream recognises DNS over TCP, on port 53 only: two bytes of length carry
// too little to tell it elsewhere.
func detectDNSStream(key Key, work, scratch []byte) verdict {
	if !key.port(53) {
		return no
	}
	if len(work) < 2+dnsHead {
		return more
	}
	n := int(binary.BigEndian.Uint16(work))
	var m dnsMessage
	b := work[2:]
	b = b[:min(len(b), n)]
	switch r := parseDNS(b, scratch, &m); {
	case r == dnsCut && len(b) < n:
		return more
	case r != dnsOK || !m.plausible() || m.questions > 1:
		return no
	}
	return yes
}

func (t *Table) dnsStream(f *flow, h *half, work []byte, wall int64) (int, bool) {
	if len(work) < 2 {
		return 0, true
	}
	n := int(binary.BigEndian.Uint16(work))
	if n < dnsHead {
		return 0, false
	}
	need := min(n, maxDNSParts)
	if len(work) < 2+need {
		return 0, true
	}
	var m dnsMessage
	if r := parseDNS(work[2:2+need], t.name[:0], &m); r != dnsOK || !m.plausible() {
		return 0, false
	}
	h.messages++
	t.dns(&f.key, h.side, h.bufTime, wall, &m, true)
	if m.response() && m.qtype == 252 {
		// A zone transfer goes on in further messages, which may carry no question.
		t.drop(DropUnsynced)
	}
	if n > len(work)-2 {
		h.skip = uint64(n - (len(work) - 2))
		return len(work), true
	}
	return 2 + n, true
}

// dns tells one message and pairs answers with queries.
func (t *Table) dns(key *Key, from Side, at, wall int64, m *dnsMessage, tell bool) {
	kind, multicast := DNSQuery, key.port(5353) || key.port(5355)
	var elapsed int64
	paired := false
	if m.response() {
		kind = DNSResponse
		if !multicast && m.visible {
			elapsed, paired = t.pending.answer(key, from^1, m, at)
			if !paired {
				t.drop(DropUnpaired)
			}
		}
	} else if !multicast && m.visible && m.opcode() == 0 {
		if t.pending.ask(key, from, m, at, tell) {
			t.drop(DropPending)
		}
	}
	if !tell {
		return
	}
	b := t.begin(kind, DNS, *key, from, at, wall)
	b.num("dns.id", float64(m.id))
	if op := m.opcode(); op != 0 {
		b.num("dns.opcode", float64(op))
	}
	if m.visible {
		b.question(m.name, m.qtype)
		b.furtherQuestions(m)
	}
	if kind == DNSResponse {
		b.msg.Status = m.rcode()
		b.num("dns.rcode", float64(m.rcode()))
		if n := rcodeName(m.rcode()); n != "" {
			b.str("dns.rcode.name", n)
		}
		b.num("dns.answers", float64(m.answers))
		if m.flags&0x0200 != 0 {
			b.num("dns.truncated", 1)
		}
	}
	if paired {
		b.msg.Paired = true
		b.msg.Elapsed = time.Duration(elapsed)
		b.num("dns.duration_ms", float64(elapsed)/1e6)
	}
	t.send()
}

func (b *builder) question(name []byte, qtype uint16) {
	n := len(b.text)
	b.text = append(b.text, name...)
	b.raw("dns.question.name", b.text[n:len(b.text):len(b.text)])
	b.num("dns.question.type", float64(qtype))
	if s := qtypeName(qtype); s != "" {
		b.str("dns.question.type.name", s)
	}
}

// furtherQuestions tells the questions after the first, as mDNS asks them.
func (b *builder) furtherQuestions(m *dnsMessage) {
	off := m.end
	for range min(int(m.questions), maxDNSQuestions) - 1 {
		name, end, r := dnsName(m.body, off, b.name[:0])
		if r != dnsOK || len(m.body) < end+4 {
			return
		}
		b.question(name, binary.BigEndian.Uint16(m.body[end:]))
		off = end + 4
	}
}

func rcodeName(n int) string {
	names := [...]string{"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH", "NOTZONE"}
	if n < len(names) {
		return names[n]
	}
	return ""
}

func qtypeName(n uint16) string {
	switch n {
	case 1:
		return "A"
	case 2:
		return "NS"
	case 5:
		return "CNAME"
	case 6:
		return "SOA"
	case 12:
		return "PTR"
	case 15:
		return "MX"
	case 16:
		return "TXT"
	case 28:
		return "AAAA"
	case 33:
		return "SRV"
	case 35:
		return "NAPTR"
	case 64:
		return "SVCB"
	case 65:
		return "HTTPS"
	case 252:
		return "AXFR"
	case 255:
		return "ANY"
	}
	return ""
}
