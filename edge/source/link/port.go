package link

import "github.com/strata-edge/strata/edge/diag"

// port is what the source remembers of one interface.
type port struct {
	name  string
	scope diag.Scope
	last  message
	known bool   // last is set
	dump  uint64 // the last dump that had it
	half  bool
	none  bool
	had   bool      // it has had an address
	bare  diag.Time // since when it has none, 0 where it has one
}

func (p *port) signal(now diag.Time, emit func(diag.Signal), name string, v float64, attrs ...diag.Attr) {
	emit(diag.Signal{Time: now, Source: sourceName, Name: name, Scope: p.scope, Value: v, Attrs: attrs})
}

func (p *port) state(now diag.Time, emit func(diag.Signal), name string, was *bool, holds bool, attrs ...diag.Attr) {
	if *was == holds {
		return
	}
	*was = holds
	v := 0.0
	if holds {
		v = 1
	}
	p.signal(now, emit, name, v, attrs...)
}

// update reports what changed since the last message about the port.
func (p *port) update(now diag.Time, m *message, emit func(diag.Signal)) {
	was := p.last
	p.last = *m
	if !m.hasCounters {
		p.last.counters.keep(&was.counters)
		p.last.hasCounters = was.hasCounters
	}
	if !p.known {
		p.known = true
		return
	}
	// Carrier counts only while the port is meant to be up: taking it down is planned,
	// and so is what the driver does to the carrier then.
	if was.up() && m.up() {
		lost := uint64(0)
		if was.carrier() && !m.carrier() {
			lost = 1
		}
		if m.hasDowns && was.hasDowns {
			lost = max(lost, grown(m.counters.carrierDowns, was.counters.carrierDowns))
		}
		if lost > 0 {
			p.signal(now, emit, "carrier_lost", float64(lost))
		}
		if n := grown(m.counters.carrierChanges, was.counters.carrierChanges); n > 0 && m.hasChanges && was.hasChanges {
			p.signal(now, emit, "carrier_changes", float64(n))
		}
	}
	if !m.hasCounters || !was.hasCounters {
		return
	}
	c, w := &m.counters, &was.counters
	for _, x := range [...]struct {
		name     string
		now, was uint64
	}{
		{"rx_crc_errors", c.crcErrors, w.crcErrors},
		{"rx_frame_errors", c.frameErrors, w.frameErrors},
		{"rx_missed", c.rxMissed, w.rxMissed},
		{"tx_errors", c.txErrors, w.txErrors},
		{"collisions", c.collisions, w.collisions},
		{"late_collisions", c.lateCollisions, w.lateCollisions},
	} {
		if n := grown(x.now, x.was); n > 0 {
			p.signal(now, emit, x.name, float64(n))
		}
	}
}

// grown gives by how much a counter grew; one that fell was reset and starts anew.
func grown(now, was uint64) uint64 {
	if now < was {
		return 0
	}
	return now - was
}

// keep takes over the statistics of an earlier message where the new one carried none.
func (c *counters) keep(was *counters) {
	changes, downs := c.carrierChanges, c.carrierDowns
	*c = *was
	c.carrierChanges, c.carrierDowns = changes, downs
}

// end reports every state that holds as over: the port is gone.
func (p *port) end(now diag.Time, emit func(diag.Signal)) {
	p.state(now, emit, "half_duplex", &p.half, false)
	p.state(now, emit, "address_none", &p.none, false)
}
