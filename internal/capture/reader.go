package capture

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// The magic numbers: draft-ietf-opsawg-pcap section 4, draft-ietf-opsawg-pcapng section
// 4.1, and the variant of old patched libpcaps, whose packet headers are 8 bytes longer.
const (
	magicMicro    = 0xa1b2c3d4
	magicNano     = 0xa1b23c4d
	magicModified = 0xa1b2cd34
	magicSection  = 0x0a0d0d0a
	magicOrder    = 0x1a2b3c4d
)

// maxCapture is the longest frame and the longest pcapng block that is believed. libpcap
// allows snap lengths up to 256 KiB; some tools write larger aggregates.
const maxCapture = 16 << 20

// Packet is one captured frame.
type Packet struct {
	Time      int64  // nanoseconds since the Unix epoch
	Frame     []byte // captured bytes as Ethernet; borrowed until the next call of Next
	OrigLen   int    // true length of the frame as Frame shows it, so at least len(Frame)
	WireLen   int    // true length as the capture says
	LinkType  int    // of the capture, LINKTYPE_…
	Interface int    // index within the capture
	Skipped   bool   // the link type is not handled: Frame is as captured
}

// Reader reads one capture.
type Reader struct {
	in     *bufio.Reader
	close  io.Closer
	order  binary.ByteOrder
	ng     bool
	legacy legacy
	ports  []port // pcapng interfaces of the section
	buf    []byte
	head   [32]byte
	err    error
}

// legacy is what a pcap file's header says.
type legacy struct {
	link   int
	scale  int64
	header int // bytes before each packet
}

// Open opens a capture file.
func Open(path string) (*Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	r, err := New(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	r.close = f
	return r, nil
}

// New reads the beginning of a capture.
func New(in io.Reader) (*Reader, error) {
	r := &Reader{in: bufio.NewReaderSize(in, 64<<10), buf: make([]byte, madeHeader, 4<<10)}
	magic, err := r.in.Peek(4)
	if err != nil {
		return nil, fmt.Errorf("read the magic number: %w", short(err))
	}
	if binary.BigEndian.Uint32(magic) == magicSection {
		r.ng = true
		return r, nil
	}
	if err := r.legacyHeader(); err != nil {
		return nil, err
	}
	return r, nil
}

// Close closes the file that Open has opened.
func (r *Reader) Close() error {
	if r.close == nil {
		return nil
	}
	return r.close.Close()
}

// Next reads the next packet. At the end it gives io.EOF; where the file is damaged, an
// error that says how, and the same again from then on: what was read before stands.
func (r *Reader) Next(p *Packet) error {
	if r.err == nil {
		if r.ng {
			r.err = r.nextBlock(p)
		} else {
			r.err = r.nextLegacy(p)
		}
	}
	return r.err
}

func (r *Reader) legacyHeader() error {
	var h [24]byte
	if _, err := io.ReadFull(r.in, h[:]); err != nil {
		return fmt.Errorf("read the pcap header: %w", short(err))
	}
	r.legacy.header = 16
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		r.order = order
		switch order.Uint32(h[:]) {
		case magicMicro:
			r.legacy.scale = 1000
		case magicNano:
			r.legacy.scale = 1
		case magicModified:
			r.legacy.scale, r.legacy.header = 1000, 24
		default:
			continue
		}
		// The upper bits hold the length of a frame check sequence.
		r.legacy.link = int(order.Uint32(h[20:]) & 0xffff)
		return nil
	}
	return fmt.Errorf("not a capture: magic number %x", h[:4])
}

func (r *Reader) nextLegacy(p *Packet) error {
	h := r.head[:r.legacy.header]
	if n, err := io.ReadFull(r.in, h); err != nil {
		if n == 0 {
			return io.EOF
		}
		return fmt.Errorf("truncated in a packet header: %w", short(err))
	}
	seconds, fraction := r.order.Uint32(h), r.order.Uint32(h[4:])
	captured, orig := r.order.Uint32(h[8:]), r.order.Uint32(h[12:])
	if captured > maxCapture {
		return fmt.Errorf("packet header announces %d bytes", captured)
	}
	data, err := r.read(int(captured))
	if err != nil {
		return fmt.Errorf("truncated in a packet of %d bytes: %w", captured, err)
	}
	p.Time = int64(seconds)*1e9 + int64(fraction)*r.legacy.scale
	p.Interface = 0
	r.adapt(p, data, int(min(orig, maxCapture)), r.legacy.link)
	return nil
}

// read reads n bytes behind the room that adapt may need for a made header. The buffer
// grows as bytes come, so that a false length costs no memory.
func (r *Reader) read(n int) ([]byte, error) {
	const step = 256 << 10
	for done := 0; done < n; {
		part := min(n-done, step)
		if need := madeHeader + done + part; need > cap(r.buf) {
			grown := make([]byte, need, max(need, 2*cap(r.buf)))
			copy(grown, r.buf[:madeHeader+done])
			r.buf = grown
		}
		r.buf = r.buf[:madeHeader+done+part]
		if _, err := io.ReadFull(r.in, r.buf[madeHeader+done:]); err != nil {
			return nil, short(err)
		}
		done += part
	}
	return r.buf[madeHeader : madeHeader+n], nil
}

func short(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
