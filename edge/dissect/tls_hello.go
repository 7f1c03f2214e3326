package dissect

import "golang.org/x/crypto/cryptobyte"

func (t *Table) clientHello(f *flow, h *half, body []byte, wall int64) bool {
	in := cryptobyte.String(body)
	var version uint16
	var random []byte
	var session, ciphers, compression, extensions cryptobyte.String
	if !in.ReadUint16(&version) || !in.ReadBytes(&random, 32) || !in.ReadUint8LengthPrefixed(&session) ||
		!in.ReadUint16LengthPrefixed(&ciphers) || !in.ReadUint8LengthPrefixed(&compression) || version>>8 != 3 {
		return false
	}
	if !in.Empty() && !in.ReadUint16LengthPrefixed(&extensions) {
		return false
	}
	s := &f.tls
	if !s.clientSeen {
		s.clientSeen, s.client = true, h.side
	}
	b := t.begin(TLSClientHello, TLS, f.key, h.side, h.bufTime, wall)
	b.num("tls.handshake.type", helloClient)
	b.str("tls.handshake.type.name", "client_hello")
	offered := false
	var seen [64]bool
	for !extensions.Empty() {
		var id uint16
		var ext cryptobyte.String
		if !extensions.ReadUint16(&id) || !extensions.ReadUint16LengthPrefixed(&ext) {
			return false
		}
		if int(id) < len(seen) {
			if seen[id] {
				return false
			}
			seen[id] = true
		}
		var list cryptobyte.String
		switch id {
		case 0: // server_name (RFC 6066, section 3)
			var kind uint8
			var name cryptobyte.String
			if ext.Empty() {
				break
			}
			if !ext.ReadUint16LengthPrefixed(&list) || !list.ReadUint8(&kind) || !list.ReadUint16LengthPrefixed(&name) {
				return false
			}
			if kind == 0 && len(name) > 0 && len(name) <= 255 {
				s.serverName = append(s.serverName[:0], name...)
				b.raw("tls.server_name", name)
			}
		case 16: // ALPN (RFC 7301)
			if !ext.ReadUint16LengthPrefixed(&list) {
				return false
			}
			for !list.Empty() {
				var name cryptobyte.String
				if !list.ReadUint8LengthPrefixed(&name) {
					return false
				}
				if !grease8(name) {
					b.raw("tls.alpn", name)
				}
			}
		case 43: // supported_versions (RFC 8446, section 4.2.1)
			if !ext.ReadUint8LengthPrefixed(&list) {
				return false
			}
			for !list.Empty() {
				var v uint16
				if !list.ReadUint16(&v) {
					return false
				}
				if !grease(v) {
					b.num("tls.version_offered", float64(v))
					offered = true
				}
			}
		}
	}
	if !offered {
		b.num("tls.version_offered", float64(version))
	}
	count := 0
	for !ciphers.Empty() {
		var c uint16
		if !ciphers.ReadUint16(&c) {
			return false
		}
		if !grease(c) {
			count++
		}
	}
	b.num("tls.legacy_version", float64(version))
	b.num("tls.ciphers_offered", float64(count))
	t.send()
	return true
}

// grease tells reserved values (RFC 8701).
func grease(v uint16) bool { return v&0x0f0f == 0x0a0a && v>>8 == v&0xff }

func grease8(name []byte) bool {
	return len(name) == 2 && grease(uint16(name[0])<<8|uint16(name[1]))
}

// helloRetry is the random value that makes a server hello a retry request (RFC 8446,
// section 4.1.3: SHA-256 of "HelloRetryRequest").
const helloRetry = "\xcf\x21\xad\x74\xe5\x9a\x61\x11\xbe\x1d\x8c\x02\x1e\x65\xb8\x91\xc2\xa2\x11\x16\x7a\xbb\x8c\x5e\x07\x9e\x09\xe2\xc8\xa8\x33\x9c"

func (t *Table) serverHello(f *flow, h *half, body []byte, wall int64) bool {
	in := cryptobyte.String(body)
	var version, cipher uint16
	var compression uint8
	var random []byte
	var session, extensions cryptobyte.String
	if !in.ReadUint16(&version) || !in.ReadBytes(&random, 32) || version>>8 != 3 && version>>8 != 0x7f {
		return false
	}
	legacy := version
	if version>>8 == 3 && !in.ReadUint8LengthPrefixed(&session) {
		return false
	}
	// The drafts of 1.3 before 22 have neither session nor compression.
	draft := version>>8 == 0x7f
	if !in.ReadUint16(&cipher) || !draft && !in.ReadUint8(&compression) {
		return false
	}
	if !in.Empty() && !in.ReadUint16LengthPrefixed(&extensions) {
		return false
	}
	b := t.begin(TLSServerHello, TLS, f.key, h.side, h.bufTime, wall)
	b.num("tls.handshake.type", helloServer)
	b.str("tls.handshake.type.name", "server_hello")
	psk := false
	for !extensions.Empty() {
		var id uint16
		var ext, list, name cryptobyte.String
		if !extensions.ReadUint16(&id) || !extensions.ReadUint16LengthPrefixed(&ext) {
			return false
		}
		switch id {
		case 16:
			if !ext.ReadUint16LengthPrefixed(&list) || !list.ReadUint8LengthPrefixed(&name) {
				return false
			}
			b.raw("tls.alpn", name)
		case 41: // pre_shared_key
			psk = true
		case 43:
			if !ext.ReadUint16(&version) {
				return false
			}
		}
	}
	if version>>8 == 0x7f {
		version = versionTLS13 // a draft of it
	}
	b.num("tls.version", float64(version))
	if n := versionName(version); n != "" {
		b.str("tls.version.name", n)
	}
	b.num("tls.legacy_version", float64(legacy))
	b.num("tls.cipher", float64(cipher))
	if n := cipherName(cipher); n != "" {
		b.str("tls.cipher.name", n)
	}
	if version == versionTLS13 {
		b.str("tls.unobservable", "certificate")
		b.str("tls.unobservable", "alert")
	}
	b.msg.Status = int(version)
	s := &f.tls
	if string(random) == helloRetry {
		b.msg.Kind = TLSHelloRetry
		t.send()
		return true
	}
	if !s.clientSeen {
		s.clientSeen, s.client = true, h.side^1
	}
	s.version, s.psk, s.records = version, psk, 0
	t.send()
	return true
}
