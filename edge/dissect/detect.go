package dissect

// verdict is what a detector says about the bytes at the start of a segment.
type verdict uint8

const (
	no verdict = iota
	more
	yes
)

// probe looks for the start of a message. Where the protocol is known only that one is
// tried; else all, and a flow that none knows is unknown after maxAttempts segments.
func (t *Table) probe(f *flow, h *half, work []byte, wall int64) verdict {
	if f.proto != Unknown {
		v := t.resume(f, h, work)
		if v == no {
			if h.fresh && h.messages == 0 && len(h.buf) == 0 {
				t.broken(f, h, wall)
				h.fresh = false
			} else {
				t.drop(DropUnsynced)
			}
		}
		return v
	}
	open := false
	for _, p := range [...]Protocol{TLS, HTTP1, MQTT, DNS} {
		v := no
		switch p {
		case TLS:
			v = detectTLS(f.key, work)
		case HTTP1:
			v = detectHTTP(work)
		case MQTT:
			v = detectMQTT(f.key, h, work)
		case DNS:
			v = detectDNSStream(f.key, work, t.name[:0])
		}
		if v == yes {
			f.proto = p
			return yes
		}
		open = open || v == more
	}
	if open && len(work) < maxProbe {
		return more
	}
	t.drop(DropUnknown)
	h.fresh = false
	if h.attempts++; h.attempts >= maxAttempts {
		f.unknown = true
		t.releaseAll(f)
	}
	return no
}

// resume looks for a message of the flow's own protocol after a hole or a late join.
func (t *Table) resume(f *flow, h *half, work []byte) verdict {
	switch f.proto {
	case HTTP1:
		return detectHTTP(work)
	case TLS:
		return resumeTLS(work)
	case MQTT:
		if h.fresh {
			return firstMQTT(work)
		}
		return h.tiled(work)
	case DNS:
		return detectDNSStream(f.key, work, t.name[:0])
	}
	return no
}

// port tells whether either end has the port.
func (k *Key) port(p uint16) bool { return k.A.Port() == p || k.B.Port() == p }
