package bpf

import (
	"bytes"
	"encoding/binary"
	"net/netip"
)

// segment describes a frame that a test makes.
type segment struct {
	from, to netip.AddrPort
	vlan     uint16
	flags    byte // TCP; 0 makes it UDP
	seq, ack uint32
	window   uint16
	ttl      byte
	payload  []byte
}

const (
	fin, syn, rst, psh, ack = 1, 2, 4, 8, 16
)

var (
	macA = [6]byte{2, 0, 0, 0, 0, 1}
	macB = [6]byte{2, 0, 0, 0, 0, 2}
)

func (s segment) frame() []byte {
	f := make([]byte, 0, 128+len(s.payload))
	f = append(append(f, macB[:]...), macA[:]...)
	if s.vlan != 0 {
		f = binary.BigEndian.AppendUint16(append(f, 0x81, 0), s.vlan)
	}
	proto, l4 := byte(17), make([]byte, 8)
	if s.flags != 0 {
		proto, l4 = 6, make([]byte, 20)
		binary.BigEndian.PutUint32(l4[4:], s.seq)
		binary.BigEndian.PutUint32(l4[8:], s.ack)
		l4[12], l4[13] = 5<<4, s.flags
		binary.BigEndian.PutUint16(l4[14:], s.window)
	} else {
		binary.BigEndian.PutUint16(l4[4:], uint16(8+len(s.payload)))
	}
	binary.BigEndian.PutUint16(l4, s.from.Port())
	binary.BigEndian.PutUint16(l4[2:], s.to.Port())
	ttl := s.ttl
	if ttl == 0 {
		ttl = 64
	}
	if s.from.Addr().Is4() {
		ip := make([]byte, 20)
		ip[0], ip[8], ip[9] = 0x45, ttl, proto
		binary.BigEndian.PutUint16(ip[2:], uint16(20+len(l4)+len(s.payload)))
		copy(ip[12:], s.from.Addr().AsSlice())
		copy(ip[16:], s.to.Addr().AsSlice())
		binary.BigEndian.PutUint16(ip[10:], internetSum(ip))
		f = append(append(f, 8, 0), ip...)
	} else {
		ip := make([]byte, 40)
		ip[0], ip[6], ip[7] = 0x60, proto, ttl
		binary.BigEndian.PutUint16(ip[4:], uint16(len(l4)+len(s.payload)))
		copy(ip[8:], s.from.Addr().AsSlice())
		copy(ip[24:], s.to.Addr().AsSlice())
		f = append(append(f, 0x86, 0xdd), ip...)
	}
	return append(append(f, l4...), s.payload...)
}

func internetSum(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

func ends(v6 bool) (client, server netip.AddrPort) {
	if v6 {
		return netip.MustParseAddrPort("[2001:db8::1]:40000"), netip.MustParseAddrPort("[2001:db8::2]:80")
	}
	return netip.MustParseAddrPort("192.0.2.1:40000"), netip.MustParseAddrPort("192.0.2.2:80")
}

func tcpFrame(v6 bool, payload int) []byte {
	from, to := ends(v6)
	return segment{from: from, to: to, flags: ack, seq: 1000, ack: 1, window: 500, payload: bytes.Repeat([]byte{'x'}, payload)}.frame()
}

func udpFrame(v6 bool, payload int) []byte {
	from, to := ends(v6)
	return segment{from: from, to: to, payload: bytes.Repeat([]byte{'x'}, payload)}.frame()
}
