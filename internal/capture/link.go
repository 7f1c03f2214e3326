package capture

import "encoding/binary"

// Link types, https://www.tcpdump.org/linktypes.html.
const (
	linkNull      = 0
	linkEthernet  = 1
	linkPPP       = 9
	linkRawBSD    = 12
	linkRawOther  = 14
	linkPPPHDLC   = 50
	linkRaw       = 101
	linkLoop      = 108
	linkCooked    = 113
	linkIPv4      = 228
	linkIPv6      = 229
	linkCooked2   = 276
	etherIPv4     = 0x0800
	etherIPv6     = 0x86dd
	etherLeast    = 0x0600
	ethernetBytes = 14
)

// madeHeader is the room kept before each frame for a made Ethernet header.
const madeHeader = ethernetBytes

// adapt makes data an Ethernet frame. orig is the length that the capture states.
//
// The made header takes the place of the capture's own, so OrigLen is the network
// layer's true length plus 14. Sender addresses of Linux cooked captures are kept,
// receivers are not known and left zero.
func (r *Reader) adapt(p *Packet, data []byte, orig, link int) {
	orig = max(orig, len(data))
	p.LinkType, p.WireLen, p.OrigLen, p.Frame, p.Skipped = link, orig, orig, data, false
	skip, ether := -1, 0
	var mac []byte
	switch link {
	case linkEthernet:
		return
	case linkRaw, linkRawBSD, linkRawOther, linkIPv4, linkIPv6:
		skip, ether = 0, version(data)
	case linkNull, linkLoop:
		// The address family's number differs between systems; the IP version does not.
		if len(data) > 4 {
			skip, ether = 4, version(data[4:])
		}
	case linkPPP, linkPPPHDLC:
		skip, ether = ppp(data)
	case linkCooked:
		if len(data) >= 16 {
			skip, ether = 16, int(binary.BigEndian.Uint16(data[14:]))
			if binary.BigEndian.Uint16(data[4:]) == 6 {
				mac = data[6:12]
			}
		}
	case linkCooked2:
		if len(data) >= 20 {
			skip, ether = 20, int(binary.BigEndian.Uint16(data))
			if data[11] == 6 {
				mac = data[12:18]
			}
		}
	}
	// Cooked captures give Linux's own numbers below 0x0600 to what has no EtherType.
	if skip < 0 || ether < etherLeast {
		p.Skipped = true
		return
	}
	// The payload sits in r.buf behind at least madeHeader bytes.
	start := cap(r.buf) - cap(data) + skip
	frame := r.buf[:cap(r.buf)][start-madeHeader : start+len(data)-skip]
	var from [6]byte
	copy(from[:], mac)
	clear(frame[:6])
	copy(frame[6:12], from[:])
	binary.BigEndian.PutUint16(frame[12:], uint16(ether))
	p.Frame, p.OrigLen = frame, orig-skip+ethernetBytes
}

// version gives the EtherType of an IP packet.
func version(ip []byte) int {
	if len(ip) == 0 {
		return 0
	}
	switch ip[0] >> 4 {
	case 4:
		return etherIPv4
	case 6:
		return etherIPv6
	}
	return 0
}

// ppp skips a PPP header, RFC 1661 section 2 and RFC 1662 section 3.1: address and
// control may be absent.
func ppp(data []byte) (skip, ether int) {
	if len(data) >= 2 && data[0] == 0xff && data[1] == 0x03 {
		skip = 2
	}
	if len(data) < skip+2 {
		return -1, 0
	}
	switch binary.BigEndian.Uint16(data[skip:]) {
	case 0x0021:
		return skip + 2, etherIPv4
	case 0x0057:
		return skip + 2, etherIPv6
	}
	return -1, 0
}
