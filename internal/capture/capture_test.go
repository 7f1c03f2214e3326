package capture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/strata-edge/strata/internal/testreq"
)

// oracle gives the packet counts of the public captures.
func oracle(tb testing.TB) (dir string, packets map[string]int) {
	tb.Helper()
	dir = filepath.Join(testreq.Data(tb), "captures")
	text, err := os.ReadFile(filepath.Join(dir, "oracle.tsv"))
	if err != nil {
		testreq.Missing(tb, "data", err.Error())
	}
	packets = map[string]int{}
	for _, line := range strings.Split(string(text), "\n")[1:] {
		if f := strings.Split(line, "\t"); len(f) > 2 {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				tb.Fatalf("oracle.tsv: %q: %v", line, err)
			}
			packets[f[0]] = n
		}
	}
	return dir, packets
}

// TestPacketsOfEveryCapture reads each public capture and expects exactly Wireshark's
// number of packets.
func TestPacketsOfEveryCapture(t *testing.T) {
	dir, want := oracle(t)
	links, damaged := map[int]int{}, 0
	for name, n := range want {
		r, err := Open(filepath.Join(dir, name))
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		var p Packet
		got := 0
		for err = r.Next(&p); err == nil; err = r.Next(&p) {
			got++
			if p.Skipped {
				links[p.LinkType]++
			}
			if len(p.Frame) > p.OrigLen {
				t.Errorf("%s: packet %d: %d bytes of %d", name, got, len(p.Frame), p.OrigLen)
			}
		}
		if !errors.Is(err, io.EOF) {
			damaged++
			t.Logf("%s: after %d packets: %v", name, got, err)
		}
		// Of a damaged file Wireshark may show one packet more: it guesses at layouts that
		// libpcap refuses as we do.
		if got != n && (errors.Is(err, io.EOF) || got != n-1) {
			t.Errorf("%s: %d packets, want %d (%v)", name, got, n, err)
		}
		r.Close()
	}
	t.Logf("%d captures, %d damaged; packets skipped by link type: %v", len(want), damaged, links)
}

func legacyFile(order binary.ByteOrder, magic uint32, link uint32, frames ...[]byte) []byte {
	var b bytes.Buffer
	h := make([]byte, 24)
	order.PutUint32(h, magic)
	order.PutUint32(h[20:], link)
	b.Write(h)
	for i, f := range frames {
		p := make([]byte, 16)
		order.PutUint32(p, 1000)
		order.PutUint32(p[4:], uint32(i+5))
		order.PutUint32(p[8:], uint32(len(f)))
		order.PutUint32(p[12:], uint32(len(f)+10))
		b.Write(append(p, f...))
	}
	return b.Bytes()
}

func TestAdaptedLinks(t *testing.T) {
	ip := []byte{0x45, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19}
	mac := []byte{2, 3, 4, 5, 6, 7}
	cooked := append(append([]byte{0, 0, 0, 1, 0, 6}, mac...), 0, 0, 8, 0)
	cooked2 := append(append([]byte{8, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6}, mac...), 0, 0)
	for _, c := range []struct {
		name   string
		link   uint32
		header []byte
		mac    []byte
	}{
		{"raw", linkRaw, nil, nil},
		{"null", linkNull, []byte{2, 0, 0, 0}, nil},
		{"ppp", linkPPP, []byte{0xff, 3, 0, 0x21}, nil},
		{"cooked", linkCooked, cooked, mac},
		{"cooked 2", linkCooked2, cooked2, mac},
	} {
		file := legacyFile(binary.BigEndian, magicNano, c.link, append(bytes.Clone(c.header), ip...))
		r, err := New(bytes.NewReader(file))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		var p Packet
		if err := r.Next(&p); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		want := make([]byte, 14, 34)
		copy(want[6:], c.mac)
		want[12] = 8
		want = append(want, ip...)
		if !bytes.Equal(p.Frame, want) || p.OrigLen != 44 || p.Time != 1000*1e9+5 || p.Skipped {
			t.Errorf("%s: %+v", c.name, p)
		}
	}
}

func TestTruncatedFileGivesWhatWasRead(t *testing.T) {
	file := legacyFile(binary.LittleEndian, magicMicro, linkEthernet, make([]byte, 60), make([]byte, 60))
	r, err := New(bytes.NewReader(file[:len(file)-1]))
	if err != nil {
		t.Fatal(err)
	}
	var p Packet
	if err := r.Next(&p); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := r.Next(&p); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("got %v", err)
		}
	}
}

func TestNextDoesNotAllocate(t *testing.T) {
	file := legacyFile(binary.LittleEndian, magicMicro, linkCooked, func() (f [][]byte) {
		for range 300 {
			f = append(f, append([]byte{0, 0, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0, 8, 0}, make([]byte, 100)...))
		}
		return f
	}()...)
	r, err := New(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	var p Packet
	if n := testing.AllocsPerRun(200, func() {
		if err := r.Next(&p); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a packet", n)
	}
}

func FuzzReader(f *testing.F) {
	frame := append([]byte{0, 0, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0, 8, 0, 0x45}, make([]byte, 40)...)
	for _, link := range []uint32{linkEthernet, linkNull, linkPPP, linkRaw, linkCooked, linkCooked2, 147} {
		f.Add(legacyFile(binary.LittleEndian, magicMicro, link, frame, frame[:3], nil))
	}
	f.Add(legacyFile(binary.BigEndian, magicModified, linkEthernet, frame))
	section := []byte{10, 13, 13, 10, 28, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 28, 0, 0, 0}
	iface := []byte{1, 0, 0, 0, 28, 0, 0, 0, 1, 0, 0, 0, 0, 0, 4, 0, 9, 0, 1, 0, 9, 0, 0, 0, 28, 0, 0, 0}
	packet := []byte{6, 0, 0, 0, 36, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0, 1, 2, 3, 4, 36, 0, 0, 0}
	simple := []byte{3, 0, 0, 0, 20, 0, 0, 0, 4, 0, 0, 0, 1, 2, 3, 4, 20, 0, 0, 0}
	f.Add(bytes.Join([][]byte{section, iface, packet, simple}, nil))
	f.Fuzz(func(t *testing.T, file []byte) {
		r, err := New(bytes.NewReader(file))
		if err != nil {
			return
		}
		var p Packet
		for n := 0; r.Next(&p) == nil; n++ {
			if len(p.Frame) > p.OrigLen {
				t.Fatalf("%d bytes of %d", len(p.Frame), p.OrigLen)
			}
			if n > len(file) {
				t.Fatal("more packets than bytes")
			}
		}
	})
}

func BenchmarkNext(b *testing.B) {
	file := legacyFile(binary.LittleEndian, magicMicro, linkEthernet, make([]byte, 600))
	one := file[24:]
	b.SetBytes(int64(len(one)))
	r, err := New(io.MultiReader(bytes.NewReader(file[:24]), &endless{one: one}))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	var p Packet
	for b.Loop() {
		if err := r.Next(&p); err != nil {
			b.Fatal(err)
		}
	}
}

// endless repeats one packet.
type endless struct {
	one []byte
	at  int
}

func (e *endless) Read(to []byte) (int, error) {
	n := copy(to, e.one[e.at:])
	e.at = (e.at + n) % len(e.one)
	return n, nil
}
