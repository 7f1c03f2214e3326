package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
)

// Block types, draft-ietf-opsawg-pcapng section 10.
const (
	blockInterface = 1
	blockPacket    = 2 // obsolete
	blockSimple    = 3
	blockEnhanced  = 6
)

const (
	optEnd        = 0
	optResolution = 9
	optOffset     = 14
)

// maxPorts bounds the interfaces of a section.
const maxPorts = 1 << 12

// port is one interface of a pcapng section. Ticks of a second: ten or two to a power.
type port struct {
	link    int
	snap    uint32
	ticks   uint64
	seconds int64 // added to every time
}

func (r *Reader) nextBlock(p *Packet) error {
	for {
		kind, body, err := r.block()
		if err != nil {
			return err
		}
		switch kind {
		case magicSection:
			r.ports = r.ports[:0]
		case blockInterface:
			err = r.addPort(body)
		case blockEnhanced, blockPacket, blockSimple:
			return r.packet(p, kind, body)
		}
		if err != nil {
			return err
		}
	}
}

// block reads one whole block and gives its body without the lengths.
func (r *Reader) block() (uint32, []byte, error) {
	h := r.head[:12]
	if n, err := io.ReadFull(r.in, h[:8]); err != nil {
		if n == 0 {
			return 0, nil, io.EOF
		}
		return 0, nil, fmt.Errorf("truncated in a block header: %w", short(err))
	}
	section := binary.BigEndian.Uint32(h) == magicSection
	if section {
		if _, err := io.ReadFull(r.in, h[8:12]); err != nil {
			return 0, nil, fmt.Errorf("truncated in a section header: %w", short(err))
		}
		switch magicOrder {
		case int(binary.LittleEndian.Uint32(h[8:])):
			r.order = binary.LittleEndian
		case int(binary.BigEndian.Uint32(h[8:])):
			r.order = binary.BigEndian
		default:
			return 0, nil, fmt.Errorf("section header with byte-order magic %x", h[8:12])
		}
	}
	if r.order == nil {
		return 0, nil, errors.New("no section header at the beginning")
	}
	kind, length := r.order.Uint32(h), r.order.Uint32(h[4:])
	rest := int64(length) - 8
	if section {
		kind, rest = magicSection, rest-4
	}
	if rest < 4 || length%4 != 0 || length > maxCapture {
		return 0, nil, fmt.Errorf("block of type %d with length %d", kind, length)
	}
	data, err := r.read(int(rest))
	if err != nil {
		return 0, nil, fmt.Errorf("truncated in a block of %d bytes: %w", length, err)
	}
	if again := r.order.Uint32(data[rest-4:]); again != length {
		return 0, nil, fmt.Errorf("block of length %d ends with length %d", length, again)
	}
	return kind, data[:rest-4], nil
}

func (r *Reader) addPort(body []byte) error {
	if len(body) < 8 {
		return fmt.Errorf("interface block with %d bytes", len(body))
	}
	if len(r.ports) == maxPorts {
		return fmt.Errorf("more than %d interfaces", maxPorts)
	}
	d := port{link: int(r.order.Uint16(body)), snap: r.order.Uint32(body[4:]), ticks: 1e6}
	for opts := body[8:]; len(opts) >= 4; {
		code, n := r.order.Uint16(opts), int(r.order.Uint16(opts[2:]))
		opts = opts[4:]
		if code == optEnd || n > len(opts) {
			break
		}
		switch {
		case code == optResolution && n == 1:
			ticks, err := resolution(opts[0])
			if err != nil {
				return err
			}
			d.ticks = ticks
		case code == optOffset && n == 8:
			d.seconds = int64(r.order.Uint64(opts))
		}
		opts = opts[min(len(opts), (n+3)&^3):]
	}
	r.ports = append(r.ports, d)
	return nil
}

func resolution(b byte) (uint64, error) {
	if b&0x80 != 0 {
		if b &= 0x7f; b < 63 {
			return 1 << b, nil
		}
		return 0, fmt.Errorf("time resolution 2^-%d", b)
	}
	if b > 19 {
		return 0, fmt.Errorf("time resolution 10^-%d", b)
	}
	return uint64(math.Pow10(int(b))), nil
}

// time turns ticks into nanoseconds since the epoch.
func (d *port) time(ticks uint64) int64 {
	hi, lo := bits.Mul64(ticks%d.ticks, 1e9)
	ns, _ := bits.Div64(hi, lo, d.ticks)
	return (int64(ticks/d.ticks)+d.seconds)*1e9 + int64(ns)
}

func (r *Reader) packet(p *Packet, kind uint32, body []byte) error {
	var at, captured, orig uint32
	var ticks uint64
	head := 20
	switch kind {
	case blockSimple:
		head = 4
	}
	if len(body) < head {
		return fmt.Errorf("packet block with %d bytes", len(body))
	}
	switch kind {
	case blockSimple:
		orig = r.order.Uint32(body)
		captured = min(orig, uint32(len(body)-head))
	case blockEnhanced:
		at = r.order.Uint32(body)
	case blockPacket:
		at = uint32(r.order.Uint16(body))
	}
	if kind != blockSimple {
		ticks = uint64(r.order.Uint32(body[4:]))<<32 | uint64(r.order.Uint32(body[8:]))
		captured, orig = r.order.Uint32(body[12:]), r.order.Uint32(body[16:])
	}
	if int64(at) >= int64(len(r.ports)) {
		return fmt.Errorf("packet of interface %d, %d are described", at, len(r.ports))
	}
	d := &r.ports[at]
	if kind == blockSimple && d.snap > 0 {
		captured = min(captured, d.snap)
	}
	if int64(captured) > int64(len(body)-head) {
		return fmt.Errorf("packet of %d bytes in a block of %d", captured, len(body))
	}
	p.Time = d.time(ticks)
	p.Interface = int(at)
	r.adapt(p, body[head:head+int(captured)], int(min(orig, maxCapture)), d.link)
	return nil
}
