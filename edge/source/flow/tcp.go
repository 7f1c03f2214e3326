package flow

import (
	"time"

	"github.com/strata-edge/strata/edge/diag"
)

// Thresholds of the sweep. Those in seconds follow what people and clients tolerate:
// RFC 6298 starts a SYN's timer at 1 s and doubles it, so that 3 s is two lost SYNs.
const (
	synAge       = 3 * time.Second
	repeatEvery  = 5 * time.Second
	silentAfter  = 5 * time.Second
	slowMS       = 1000.0 // with a baseline
	slowAloneMS  = 3000.0 // without one
	slowPerRTT   = 10.0
	slowPerBase  = 5.0
	delayMS      = 100.0 // above the baseline
	delayPerBase = 5.0
	baselineMin  = 3               // readings before a baseline counts
	zeroLives    = 2 * time.Minute // a persist timer's longest pause (RFC 9293, 3.8.6.1) is 60 s
)

func delta(p *endpoint, c count, now, before uint32) {
	if now > before {
		p.counts[c] += now - before
	}
}

func (e *Engine) countTCP(p *endpoint, s, twin *slot, f *Flow) {
	ab, ba := &f.Dir[AB], &f.Dir[BA]
	was := &s.dir
	for d := range f.Dir {
		delta(p, cSegments, f.Dir[d].Packets, was[d].Packets)
		delta(p, cPayload, f.Dir[d].Payload, was[d].Payload)
		delta(p, cRetransmits, f.Dir[d].Retransmits, was[d].Retransmits)
		delta(p, cRetransmitsLarge, f.Dir[d].LargeRetransmit, was[d].LargeRetransmit)
		delta(p, cOutOfOrder, f.Dir[d].OutOfOrder, was[d].OutOfOrder)
		delta(p, cDupAcks, f.Dir[d].DupAcks, was[d].DupAcks)
		delta(p, cGap, f.Dir[d].Gaps, was[d].Gaps)
	}
	delta(p, cSYN, ab.SYN, was[AB].SYN)
	if !f.Reused {
		delta(p, cSYNRetry, retries(ab.SYN), retries(was[AB].SYN))
	}
	// Ports that are used again begin with clean flags: what is set now is new where the
	// packet that sets it is.
	again := f.Reused && ab.SYN != was[AB].SYN
	if f.Established && (!s.established || again) && ab.SYN > 0 {
		p.counts[cEstablished]++
	}
	if f.Refused && (!s.refused || again) {
		p.counts[cRefused]++
	}
	// A client that resets instead of closing is everyday life (unread session tickets, a
	// page left early). A reset from the server's side is not, while it owes an answer or
	// neither side had begun to close.
	unclosed := ab.FIN == 0 && ba.FIN == 0 && ab.RST == 0
	if f.ResetMidway && (!s.resetMidway || again) && ba.RST != was[BA].RST && (f.Outstanding != 0 || unclosed) {
		p.counts[cResetMidway]++
	}
	if f.RTT > 0 && (ab.Payload != was[AB].Payload || f.Established && !s.established) {
		p.rtt.add(float64(f.RTT)/1000, 1)
	}
	s.watch = false
	e.sweepSYN(p, s, f)
	e.countLoss(p, s, twin, f)
	e.countResponses(p, s, f)
	e.countZero(p, s, f, ba.ZeroWindows-min(ba.ZeroWindows, was[BA].ZeroWindows), ba.ZeroSince, BA)
	e.countZero(p, s, f, ab.ZeroWindows-min(ab.ZeroWindows, was[AB].ZeroWindows), ab.ZeroSince, AB)
}

func retries(syn uint32) uint32 {
	if syn < 2 {
		return 0
	}
	return syn - 1
}

// sweepSYN finds connection attempts that nobody answers: no packet tells of them.
func (e *Engine) sweepSYN(p *endpoint, s *slot, f *Flow) {
	ab, ba := &f.Dir[AB], &f.Dir[BA]
	if ab.SYN == 0 || ba.Packets > 0 || f.Established || f.Closed || f.ICMP != [ICMPClasses]uint16{} {
		return
	}
	s.watch = true
	switch {
	case s.told == 0:
		if ab.SYN < 2 && e.since(f.First) < synAge {
			return
		}
	case ab.SYN == s.tried || e.since(s.told) < repeatEvery:
		// Once told, an attempt that is no longer retried is over.
		return
	}
	p.counts[cSYNUnanswered]++
	s.told, s.tried = e.now, ab.SYN
}

// countLoss tells loss on the path from a stall, and a stall of large packets from one
// of all.
func (e *Engine) countLoss(p *endpoint, s, twin *slot, f *Flow) {
	var lost uint32
	closed := false
	for d := range f.Dir {
		now, was := &f.Dir[d], &s.dir[d]
		peer, peerWas := &f.Dir[1-d], &s.dir[1-d]
		n := now.Retransmits - min(now.Retransmits, was.Retransmits)
		// A SYN sent again is counted as such: it says that nobody answers.
		n -= min(n, retries(now.SYN)-min(retries(now.SYN), retries(was.SYN)))
		switch {
		case peer.ZeroSince != 0 || peer.ZeroWindows != peerWas.ZeroWindows:
			// Probes of a closed window are the receiver's doing.
			closed = true
		case now.Stuck >= 2:
			fresh := now.Stuck
			if was.Stuck >= 2 && was.Stuck <= now.Stuck {
				fresh -= was.Stuck
			}
			p.counts[cStuck] += fresh
			if now.StuckLarge == now.Stuck && (f.Established || now.Payload > now.Stuck) {
				s.large = true
				p.counts[cLargeLost] += fresh
				s.pendingLoss = 0
			} else {
				s.pendingLoss += n
			}
		default:
			lost += n
		}
		e.lossSide(p, now, was, twin, d)
	}
	switch {
	case closed:
		// What was sent again just before the window closed did not find room.
		s.pendingLoss = 0
		return
	case !f.Established || f.Dir[AB].Stuck >= 2 || f.Dir[BA].Stuck >= 2:
		// Whether anything gets through is not known yet.
		s.pendingLoss += lost
		return
	case s.large:
		s.large, s.pendingLoss = false, 0
		return
	}
	// The flow makes progress: what it had to send again was lost, not blocked. It is told
	// one harvest later, when it is known that no closed window follows.
	p.counts[cLoss] += s.pendingLoss
	s.pendingLoss = lost
	if f.Closed {
		p.counts[cLoss] += lost
		s.pendingLoss = 0
	}
	s.watch = s.watch || s.pendingLoss > 0
}

// lossSide attributes retransmits: one that fills a gap seen here was lost before it came
// to this device; one of a segment that had passed was lost behind it. The port at which
// a direction enters decides: the primary side for AB, the twin for BA.
func (e *Engine) lossSide(p *endpoint, now, was *Dir, twin *slot, d int) {
	n := now.Retransmits - min(now.Retransmits, was.Retransmits)
	if n == 0 {
		return
	}
	gaps := now.Gaps - min(now.Gaps, was.Gaps)
	if d == BA && twin != nil {
		// Its own count since the beginning: the twin's slot may be one harvest older.
		gaps = max(gaps, twin.dir[BA].Gaps-min(twin.dir[BA].Gaps, was.Gaps))
	}
	before := min(gaps, n)
	p.lossBefore += before
	p.lossAfter += n - before
}

// countResponses judges how long the server takes from a request to the first byte of
// its response, against the round trip and the endpoint's own past.
func (e *Engine) countResponses(p *endpoint, s *slot, f *Flow) {
	if n := f.Responses - s.responses; n > 0 && n < 1<<31 {
		sum := float64(f.ResponseSum-s.responseSum) / 1000
		ms := sum / float64(n)
		worst := max(ms, float64(f.ResponseLast)/1000)
		if f.ResponseMax > s.responseMax {
			worst = max(worst, float64(f.ResponseMax)/1000)
		}
		p.response.add(sum, n)
		if e.isSlow(p, f, worst) {
			p.counts[cSlow]++
		} else if ms <= slowMS {
			p.responseBase.add(ms)
		}
		p.quick.add(worst <= slowMS)
	}
	if f.Outstanding == 0 || f.Closed {
		return
	}
	s.watch = true
	quick := p.answersQuickly() && !streaming(f.Key.BPort)
	still := f.Acked && f.Dir[AB].Payload == s.dir[AB].Payload
	if !quick || !still || e.since(f.Outstanding) < silentAfter {
		return
	}
	if s.told >= f.Outstanding && e.since(s.told) < repeatEvery {
		return
	}
	p.counts[cSilent]++
	s.told = e.now
}

func (e *Engine) isSlow(p *endpoint, f *Flow, ms float64) bool {
	if ms <= slowMS || ms <= slowPerRTT*float64(f.RTT)/1000 || streaming(f.Key.BPort) {
		return false
	}
	if p.quick.n < baselineMin {
		// Nothing is known of the endpoint: only what opens a connection is surely a
		// question.
		return ms > slowAloneMS && f.Responses <= openingExchanges
	}
	return p.answersQuickly() && ms > slowPerBase*p.responseBase.mean
}

// openingExchanges are the first questions of a connection: greeting or TLS hello, and
// what it was opened for.
const openingExchanges = 2

// quickShare is how often an endpoint must have answered quickly for a late answer to
// mean something: with messages that need no answer the next one comes any time.
const quickShare = 0.8

func (p *endpoint) answersQuickly() bool {
	return p.quick.n >= baselineMin && p.quick.value >= quickShare && p.responseBase.n > 0
}

// streaming are the ports (IANA) of protocols in which either end speaks when it likes,
// so that the time to the other's next segment says nothing: remote shells, syslog,
// message brokers, chat, routing sessions.
func streaming(port uint16) bool {
	switch port {
	case 22, 23, 179, 514, 601, 1883, 4222, 5222, 5223, 5671, 5672, 6514, 6667, 8883, 9092, 61613, 61616:
		return true
	}
	return false
}

// countZero charges a closed window to its receiver: the service, or the client's host.
func (e *Engine) countZero(p *endpoint, s *slot, f *Flow, n uint32, since diag.Time, d int) {
	var ms float64
	if since != 0 && !f.Closed && e.now.Sub(f.Last) < zeroLives {
		s.watch = true
		ms = float64(e.since(since)) / float64(time.Millisecond)
	}
	if n == 0 && ms <= 0 {
		return
	}
	if d == BA {
		p.counts[cZeroWindow] += n
		if ms > p.zeroMS {
			p.zeroMS, p.zeroPeer = ms, f.Key.A
		}
		return
	}
	h := e.hostFor(f.Key.A, f.Key.If, false)
	h.zero += n
	h.peer = Endpoint{Addr: f.Key.B, Port: f.Key.BPort, Proto: f.Key.Proto}
	h.zeroMS = max(h.zeroMS, ms)
}
