package dissect

// TLS 1.0 to 1.3 over TCP (RFC 5246, RFC 8446), as far as it is in the clear.
//
// TLSRejected is an inference, for TLS 1.3 hides both certificate and alert. It is made
// only where the whole of both directions was seen from the SYN, the server chose 1.3
// without a pre-shared key and sent encrypted records after its hello, and the client
// then sent, besides ChangeCipherSpec, exactly one encrypted record, of the length of an
// alert (19 bytes: 2 of alert, 1 of type, 16 of tag; 11 with CCM-8), before its FIN or
// RST. A client's first regular record there is at least 53 bytes (Finished of SHA-256), and
// EndOfEarlyData (21) needs the pre-shared key. It tells that the client gave up the
// handshake, most often over the certificate; why is unobservable.

// Record types (RFC 8446, section 5.1).
const (
	recordCCS       = 20
	recordAlert     = 21
	recordHandshake = 22
	recordData      = 23
	recordHeartbeat = 24 // RFC 6520
)

// Handshake types (RFC 8446, section 4).
const (
	helloClient     = 1
	helloServer     = 2
	typeCertificate = 11
)

const (
	recordHead   = 5
	maxRecord    = 1<<14 + 2048 // ciphertext of TLS 1.2 (RFC 5246, section 6.2.3)
	maxHandshake = 32 << 10     // gathered of one handshake message
	versionTLS13 = 0x0304
	alertGCM     = 19
	alertCCM8    = 11
)

// tlsState is what a flow's handshake showed.
type tlsState struct {
	serverName []byte
	clientSeen bool
	client     Side
	version    uint16 // chosen; 0 before the server's hello
	psk        bool
	early      bool   // the client sent encrypted records before the server's hello
	answered   bool   // the server sent encrypted records after its hello
	records    uint32 // encrypted records of the client after the server's hello
	lastLength int    // of the last of them
	judged     bool
}

// recordState is where a direction is within a TLS record and handshake message.
type recordState struct {
	remain    int // bytes of the present handshake record still to come
	skip      int // bytes of the present handshake message still to be passed over
	encrypted bool
}

// resumeTLS accepts a chain of plausible record heads.
func resumeTLS(work []byte) verdict {
	for i := 0; ; i++ {
		if len(work) < recordHead {
			if i > 0 {
				return yes
			}
			for j, c := range work {
				if j == 0 && (c < recordCCS || c > recordHeartbeat) || j == 1 && c != 3 || j == 2 && c > 4 {
					return no
				}
			}
			return more
		}
		n := int(work[3])<<8 | int(work[4])
		if work[0] < recordCCS || work[0] > recordHeartbeat || work[1] != 3 || work[2] > 4 || n == 0 || n > maxRecord {
			return no
		}
		if len(work) < recordHead+n {
			return yes
		}
		work = work[recordHead+n:]
		if len(work) == 0 {
			return yes
		}
	}
}

// detectTLS recognises the first record of a direction: a hello, or an alert in the
// clear; application data only on the usual ports, and nothing is told from it.
func detectTLS(key Key, work []byte) verdict {
	v := resumeTLS(work)
	if v != yes {
		return v
	}
	if len(work) < recordHead+1 {
		return more
	}
	n := int(work[3])<<8 | int(work[4])
	switch work[0] {
	case recordHandshake:
		if c := work[recordHead]; (c == helloClient || c == helloServer) && n >= 4 {
			if len(work) > recordHead+1 && work[recordHead+1] != 0 {
				return no // a hello is shorter than 64 KiB
			}
			return yes
		}
	case recordAlert:
		if n != 2 {
			break
		}
		if len(work) < recordHead+2 {
			return more
		}
		if l := work[recordHead]; (l == 1 || l == 2) && alertName(work[recordHead+1]) != "" {
			return yes
		}
	}
	for _, p := range [...]uint16{443, 853, 4433, 8443, 8883, 5061, 993, 995, 465, 636} {
		if key.port(p) {
			return yes
		}
	}
	return no
}

// tls takes one record head, or what is there of a handshake record.
func (t *Table) tls(f *flow, h *half, work []byte, wall int64) (int, bool) {
	if h.record.remain > 0 {
		n := min(h.record.remain, len(work))
		h.record.remain -= n
		return n, t.gather(f, h, work[:n], wall)
	}
	if len(work) < recordHead {
		return 0, resumeTLS(work) != no
	}
	n := int(work[3])<<8 | int(work[4])
	kind := work[0]
	if kind < recordCCS || kind > recordHeartbeat || work[1] != 3 || work[2] > 4 || n > maxRecord || n == 0 && kind != recordData {
		return 0, false
	}
	s := &f.tls
	switch kind {
	case recordCCS:
		if s.version != versionTLS13 {
			h.record.encrypted = true
		}
		h.skip = uint64(n)
	case recordData:
		t.tlsData(f, h, n)
		h.skip = uint64(n)
	case recordHeartbeat:
		h.skip = uint64(n)
	case recordAlert:
		if n != 2 || h.record.encrypted {
			t.drop(DropEncryptedAlert)
			h.skip = uint64(n)
			break
		}
		if len(work) < recordHead+2 {
			return 0, true
		}
		if !t.tlsAlert(f, h, work[recordHead], work[recordHead+1], wall) {
			return 0, false
		}
		return recordHead + 2, true
	case recordHandshake:
		if h.record.encrypted {
			h.skip = uint64(n)
			break
		}
		h.record.remain = n
	}
	return recordHead, true
}

func (t *Table) tlsData(f *flow, h *half, n int) {
	s := &f.tls
	switch {
	case !s.clientSeen:
	case h.side != s.client:
		s.answered = s.answered || s.version != 0
	case s.version == 0:
		s.early = true
	default:
		s.records++
		s.lastLength = n
	}
}

// gather puts handshake messages together from the bytes of records, and parses each
// once it is whole; of a certificate message only the first certificate is awaited.
func (t *Table) gather(f *flow, h *half, data []byte, wall int64) bool {
	for len(data) > 0 {
		if h.record.skip > 0 {
			n := min(h.record.skip, len(data))
			h.record.skip -= n
			data = data[n:]
			continue
		}
		work := data
		own := len(h.handshake) > 0
		if own {
			b, ok := t.grow(f, h.handshake, len(h.handshake)+len(data))
			if !ok {
				return t.giveUpHandshake(h)
			}
			h.handshake = append(b, data...)
			work = h.handshake
		}
		n, ok := t.handshake(f, h, work, wall)
		if !ok {
			return false
		}
		if n == 0 { // wants more
			if len(work) > maxHandshake {
				return t.giveUpHandshake(h)
			}
			if !own {
				b, ok := t.grow(f, nil, len(work))
				if !ok {
					return t.giveUpHandshake(h)
				}
				h.handshake = append(b, work...)
			}
			return true
		}
		rest := len(work) - min(n, len(work))
		h.record.skip = n - (len(work) - rest)
		data = data[len(data)-rest:]
		t.release(f, h.handshake)
		h.handshake = nil
	}
	return true
}

// giveUpHandshake passes over the rest of the handshake in this direction.
func (t *Table) giveUpHandshake(h *half) bool {
	t.drop(DropTooLarge)
	h.record.encrypted = true
	h.record.skip = h.record.remain
	return true
}

// handshake parses the message at the start of work and gives its length, which may
// exceed what is there; 0 wants more.
func (t *Table) handshake(f *flow, h *half, work []byte, wall int64) (int, bool) {
	if len(work) < 4 {
		return 0, true
	}
	kind := work[0]
	n := 4 + (int(work[1])<<16 | int(work[2])<<8 | int(work[3]))
	switch kind {
	case helloClient, helloServer:
		if n > maxHandshake {
			return 0, false
		}
		if len(work) < n {
			return 0, true
		}
		h.messages++
		if kind == helloClient {
			return n, t.clientHello(f, h, work[4:n], wall)
		}
		return n, t.serverHello(f, h, work[4:n], wall)
	case typeCertificate:
		if f.tls.version == versionTLS13 || f.tls.version == 0 || h.side == f.tls.client && f.tls.clientSeen {
			return n, true
		}
		if n < 10 {
			return n, true // an empty list
		}
		if len(work) < 10 {
			return 0, true
		}
		leaf := int(work[7])<<16 | int(work[8])<<8 | int(work[9])
		if leaf == 0 || 10+leaf > n {
			return 0, false
		}
		if len(work) < 10+leaf {
			return 0, true
		}
		h.messages++
		t.certificate(f, h, work[10:10+leaf], wall)
		return n, true
	}
	return n, true
}

func (t *Table) tlsAlert(f *flow, h *half, level, number byte, wall int64) bool {
	name := alertName(number)
	if level != 1 && level != 2 || name == "" {
		return false
	}
	h.messages++
	b := t.begin(TLSAlert, TLS, f.key, h.side, h.bufTime, wall)
	b.msg.Status = int(number)
	b.msg.Fatal = level == 2
	b.num("tls.alert", float64(number))
	b.str("tls.alert.name", name)
	b.num("tls.alert.level", float64(level))
	t.send()
	return true
}

// tlsEnded judges a handshake that the client ended, see above.
func (t *Table) tlsEnded(f *flow, h *half, s *Segment) {
	x := &f.tls
	if x.judged || !x.clientSeen || h.side != x.client {
		return
	}
	x.judged = true
	if f.lossy || !h.fresh || !f.half[h.side^1].fresh || len(f.half[A].held)+len(f.half[B].held) > 0 || h.skip > 0 || len(h.buf) > 0 {
		return
	}
	if x.version != versionTLS13 || x.psk || x.early || !x.answered || x.records != 1 ||
		x.lastLength != alertGCM && x.lastLength != alertCCM8 {
		return
	}
	b := t.begin(TLSRejected, TLS, f.key, h.side, s.Time, s.Wall)
	b.str("tls.rejected_by", "client")
	if len(x.serverName) > 0 {
		b.raw("tls.server_name", x.serverName)
	}
	t.send()
}
