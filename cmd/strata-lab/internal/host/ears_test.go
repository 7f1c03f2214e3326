package host

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
)

func arpFrame(ip [4]byte, station byte) []byte {
	f := make([]byte, 14+arpSize)
	binary.BigEndian.PutUint16(f[12:], etherARP)
	copy(f[14:], []byte{0, 1, 8, 0, 6, 4, 0, 1})
	copy(f[22:], []byte{2, 0, 0, 0, 0, station})
	copy(f[28:], ip[:])
	return f
}

func newEar() *ear { return &ear{heard: map[netip.Addr]map[string]struct{}{}} }

func TestEarKnowsWhoClaimed(t *testing.T) {
	e := newEar()
	e.hear(arpFrame([4]byte{192, 0, 2, 1}, 1))
	e.hear(arpFrame([4]byte{192, 0, 2, 1}, 1))
	e.hear(arpFrame([4]byte{192, 0, 2, 1}, 2))
	e.hear(arpFrame([4]byte{192, 0, 2, 9}, 2))
	e.hear(arpFrame([4]byte{0, 0, 0, 0}, 3)) // a probe claims nothing, RFC 5227 section 2.1.1
	got := map[string][]string{}
	e.claims(got)
	if len(got) != 2 || len(got["192.0.2.1"]) != 2 || len(got["192.0.2.9"]) != 1 {
		t.Errorf("claims %v", got)
	}
}

func FuzzEar(f *testing.F) {
	f.Add(arpFrame([4]byte{192, 0, 2, 1}, 1))
	f.Add(arpFrame([4]byte{}, 1)[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		e := newEar()
		e.hear(b)
		if len(e.heard) > 1 {
			t.Error("one frame makes one claim at most")
		}
	})
}

func BenchmarkEar(b *testing.B) {
	e, f := newEar(), arpFrame([4]byte{192, 0, 2, 1}, 1)
	b.SetBytes(int64(len(f)))
	b.ReportAllocs()
	for b.Loop() {
		e.hear(f)
	}
}

const someCounters = `Tcp: RtoAlgorithm RetransSegs
Tcp: 1 42
TcpExt: SyncookiesSent TCPToZeroWindowAdv
TcpExt: 0 7
`

func TestCountersAreReadInPairs(t *testing.T) {
	got := map[string]int64{}
	parsePairs(someCounters, got)
	if got["Tcp.RetransSegs"] != 42 || got["TcpExt.TCPToZeroWindowAdv"] != 7 || len(got) != 4 {
		t.Errorf("counters %v", got)
	}
}

func FuzzCounters(f *testing.F) {
	f.Add(someCounters)
	f.Add("Tcp: a\nTcp:\nTcp: b\nTcp: 1 2 3")
	f.Fuzz(func(t *testing.T, s string) {
		parsePairs(s, map[string]int64{})
	})
}

func BenchmarkCounters(b *testing.B) {
	text := string(bytes.Repeat([]byte(someCounters), 20))
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	out := map[string]int64{}
	for b.Loop() {
		parsePairs(text, out)
	}
}
