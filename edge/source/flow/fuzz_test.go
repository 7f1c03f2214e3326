package flow

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/strata-edge/strata/bpf"
	"github.com/strata-edge/strata/edge/diag"
)

// FuzzHarvest gives the engine arbitrary kernel entries in turn: values of any kind, that
// go backwards and come back, and payload records. Nothing may panic, and nothing that is
// emitted may be negative, infinite or without a scope.
func FuzzHarvest(f *testing.F) {
	key, value := kernelFlow("10.0.0.2:40000", "203.0.113.9:443", 2)
	seed, err := binary.Append(nil, binary.LittleEndian, value)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed, []byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), uint64(origin), uint8(protoTCP))
	f.Add(seed[:40], []byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x04test\x00\x00\x01\x00\x01"), uint64(1), uint8(protoUDP))
	f.Fuzz(func(t *testing.T, raw, payload []byte, at uint64, proto uint8) {
		p := &fakeProbe{key: key}
		p.key.Proto = proto
		e := newTestEngine(t, NewTables(p))
		now := diag.Time(at >> 1)
		size := binary.Size(p.value)
		for step := 0; step < 3; step++ {
			buf := make([]byte, size)
			if len(raw) > 0 {
				copy(buf, raw[step*len(raw)/3:])
			}
			if _, err := binary.Decode(buf, binary.LittleEndian, &p.value); err != nil {
				t.Fatal(err)
			}
			rec := bpf.Payload{Data: payload}
			rec.Key, rec.Time, rec.PayloadLen = p.key, uint64(now), uint32(len(payload))
			if len(raw) > 8 {
				rec.Seq, rec.TCPFlags, rec.Dir = binary.LittleEndian.Uint32(raw[step:]), raw[5], raw[6]&1
				rec.Flags, rec.Offset = bpf.PayloadFlag(raw[7]), uint32(raw[8])
			}
			var s Payload
			Segment(&rec, &s)
			e.Payload(&s)
			err := e.Harvest(now, func(s diag.Signal) {
				if s.Value < 0 || math.IsNaN(s.Value) || math.IsInf(s.Value, 0) || s.Scope.IsZero() || s.Name == "" {
					t.Errorf("step %d: %+v", step, s)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			now = now.Add(Interval)
		}
	})
}
