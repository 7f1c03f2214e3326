package mqtt

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/strata-edge/strata/buffer"
	"github.com/strata-edge/strata/edge/diag"
)

var (
	at      = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	finding = diag.Finding{
		ID: "f1", Time: at, First: at.Add(-time.Minute), Last: at, Layer: 3, Cause: "l3.mtu.blackhole",
		Scope: diag.ScopeRef{Kind: "host", ID: "host:192.0.2.1"}, Confidence: 0.9, State: diag.StateOpen,
		Chain: []diag.Link{{Layer: 3, Scope: diag.Scope{Kind: diag.ScopeHost, ID: "192.0.2.1"}, Code: diag.Codes()[0].Code, Time: at, Value: 1}},
	}
)

func item(t testing.TB, f diag.Finding, s buffer.Stamp) buffer.Item {
	t.Helper()
	b, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	return buffer.Item{ID: 2, Payload: b, Stamp: s}
}

func TestEncode(t *testing.T) {
	synced := buffer.Stamp{Boot: "b", BootTime: 5, Wall: at, Synced: true}
	it := item(t, finding, synced)
	b, err := encode(it, false)
	if err != nil || string(b) != string(it.Payload) {
		t.Errorf("a finding of now goes as it is: %s, %v", b, err)
	}
	type wire struct {
		diag.Finding
		Historical bool   `json:"historical"`
		Clock      *clock `json:"clock"`
	}
	decode := func(it buffer.Item, historical bool) (w wire) {
		t.Helper()
		b, err := encode(it, historical)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &w); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		return w
	}
	if w := decode(it, true); !w.Historical || w.Clock != nil || !w.Time.Equal(at) {
		t.Errorf("historical: %+v", w)
	}
	unsynced := synced
	unsynced.Synced = false
	if w := decode(item(t, finding, unsynced), false); w.Clock == nil || w.Clock.Boot != "b" || w.Clock.BootTime != 5 || w.Historical {
		t.Errorf("unsynced: %+v", w)
	}
	it = item(t, finding, unsynced)
	it.Shift = time.Hour
	w := decode(it, true)
	if w.Clock != nil || !w.Time.Equal(at.Add(time.Hour)) || !w.First.Equal(at.Add(59*time.Minute)) || !w.Chain[0].Time.Equal(at.Add(time.Hour)) {
		t.Errorf("re-dated: %+v", w)
	}
	for _, s := range []string{"", "x", "[]", `"{}"`, "{"} {
		if b, err := encode(buffer.Item{Payload: []byte(s), Stamp: synced}, true); err == nil {
			t.Errorf("%q became %s", s, b)
		}
	}
	if b, err := encode(buffer.Item{Payload: []byte(" { } \n"), Stamp: synced}, true); err != nil || string(b) != `{"historical":true}` {
		t.Errorf("%s, %v", b, err)
	}
}

func FuzzEncode(f *testing.F) {
	b, err := json.Marshal(finding)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, int64(0), true)
	f.Add(b, int64(time.Hour), false)
	f.Add([]byte(`{"x":{}}`), int64(1), true)
	f.Fuzz(func(t *testing.T, b []byte, shift int64, historical bool) {
		out, err := encode(buffer.Item{Payload: b, Shift: time.Duration(shift), Stamp: buffer.Stamp{Boot: "b"}}, historical)
		if err == nil && json.Valid(b) && !json.Valid(out) {
			t.Fatalf("%s became %s", b, out)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	it := item(b, finding, buffer.Stamp{Boot: "b", Synced: true, Wall: at})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := encode(it, true); err != nil {
			b.Fatal(err)
		}
	}
}
