package flow

import (
	"strconv"
	"time"

	"github.com/strata-edge/strata/edge/diag"
	"github.com/strata-edge/strata/edge/dissect"
)

// Bounds of what is kept about messages.
const (
	maxSides   = 1024 // flows whose payload comes up
	maxTallies = 512  // kinds of message × endpoint in one harvest
	maxNotes   = 256  // certificates that a client has not judged yet
)

// sideLife is how long a flow's payload is taken from one port only after its last record.
const sideLife = 60 * time.Second

// faultyFor is how long a fault that a message told of keeps its endpoint admitted.
const faultyFor = 60 * time.Second

// lossLasts is how long after a lost record an unanswered query may be its doing: longer
// than edge/dissect waits for an answer.
const lossLasts = 5 * time.Second

// Payload is one piece of payload of an admitted flow.
type Payload struct {
	dissect.Segment
	Blind bool // the flow's later payload does not come up: its budget ends here
}

// messages holds what dissect said since the latest harvest.
type messages struct {
	table *dissect.Table
	// A forwarded flow's payload comes up on each of its ports. The port that delivered
	// first is listened to: a packet comes in before it goes out.
	sides   *lru[dissect.Key, side]
	certs   *lru[dissect.Key, certNote]
	tallies []tally
	index   map[tallyKey]int
	// Until then an answer may have been lost inside the device.
	lostUntil diag.Time
	observe   func(*dissect.Message)
	take      func(*dissect.Message)
}

type side struct {
	ifx  uint32
	vlan uint16
	last diag.Time
}

// certNote is what a certificate showed before its client judged it.
type certNote struct{ expired, notYet, name, selfSigned bool }

type tallyKey struct {
	at     Endpoint
	name   string
	status int
}

type tally struct {
	tallyKey
	ifx   uint32
	n     float64
	attrs []diag.Attr
}

func (m *messages) init(e *Engine) {
	m.table = dissect.New(dissect.Config{})
	m.sides = newLRU[dissect.Key, side](maxSides)
	m.certs = newLRU[dissect.Key, certNote](maxNotes)
	m.index = make(map[tallyKey]int)
	m.take = e.message
}

// Observe has every message shown to fn before it is counted. The message is borrowed.
func (e *Engine) Observe(fn func(*dissect.Message)) { e.messages.observe = fn }

// Payload feeds one record. What it completes is emitted by the next Harvest, when the
// path of its service is known.
func (e *Engine) Payload(p *Payload) {
	m := &e.messages
	t := p.Key
	t.If, t.VLAN = 0, 0
	s, fresh := m.sides.add(t)
	now := diag.Time(p.Time)
	if fresh || now.Sub(s.last) > sideLife {
		s.ifx, s.vlan = p.Key.If, p.Key.VLAN
	}
	if s.ifx != p.Key.If || s.vlan != p.Key.VLAN {
		e.counters.PayloadsTwice++
		return
	}
	s.last = now
	e.counters.Payloads++
	if c := e.clock(); c.Synced {
		p.Wall = c.Wall(now).UnixNano()
	}
	m.table.Feed(&p.Segment, m.take)
	if p.Blind {
		m.table.Blind(p.Key)
	}
}

// PayloadLost says that records were lost on the way up, so that for a while a missing
// answer proves nothing.
func (e *Engine) PayloadLost(now diag.Time) { e.messages.lostUntil = now.Add(lossLasts) }

// Dissected gives what edge/dissect did and dropped.
func (e *Engine) Dissected() dissect.Stats { return e.messages.table.Stats() }

// Flush ends all streams, as at the end of a capture, and keeps what that completes for
// the next Harvest.
func (e *Engine) Flush() { e.messages.table.Flush(e.messages.take) }

func (m *messages) expire(now diag.Time) { m.table.Expire(int64(now), m.take) }

// message counts one message for the service it belongs to.
func (e *Engine) message(m *dissect.Message) {
	e.counters.Messages++
	if e.messages.observe != nil {
		e.messages.observe(m)
	}
	switch m.Kind {
	case dissect.HTTPRequest:
		e.tally(m, other(m.From), "http.request", 0, false, nil)
	case dissect.HTTPResponse:
		e.httpResponse(m)
	case dissect.DNSQuery, dissect.DNSResponse, dissect.DNSUnanswered:
		e.dns(m)
	case dissect.TLSClientHello:
		e.tally(m, other(m.From), "tls.handshake", 0, false, m.Fields)
	case dissect.TLSCertificate:
		e.certificate(m)
	case dissect.TLSAlert:
		e.alert(m)
	case dissect.TLSRejected:
		e.tally(m, other(m.From), "tls.cert_rejected", 0, true, m.Fields)
	case dissect.MQTTConnect:
		e.tally(m, other(m.From), "mqtt.connect", 0, false, nil)
	case dissect.MQTTConnack:
		e.tally(m, m.From, "mqtt.connack", m.Status, m.Status > 0, m.Fields)
	case dissect.MQTTDisconnect:
		if m.Status >= 0x80 {
			e.tally(m, responder, "mqtt.disconnect", m.Status, true, m.Fields)
		}
	case dissect.Undecodable:
		e.counters.Undecodable++
		e.tally(m, responder, "payload.undecodable", 0, false, nil)
	}
}

func other(s dissect.Side) dissect.Side { return 1 - s }

// responder is the side that a message without a role of its own is charged to.
const responder = dissect.B

func (e *Engine) httpResponse(m *dissect.Message) {
	if m.Status < 100 || m.Status > 999 {
		return
	}
	e.tally(m, m.From, "http.response", m.Status, m.Status >= 500 || m.Status == 401 || m.Status == 403, m.Fields)
}

func (e *Engine) dns(m *dissect.Message) {
	server := other(m.From)
	if m.Kind == dissect.DNSResponse {
		server = m.From
	}
	at := m.Key.B
	if server == dissect.A {
		at = m.Key.A
	}
	// Multicast name resolution asks everybody: silence is its normal negative answer.
	if at.Port() != portDNS || !isUnicast(at.Addr().As16()) {
		return
	}
	switch m.Kind {
	case dissect.DNSQuery:
		e.tally(m, server, "dns.query", 0, false, nil)
	case dissect.DNSResponse:
		e.tally(m, server, "dns.response", m.Status, m.Status != 0, m.Fields)
	default:
		if e.now < e.messages.lostUntil || e.answered(m) {
			return
		}
		e.tally(m, server, "dns.unanswered", 0, true, m.Fields)
	}
}

// answered says whether the kernel counted an answer to the query although its payload
// did not come up: the admission's budget may have ended between the two.
func (e *Engine) answered(m *dissect.Message) bool {
	t := tuple{a: m.Key.A.Addr().As16(), b: m.Key.B.Addr().As16(), aPort: m.Key.A.Port(), bPort: m.Key.B.Port(), proto: uint8(m.Key.Proto)}
	i, ok := e.slots.heads[t]
	if !ok || m.Key.Proto != dissect.UDP {
		return false
	}
	s := &e.slots.list[i]
	return s.dir[BA].Packets > 0 && s.waiting == 0 && s.last > diag.Time(m.Time)
}

// certificate notes what a certificate shows. Dates speak for themselves; a name or an
// issuer is only a fault where the client says so: many devices check neither.
func (e *Engine) certificate(m *dissect.Message) {
	if m.Cert == nil {
		return
	}
	c := m.Cert
	note, _ := e.messages.certs.add(m.Key)
	*note = certNote{expired: c.Expired, notYet: c.NotYetValid, name: c.NameMismatch, selfSigned: c.SelfSigned}
	switch {
	case c.Expired:
		e.tally(m, m.From, "tls.cert_expired", 0, true, m.Fields)
	case c.NotYetValid:
		e.tally(m, m.From, "tls.cert_not_yet_valid", 0, true, m.Fields)
	}
}

// TLS alert descriptions (RFC 8446, section 6; RFC 5246, section 7.2).
const (
	alertCloseNotify            = 0
	alertHandshakeFailure       = 40
	alertBadCertificate         = 42
	alertUnsupportedCertificate = 43
	alertCertificateRevoked     = 44
	alertCertificateExpired     = 45
	alertCertificateUnknown     = 46
	alertUnknownCA              = 48
	alertProtocolVersion        = 70
	alertInsufficientSecurity   = 71
	alertUserCanceled           = 90
	alertNoRenegotiation        = 100
	alertUnrecognizedName       = 112
)

func (e *Engine) alert(m *dissect.Message) {
	switch m.Status {
	case alertCloseNotify, alertUserCanceled, alertNoRenegotiation:
		return
	}
	if !m.Fatal {
		return
	}
	e.tally(m, responder, "tls.alert", m.Status, true, m.Fields)
	if name := e.alertMeaning(m); name != "" {
		e.tally(m, responder, name, m.Status, true, m.Fields)
	}
}

// alertMeaning names what an alert says. Clients are free to choose among the alerts
// about certificates, and some send one for all: what the certificate itself showed goes
// first.
func (e *Engine) alertMeaning(m *dissect.Message) string {
	switch m.Status {
	case alertProtocolVersion:
		return "tls.version"
	case alertHandshakeFailure, alertInsufficientSecurity:
		return "tls.cipher"
	case alertUnrecognizedName:
		return "tls.cert_name"
	}
	if m.From == responder {
		return "" // about a client's certificate
	}
	switch m.Status {
	case alertCertificateExpired:
		if note := e.messages.certs.peek(m.Key); note != nil && note.notYet {
			return "tls.cert_not_yet_valid"
		}
		return "tls.cert_expired"
	case alertUnknownCA:
		return "tls.cert_unknown_ca"
	case alertBadCertificate, alertUnsupportedCertificate, alertCertificateRevoked, alertCertificateUnknown:
		note := e.messages.certs.peek(m.Key)
		switch {
		case note == nil:
			return "tls.cert_rejected"
		case note.expired:
			return "tls.cert_expired"
		case note.notYet:
			return "tls.cert_not_yet_valid"
		case note.name:
			return "tls.cert_name"
		case note.selfSigned:
			return "tls.cert_unknown_ca"
		}
		return "tls.cert_rejected"
	}
	return ""
}

// evidence are the fields that may travel with a signal: numbers and names of servers,
// nothing of users.
var evidence = [...]string{
	"http.response.status_code", "dns.rcode", "dns.question.name", "dns.question.type",
	"tls.server_name", "tls.alert", "tls.rejected_by", "mqtt.reason",
}

const maxEvidence = 64 // bytes of one value

// tally counts one message; fields become attributes of the first of its kind.
func (e *Engine) tally(m *dissect.Message, server dissect.Side, name string, status int, faulty bool, fields []dissect.Field) {
	at := m.Key.B
	if server == dissect.A {
		at = m.Key.A
	}
	if !at.IsValid() {
		e.counters.MessagesUnkeyed++
		return
	}
	t := &e.messages
	k := tallyKey{at: Endpoint{Addr: at.Addr().As16(), Port: at.Port(), Proto: uint8(m.Key.Proto)}, name: name, status: status}
	if faulty {
		if p := e.endpoints.peek(k.at); p != nil {
			p.faultyUntil = diag.Time(m.Time).Add(faultyFor)
		}
	}
	if i, ok := t.index[k]; ok {
		t.tallies[i].n++
		return
	}
	if len(t.tallies) >= maxTallies {
		e.counters.TalliesFull++
		return
	}
	t.index[k] = len(t.tallies)
	t.tallies = append(t.tallies, tally{tallyKey: k, ifx: m.Key.If, n: 1, attrs: attrs(name, status, fields)})
}

func attrs(name string, status int, fields []dissect.Field) []diag.Attr {
	var out []diag.Attr
	if name == "http.response" {
		out = append(out, diag.Attr{Key: "http.class", Value: strconv.Itoa(status/100) + "xx"})
	}
	for i := range fields {
		for _, key := range evidence {
			if fields[i].Name == key {
				v := fields[i].String()
				out = append(out, diag.Attr{Key: key, Value: v[:min(len(v), maxEvidence)]})
			}
		}
	}
	return out
}

// reportMessages emits what was tallied and clears it.
func (e *Engine) reportMessages() {
	m := &e.messages
	for i := range m.tallies {
		t := &m.tallies[i]
		index := t.ifx
		if p := e.endpoints.peek(t.at); p != nil {
			index = p.pathIf
		}
		p := e.endpointFor(t.at, index)
		e.send(t.name, p.scope, p.path, t.n, t.attrs)
	}
	clear(m.tallies)
	m.tallies = m.tallies[:0]
	clear(m.index)
}
