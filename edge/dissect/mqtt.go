package dissect

import (
	"encoding/binary"
	"time"
	"unicode/utf8"
)

// MQTT 3.1, 3.1.1 (ISO/IEC 20922) and 5 (OASIS, 2019). Of CONNECT the fields up to the
// client id are read; will, user name and password lie behind it and are passed over, as
// is the payload of PUBLISH.

// Control packet types (MQTT 5, section 2.1.2).
const (
	mqttConnect    = 1
	mqttConnack    = 2
	mqttPublish    = 3
	mqttPuback     = 4
	mqttPubrec     = 5
	mqttPubrel     = 6
	mqttPubcomp    = 7
	mqttSubscribe  = 8
	mqttSuback     = 9
	mqttUnsub      = 10
	mqttUnsuback   = 11
	mqttPingreq    = 12
	mqttPingresp   = 13
	mqttDisconnect = 14
	mqttAuth       = 15
)

const (
	mqttPort    = 1883
	maxMQTTText = 1024    // topic or client id that is told
	maxMQTTHead = 8 << 10 // of a packet that is gathered
)

// mqttState pairs CONNACK with CONNECT.
type mqttState struct {
	level     byte // protocol level of CONNECT: 3, 4 or 5; 0 where not seen
	connected int64
	asked     bool
}

// mqttHead is a fixed header.
type mqttHead struct {
	kind, flags byte
	size        int // of the header
	remain      int // of what follows
}

// readMQTTHead reads a fixed header: more where it is not whole.
func readMQTTHead(b []byte) (mqttHead, verdict) {
	var x mqttHead
	if len(b) == 0 {
		return x, more
	}
	x.kind, x.flags = b[0]>>4, b[0]&15
	if !x.valid() {
		return x, no
	}
	for i := 1; ; i++ {
		if i > 4 {
			return x, no
		}
		if i >= len(b) {
			return x, more
		}
		x.remain |= int(b[i]&0x7f) << (7 * (i - 1))
		if b[i] < 0x80 {
			x.size = i + 1
			break
		}
	}
	return x, x.sized()
}

// valid holds the flags against section 2.1.3.
func (x *mqttHead) valid() bool {
	switch x.kind {
	case 0:
		return false
	case mqttPublish:
		return x.flags&6 != 6
	case mqttPubrel, mqttSubscribe, mqttUnsub:
		// 3.1 allowed DUP and put the QoS there.
		return x.flags&7 == 2
	}
	return x.flags == 0
}

// sized holds the remaining length against what the type can have.
func (x *mqttHead) sized() verdict {
	ok := true
	switch x.kind {
	case mqttConnect:
		ok = x.remain >= 10
	case mqttConnack, mqttPuback, mqttPubrec, mqttPubrel, mqttPubcomp, mqttUnsuback:
		ok = x.remain >= 2
	case mqttPublish, mqttSuback:
		ok = x.remain >= 3
	case mqttSubscribe, mqttUnsub:
		ok = x.remain >= 5
	case mqttPingreq, mqttPingresp:
		ok = x.remain == 0
	}
	if ok {
		return yes
	}
	return no
}

// detectMQTT knows a CONNECT anywhere, other packets on the usual port only, and there
// only where the whole segment is a row of them.
func detectMQTT(key Key, h *half, work []byte) verdict {
	if v := connectMQTT(work); v != no || !key.port(mqttPort) {
		return v
	}
	return h.tiled(work)
}

// tiled accepts a direction after a hole or a late join: at once where the segment has
// what chance does not make (CONNECT, a lone CONNACK, a row of packets with a readable
// topic), else with the second segment in a row that consists of whole packets. Of the
// first nothing is told: the tail of a payload can look like a small packet.
func (h *half) tiled(work []byte) verdict {
	if connectMQTT(work) == yes || connackMQTT(work) {
		return yes
	}
	before := h.rows
	h.rows = tileMQTT(work) == yes
	if h.rows && (before || namedMQTT(work)) {
		return yes
	}
	return no
}

// namedMQTT tells whether the first packet of a row names a topic of three or more
// printable characters.
func namedMQTT(work []byte) bool {
	x, _ := readMQTTHead(work)
	body := work[x.size : x.size+x.remain]
	switch x.kind {
	case mqttPublish:
	case mqttSubscribe, mqttUnsub:
		body = body[2:]
		if len(body) > 2 && body[0] == 0 && body[1] == 0 {
			body = body[1:] // MQTT 5, no properties
		}
	default:
		return false
	}
	topic, _, ok := mqttText(body)
	if !ok || len(topic) < 3 {
		return false
	}
	for _, c := range topic {
		if c < ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}

// connackMQTT tells whether work is one CONNACK and nothing else.
func connackMQTT(work []byte) bool {
	x, v := readMQTTHead(work)
	if v != yes || x.kind != mqttConnack || len(work) != x.size+x.remain {
		return false
	}
	body := work[x.size:]
	if body[0] > 1 || connackName(body[1], x.remain == 2) == "" {
		return false
	}
	if x.remain == 2 {
		return body[1] < 6
	}
	n, size, v := mqttVarint(body[2:])
	return v == yes && 2+size+n == x.remain
}

func connectMQTT(work []byte) verdict {
	if len(work) == 0 || work[0] != mqttConnect<<4 {
		return no
	}
	x, v := readMQTTHead(work)
	if v != yes {
		return v
	}
	b := work[x.size:]
	for _, magic := range [...]string{"\x00\x04MQTT", "\x00\x06MQIsdp"} {
		n := min(len(b), len(magic))
		if string(b[:n]) != magic[:n] {
			continue
		}
		if len(b) <= len(magic) {
			return more
		}
		if l := b[len(magic)] &^ 0x80; l < 3 || l > 5 { // bit 7: a bridge
			return no
		}
		return yes
	}
	return no
}

// firstMQTT accepts what a server may send first.
func firstMQTT(work []byte) verdict {
	if v := connectMQTT(work); v != no {
		return v
	}
	x, v := readMQTTHead(work)
	if v == yes && x.kind != mqttConnack && x.kind != mqttAuth && x.kind != mqttDisconnect {
		return no
	}
	return v
}

// tileMQTT accepts a segment that consists of whole packets, each sound in itself.
func tileMQTT(work []byte) verdict {
	if len(work) < 2 {
		return no
	}
	for len(work) > 0 {
		x, v := readMQTTHead(work)
		if v != yes || len(work) < x.size+x.remain {
			return no
		}
		body := work[x.size : x.size+x.remain]
		switch x.kind {
		case mqttConnect:
			if connectMQTT(work) != yes {
				return no
			}
		case mqttConnack:
			if body[0] > 1 || x.remain == 2 && body[1] > 5 {
				return no
			}
		case mqttPublish:
			topic, _, ok := mqttText(body)
			if !ok || !mqttTopic(topic) {
				return no
			}
		case mqttSubscribe, mqttUnsub:
			if body[0] == 0 && body[1] == 0 {
				return no
			}
		case mqttPuback, mqttPubrec, mqttPubrel, mqttPubcomp, mqttSuback, mqttUnsuback:
			if body[0] == 0 && body[1] == 0 {
				return no
			}
		case mqttDisconnect, mqttAuth:
			if x.remain > 64 {
				return no
			}
		}
		work = work[x.size+x.remain:]
	}
	return yes
}

// mqttText reads a string with its two bytes of length.
func mqttText(b []byte) (text, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, b, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if len(b) < 2+n {
		return nil, b, false
	}
	return b[2 : 2+n], b[2+n:], true
}

// mqttTopic holds a topic name against section 4.7; an empty one stands for an alias.
func mqttTopic(b []byte) bool {
	for _, c := range b {
		if c == 0 || c == '#' || c == '+' {
			return false
		}
	}
	return utf8.Valid(b)
}

func (t *Table) mqtt(f *flow, h *half, work []byte, wall int64) (int, bool) {
	x, v := readMQTTHead(work)
	if v != yes {
		return 0, v == more
	}
	need := x.remain
	switch x.kind {
	case mqttPublish:
		// The topic is enough.
		if len(work) < x.size+2 {
			return 0, true
		}
		need = 2 + int(binary.BigEndian.Uint16(work[x.size:]))
		if need > x.remain {
			return 0, false
		}
	case mqttConnect:
		need = min(need, mqttConnectNeed(work[x.size:]))
	case mqttSubscribe, mqttUnsub:
		need = 2
	case mqttSuback, mqttUnsuback, mqttConnack, mqttDisconnect, mqttAuth:
		need = min(need, 256)
	}
	if need > maxMQTTHead {
		t.drop(DropTooLarge)
		h.skip = uint64(x.size + x.remain)
		n := min(len(work), x.size+x.remain)
		h.skip -= uint64(n)
		return n, true
	}
	if len(work) < x.size+need {
		return 0, true
	}
	body := work[x.size:]
	body = body[:min(len(body), x.remain)]
	h.messages++
	if !t.mqttPacket(f, h, x, body, wall) {
		return 0, false
	}
	h.skip = uint64(x.remain - len(body))
	return x.size + len(body), true
}

// mqttConnectNeed tells how much of a CONNECT reaches to the end of the client id, as
// far as that can be told by now.
func mqttConnectNeed(b []byte) int {
	_, rest, ok := mqttText(b)
	if !ok || len(rest) < 4 {
		return 16
	}
	used := len(b) - len(rest) + 4
	if rest[0]&0x7f == 5 {
		n, size, v := mqttVarint(b[used:])
		if v != yes {
			return used + 4
		}
		used += size + n
	}
	if len(b) < used+2 {
		return used + 2
	}
	return used + 2 + int(binary.BigEndian.Uint16(b[used:]))
}

func mqttVarint(b []byte) (n, size int, v verdict) {
	for i := range 4 {
		if i >= len(b) {
			return 0, 0, more
		}
		n |= int(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			return n, i + 1, yes
		}
	}
	return 0, 0, no
}

func (t *Table) mqttPacket(f *flow, h *half, x mqttHead, body []byte, wall int64) bool {
	b := t.begin(MQTTPacket, MQTT, f.key, h.side, h.bufTime, wall)
	b.num("mqtt.packet", float64(x.kind))
	b.str("mqtt.packet.name", mqttName(x.kind))
	switch x.kind {
	case mqttConnect:
		return t.mqttConnect(f, h, body)
	case mqttConnack:
		if body[0] > 1 {
			return false
		}
		b.msg.Kind = MQTTConnack
		b.msg.Status = int(body[1])
		if f.mqtt.asked && h.bufTime >= f.mqtt.connected {
			b.msg.Paired = true
			b.msg.Elapsed = time.Duration(h.bufTime - f.mqtt.connected)
		}
		f.mqtt.asked = false
		if f.mqtt.level == 0 && x.remain > 2 {
			f.mqtt.level = 5
		}
		b.reason(body[1], connackName(body[1], x.remain == 2))
		b.num("mqtt.session_present", float64(body[0]))
	case mqttPublish:
		topic, _, ok := mqttText(body)
		if !ok || !mqttTopic(topic) {
			return false
		}
		b.msg.Kind = MQTTPublish
		if len(topic) > 0 && len(topic) <= maxMQTTText {
			b.raw("mqtt.topic", topic)
		}
		b.num("mqtt.qos", float64(x.flags>>1&3))
	case mqttDisconnect:
		b.msg.Kind = MQTTDisconnect
		b.msg.Status = 0
		if x.remain > 0 {
			b.msg.Status = int(body[0])
			b.reason(body[0], reasonName(body[0]))
		}
	case mqttPingreq, mqttPingresp:
		b.msg.Kind = MQTTPing
	case mqttPuback, mqttPubrec, mqttPubrel, mqttPubcomp:
		if x.remain > 2 && body[2] >= 0x80 {
			b.msg.Status = int(body[2])
			b.reason(body[2], reasonName(body[2]))
		}
	case mqttSuback:
		if f.mqtt.level == 3 || f.mqtt.level == 4 {
			for _, c := range body[2:] {
				if c == 0x80 {
					b.msg.Status = int(c)
					b.reason(c, "failure")
					break
				}
			}
		}
	}
	t.send()
	return true
}

func (b *builder) reason(code byte, name string) {
	b.num("mqtt.reason", float64(code))
	if name != "" {
		b.str("mqtt.reason.name", name)
	}
}

func (t *Table) mqttConnect(f *flow, h *half, body []byte) bool {
	name, rest, ok := mqttText(body)
	if !ok || len(rest) < 4 || string(name) != "MQTT" && string(name) != "MQIsdp" {
		return false
	}
	level := rest[0] & 0x7f
	keepAlive := binary.BigEndian.Uint16(rest[2:])
	rest = rest[4:]
	if level == 5 {
		n, size, v := mqttVarint(rest)
		if v != yes || len(rest) < size+n {
			return false
		}
		rest = rest[size+n:]
	}
	id, _, ok := mqttText(rest)
	if !ok || !utf8.Valid(id) {
		return false
	}
	f.mqtt = mqttState{level: level, connected: h.bufTime, asked: true}
	b := &t.out
	b.msg.Kind = MQTTConnect
	if len(id) > 0 && len(id) <= maxMQTTText {
		b.raw("mqtt.client_id", id)
	}
	b.num("mqtt.protocol_level", float64(level))
	b.num("mqtt.keep_alive", float64(keepAlive))
	t.send()
	return true
}
