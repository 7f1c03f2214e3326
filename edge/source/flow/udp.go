package flow

import "time"

// udpAge is how long a datagram may wait before it counts as unanswered: most resolvers
// ask again after 1 to 5 s.
const udpAge = 2 * time.Second

// answering are the ports (IANA) whose protocols answer each request with a datagram, so
// that silence means something although the endpoint was never heard before.
func answering(port uint16) bool {
	switch port {
	case portDNS, 69, 123, 161, 5683: // DNS, TFTP, NTP, SNMP, CoAP
		return true
	}
	return false
}

func (e *Engine) countUDP(p *endpoint, s *slot, f *Flow) {
	ab, ba := &f.Dir[AB], &f.Dir[BA]
	sent := ab.Packets - s.dir[AB].Packets
	back := ba.Packets - s.dir[BA].Packets
	p.counts[cDatagrams] += sent + back
	if ba.Packets > 0 {
		p.answers = true
	}
	s.watch = false
	switch {
	case back > 0:
		s.waiting = 0
	case sent > 0:
		if s.waiting == 0 {
			s.waitSince = f.Last
		}
		s.waiting += sent
	}
	if s.waiting == 0 || f.ICMP[ICMPPort] > 0 {
		return
	}
	// A stream that nobody is expected to answer (syslog, media, multicast) is no fault.
	expected := answering(f.Key.BPort) || p.answers && ba.Packets == 0
	if !expected || !isUnicast(f.Key.B) {
		s.waiting = 0
		return
	}
	if e.since(s.waitSince) < udpAge {
		s.watch = true
		return
	}
	p.counts[cUDPUnanswered] += s.waiting
	s.waiting = 0
}
