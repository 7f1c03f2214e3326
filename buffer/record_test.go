package buffer

import (
	"bytes"
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestRecordRoundTrip(t *testing.T) {
	for _, r := range []Record{
		{},
		{Payload: []byte("{}"), Priority: Normal, Key: "f-1"},
		{Payload: bytes.Repeat([]byte{0xff}, MaxRecord), Key: strings.Repeat("k", maxKey), Stamp: Stamp{
			Boot: strings.Repeat("b", maxBoot), BootTime: 1<<63 - 1, Wall: time.Unix(1, 2).UTC(), Synced: true,
		}},
	} {
		id := makeID(r.Priority, 77)
		b, err := appendRecord([]byte("before"), id, &r)
		if err != nil {
			t.Fatal(err)
		}
		it, err := decodeRecord(id, b[len("before"):])
		if err != nil {
			t.Fatal(err)
		}
		if it.Key != r.Key || !bytes.Equal(it.Payload, r.Payload) || it.Priority != r.Priority || !reflect.DeepEqual(it.Stamp, r.Stamp) {
			t.Errorf("got %+v", it)
		}
		if _, err := decodeRecord(id+2, b[len("before"):]); !errors.Is(err, ErrRecord) {
			t.Errorf("under another id: %v", err)
		}
	}
	for _, r := range []Record{
		{Payload: make([]byte, MaxRecord+1)}, {Key: strings.Repeat("k", maxKey+1)},
		{Stamp: Stamp{Boot: strings.Repeat("b", maxBoot+1)}}, {Priority: lanes},
	} {
		if _, err := appendRecord(nil, 1, &r); err == nil {
			t.Error("an oversized record was encoded")
		}
	}
}

func FuzzRecord(f *testing.F) {
	good, err := appendRecord(nil, 3, &Record{Payload: []byte(`{"id":"x"}`), Priority: Normal, Key: "x", Stamp: Stamp{Boot: "b", Synced: true}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint64(3), good)
	f.Add(uint64(3), good[:recordHead])
	f.Add(uint64(2), []byte{})
	f.Fuzz(func(t *testing.T, id uint64, b []byte) {
		it, err := decodeRecord(ID(id), b)
		if err != nil {
			if !errors.Is(err, ErrRecord) {
				t.Fatal(err)
			}
			return
		}
		r := Record{Payload: it.Payload, Priority: it.Priority, Key: it.Key, Stamp: it.Stamp}
		again, err := appendRecord(nil, ID(id), &r)
		if len(it.Payload) <= MaxRecord && (err != nil || !bytes.Equal(again[recordHead:], b[recordHead:])) {
			t.Fatalf("%v\n% x\n% x", err, b, again)
		}
	})
}

// FuzzRecordHead gets behind the checksum: it is made right before decoding.
func FuzzRecordHead(f *testing.F) {
	f.Add([]byte{recordVersion, 1, 1, 2, 1}, []byte("bbkpayload"))
	f.Add([]byte{recordVersion, 0, 1, 0xff, 0xff}, []byte("short"))
	f.Fuzz(func(t *testing.T, head, rest []byte) {
		b := make([]byte, recordHead, recordHead+len(rest))
		copy(b[:crcAt], head)
		b = append(b, rest...)
		id := makeID(Normal, 9)
		crc := recordCRC(id, b)
		b[8], b[9], b[10], b[11] = byte(crc), byte(crc>>8), byte(crc>>16), byte(crc>>24)
		if it, err := decodeRecord(id, b); err == nil && len(it.Payload)+len(it.Key)+len(it.Stamp.Boot) != len(rest) {
			t.Fatalf("%+v of %d bytes", it, len(rest))
		}
	})
}

func FuzzFrame(f *testing.F) {
	r, err := appendRecord(nil, 3, &Record{Payload: []byte("x"), Priority: Normal})
	if err != nil {
		f.Fatal(err)
	}
	var b bytes.Buffer
	q := &Queue{}
	if err := q.frame(&b, 3, r); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(make([]byte, frameHead))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		for rd := bytes.NewReader(b); ; {
			if _, _, err := readFrame(rd); err != nil {
				return
			}
		}
	})
}

func FuzzState(f *testing.F) {
	var s state
	s.next = [lanes]uint64{5, 6}
	f.Add(s.encode(stateKey))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, ok := unseal(stateKey, b); ok {
			var s state
			s.decode(v)
		}
		var s state
		s.decode(b)
	})
}

func BenchmarkDecodeRecord(b *testing.B) {
	v, err := appendRecord(nil, 3, &Record{Payload: bytes.Repeat([]byte("x"), 400), Priority: Normal, Key: "f", Stamp: newClock().s})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(v)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decodeRecord(3, v); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPutAck is a burst: 16 records a commit, acknowledged in 64s, with fsync.
func BenchmarkPutAck(b *testing.B) {
	q := open(b, filepath.Join(b.TempDir(), FileName), Options{Sinks: []string{"a"}})
	c := sink(b, q, "a")
	batch := make([]Record, putBatch)
	for i := range batch {
		batch[i] = rec(strings.Repeat("x", 400))
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		put(b, q, batch...)
		n += putBatch
		for n >= ackBatch {
			items, err := c.Next(b.Context(), ackBatch)
			if err != nil {
				b.Fatal(err)
			}
			if err := c.Ack(ids(items)...); err != nil {
				b.Fatal(err)
			}
			n -= len(items)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/putBatch, "µs/record")
}

// BenchmarkOpenFull opens a file at its cap of 64 MiB, the child's check included.
func BenchmarkOpenFull(b *testing.B) {
	path := filepath.Join(b.TempDir(), FileName)
	q := open(b, path, Options{})
	batch := make([]Record, 256)
	for i := range batch {
		batch[i] = rec(strings.Repeat("x", 400))
	}
	for q.Stats().Lost[LostEvicted] == 0 {
		put(b, q, batch...)
	}
	for q.Stats().Lost[LostEvictedUrgent] == 0 && q.Stats().Urgent < 40_000 {
		for i := range batch {
			batch[i].Priority = Urgent
		}
		put(b, q, batch...)
	}
	s := q.Stats()
	b.Logf("%d normal, %d urgent, file %d bytes", s.Normal, s.Urgent, s.FileBytes)
	q.Close()
	for b.Loop() {
		q, rep, err := Open(path, Options{CheckCommand: SelfCheck()})
		if err != nil || rep.Damaged != "" {
			b.Fatal(err, rep)
		}
		q.Close()
	}
}

func TestDecodeAllocations(t *testing.T) {
	v, err := appendRecord(nil, 3, &Record{Payload: bytes.Repeat([]byte("x"), 400), Priority: Normal, Stamp: newClock().s})
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = decodeRecord(3, v) }); n > 2 { // the boot id, and eight bytes that escape into hash/crc32
		t.Errorf("%v allocations to decode a record", n)
	}
}
