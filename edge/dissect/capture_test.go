package dissect

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"os"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// capturePacket is one frame of a capture.
type capturePacket struct {
	link layers.LinkType
	info gopacket.CaptureInfo
	data []byte
}

// readCapture gives the frames of a pcap or pcapng file, as far as it can be read.
func readCapture(tb testing.TB, path string) []capturePacket {
	tb.Helper()
	file, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer file.Close()
	in := bufio.NewReader(file)
	magic, _ := in.Peek(4)
	var next func() ([]byte, gopacket.CaptureInfo, error)
	var link layers.LinkType
	if len(magic) == 4 && binary.BigEndian.Uint32(magic) == 0x0a0d0d0a {
		r, err := pcapgo.NewNgReader(in, pcapgo.DefaultNgReaderOptions)
		if err != nil {
			return nil
		}
		next, link = r.ReadPacketData, r.LinkType()
	} else {
		r, err := pcapgo.NewReader(in)
		if err != nil {
			return nil
		}
		next, link = r.ReadPacketData, r.LinkType()
	}
	var all []capturePacket
	for {
		data, info, err := next()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				tb.Logf("%s: %v", path, err)
			}
			return all
		}
		all = append(all, capturePacket{link, info, data})
	}
}

// segmentOf takes the outermost TCP or UDP of a frame; fragments are passed over.
func segmentOf(p capturePacket, initiators map[Key]Side) (Segment, bool) {
	b, kind := p.data, uint16(0)
	switch p.link {
	case layers.LinkTypeEthernet:
		if len(b) < 14 {
			return Segment{}, false
		}
		kind, b = binary.BigEndian.Uint16(b[12:]), b[14:]
		for (kind == 0x8100 || kind == 0x88a8 || kind == 0x9100) && len(b) >= 4 {
			kind, b = binary.BigEndian.Uint16(b[2:]), b[4:]
		}
	case layers.LinkTypeLinuxSLL:
		if len(b) < 16 {
			return Segment{}, false
		}
		kind, b = binary.BigEndian.Uint16(b[14:]), b[16:]
	case layers.LinkTypeNull, layers.LinkTypeLoop:
		if len(b) < 4 {
			return Segment{}, false
		}
		b = b[4:]
	case layers.LinkTypeRaw, 12, 14:
	default:
		return Segment{}, false
	}
	if kind == 0 && len(b) > 0 {
		switch b[0] >> 4 {
		case 4:
			kind = 0x0800
		case 6:
			kind = 0x86dd
		}
	}
	var src, dst netip.Addr
	var proto byte
	var total int
	switch {
	case kind == 0x0800 && len(b) >= 20 && b[0]>>4 == 4:
		head := int(b[0]&15) * 4
		total = int(binary.BigEndian.Uint16(b[2:])) - head
		if total+head == 0 { // TCP segmentation offload
			total = p.info.Length - (len(p.data) - len(b)) - head
		}
		if head < 20 || len(b) < head || binary.BigEndian.Uint16(b[6:])&0x3fff != 0 {
			return Segment{}, false
		}
		src, dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
		proto, b = b[9], b[head:]
	case kind == 0x86dd && len(b) >= 40 && b[0]>>4 == 6:
		total = int(binary.BigEndian.Uint16(b[4:]))
		src, dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
		proto, b = b[6], b[40:]
		for (proto == 0 || proto == 60) && len(b) >= 8 {
			n := int(b[1])*8 + 8
			if len(b) < n {
				return Segment{}, false
			}
			proto, b, total = b[0], b[n:], total-n
		}
	default:
		return Segment{}, false
	}
	if total < 0 {
		return Segment{}, false
	}
	b = b[:min(len(b), total)]
	s := Segment{Time: p.info.Timestamp.UnixNano(), Wall: p.info.Timestamp.UnixNano()}
	switch proto {
	case 6:
		if len(b) < 20 {
			return Segment{}, false
		}
		head := int(b[12]>>4) * 4
		if head < 20 || head > total {
			return Segment{}, false
		}
		s.Seq, s.Ack = binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])
		for bit, f := range map[byte]Flags{1: FIN, 2: SYN, 4: RST, 16: ACK} {
			if b[13]&bit != 0 {
				s.Flags |= f
			}
		}
		s.Length = total - head
		if head > len(b) {
			head = len(b)
		}
		s.Payload = b[head:]
	case 17:
		if len(b) < 8 {
			return Segment{}, false
		}
		s.Length = total - 8
		if n := int(binary.BigEndian.Uint16(b[4:])); n >= 8 && n-8 < s.Length {
			s.Length = n - 8
		}
		s.Payload = b[8:]
		s.Payload = s.Payload[:min(len(s.Payload), s.Length)]
	default:
		return Segment{}, false
	}
	from := netip.AddrPortFrom(src, binary.BigEndian.Uint16(b))
	to := netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[2:]))
	key := Key{A: from, B: to, Proto: Proto(proto)}
	if to.Compare(from) < 0 {
		key.A, key.B = to, from
	}
	side, ok := initiators[key]
	if !ok {
		if key.B == from {
			side = B
		}
		initiators[key] = side
	}
	if side == B {
		key.A, key.B = key.B, key.A
	}
	s.Key = key
	if key.B == from && from != to {
		s.From = B
	}
	return s, true
}
