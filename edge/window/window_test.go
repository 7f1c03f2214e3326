package window

import (
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/strata-edge/strata/edge/diag"
)

const sec = diag.Time(time.Second)

var (
	wan = diag.Scope{Kind: diag.ScopeIf, ID: "wan0"}
	hop = diag.Scope{Kind: diag.ScopeHost, ID: "192.0.2.1"}
	svc = diag.Scope{Kind: diag.ScopeService, ID: "tcp/198.51.100.7:80"}
	dsk = diag.Scope{Kind: diag.ScopeDisk, ID: "S1"}
)

func event(at diag.Time, c diag.Code, s diag.Scope, v float64, path ...diag.Scope) diag.Event {
	return diag.Event{Time: at, Code: c, Scope: s, Value: v, Path: path}
}

func value(eps []diag.Episode, s diag.Scope, c diag.Code) (v float64, ok bool) {
	for _, e := range eps {
		for i := range e.Nodes {
			if e.Nodes[i].Scope == s {
				if o := e.Nodes[i].Observation(c); o != nil {
					return o.Value, true
				}
			}
		}
	}
	return 0, false
}

func TestCountsAddUpAndLeave(t *testing.T) {
	w := New(Config{})
	for at := diag.Time(100); at < 100+12; at += 2 {
		w.Add(at*sec, event(at*sec, diag.CodeL4TcpRetransmit, svc, 3))
	}
	if v, _ := value(w.Episodes(111*sec), svc, diag.CodeL4TcpRetransmit); v != 15 {
		t.Errorf("sum over ten seconds is %g, want 15", v)
	}
	if v, _ := value(w.Episodes(117*sec), svc, diag.CodeL4TcpRetransmit); v != 6 {
		t.Errorf("sum six seconds later is %g, want 6", v)
	}
	if eps := w.Episodes(130 * sec); len(eps) != 0 || w.Stats().Scopes != 0 {
		t.Errorf("%d episodes and %d scopes after the window, want none", len(eps), w.Stats().Scopes)
	}
}

func TestLateEventsCountWhereTheyBelong(t *testing.T) {
	w := New(Config{})
	w.Add(100*sec, event(100*sec, diag.CodeL4TcpRetransmit, svc, 1))
	w.Add(100*sec, event(95*sec, diag.CodeL4TcpRetransmit, svc, 1))
	w.Add(100*sec, event(80*sec, diag.CodeL4TcpRetransmit, svc, 1))
	if v, _ := value(w.Episodes(100*sec), svc, diag.CodeL4TcpRetransmit); v != 2 {
		t.Errorf("sum is %g, want 2", v)
	}
	if w.Stats().Late != 1 {
		t.Errorf("%d late, want 1", w.Stats().Late)
	}
}

func TestStatesAndLevelsStand(t *testing.T) {
	w := New(Config{})
	e := event(100*sec, diag.CodeL1DiskDegraded, dsk, 1)
	if !w.Add(100*sec, e) {
		t.Error("the first report of a decisive state is not decisive")
	}
	e.Time = 160 * sec
	if w.Add(160*sec, e) {
		t.Error("a repeated state is decisive again")
	}
	level := event(100*sec, diag.CodeL1DiskWear, dsk, 95)
	level.Hold = 150 * time.Second
	w.Add(100*sec, level)
	eps := w.Episodes(240 * sec)
	if v, _ := value(eps, dsk, diag.CodeL1DiskDegraded); v != 1 {
		t.Error("the state is gone before its end")
	}
	if v, _ := value(eps, dsk, diag.CodeL1DiskWear); v != 95 {
		t.Error("the level is gone before its time")
	}
	w.Add(250*sec, event(250*sec, diag.CodeL1DiskDegraded, dsk, 0))
	if eps := w.Episodes(260 * sec); len(eps) != 0 {
		t.Errorf("%d episodes after the state's end and the level's time, want none", len(eps))
	}
}

func TestEpisodesJoinByPath(t *testing.T) {
	w := New(Config{})
	w.Add(0, event(0, diag.CodeL4TcpRetransmit, svc, 1, hop, wan))
	w.Add(0, event(0, diag.CodeL1DiskOverheated, dsk, 1))
	w.Add(0, event(0, diag.CodeL4TcpSegments, diag.Scope{Kind: diag.ScopeService, ID: "tcp/203.0.113.1:1"}, 9))
	eps := w.Episodes(sec)
	if len(eps) != 2 {
		t.Fatalf("%d episodes, want 2: the healthy service is none", len(eps))
	}
	var scopes []diag.Scope
	for _, n := range eps[0].Nodes {
		scopes = append(scopes, n.Scope)
	}
	if want := []diag.Scope{svc, hop, wan}; !reflect.DeepEqual(scopes, want) {
		t.Errorf("scopes %v, want %v", scopes, want)
	}
	if p := eps[0].Nodes[1].Path; !reflect.DeepEqual(p, []diag.Scope{wan}) {
		t.Errorf("the next hop's path is %v", p)
	}
}

// TestSameEventsSameEpisodes feeds the same events in another order within each slide.
func TestSameEventsSameEpisodes(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	var events []diag.Event
	for range 500 {
		s := diag.Scope{Kind: diag.ScopeService, ID: string(rune('a' + r.IntN(20)))}
		at := diag.Time(r.IntN(10)) * sec
		events = append(events, event(at, diag.CodeL4TcpRetransmit, s, float64(1+r.IntN(5)), hop, wan))
	}
	feed := func() []diag.Episode {
		w := New(Config{})
		for _, e := range events {
			w.Add(9*sec, e)
		}
		return w.Episodes(9 * sec)
	}
	first := feed()
	r.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
	for k, e := range feed() {
		for i := range e.Nodes {
			for j := range e.Nodes[i].Observations {
				if got, want := e.Nodes[i].Observations[j].Value, first[k].Nodes[i].Observations[j].Value; got != want {
					t.Fatalf("%s: %g, want %g", e.Nodes[i].Scope, got, want)
				}
			}
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	w := New(Config{MaxScopes: 100, MaxCodes: 2})
	w.Add(0, event(0, diag.CodeL1DiskDegraded, dsk, 1))
	for i := range diag.Time(1000) {
		s := diag.Scope{Kind: diag.ScopeHost, ID: time.Duration(i).String()}
		for _, c := range []diag.Code{diag.CodeL2ArpReply, diag.CodeL2ArpRequest, diag.CodeL2ArpUnanswered} {
			w.Add(i*sec/1000, event(i*sec/1000, c, s, 1))
		}
	}
	st := w.Stats()
	if st.Scopes != 100 || st.Evicted != 901 || st.Crowded != 1000 {
		t.Errorf("%+v, want 100 scopes, 901 evicted, 1000 crowded", st)
	}
	if v, _ := value(w.Episodes(sec), dsk, diag.CodeL1DiskDegraded); v != 1 {
		t.Error("a standing state was evicted for a host")
	}
}

func TestAddAllocatesNothing(t *testing.T) {
	w := New(Config{})
	e := event(0, diag.CodeL4TcpRetransmit, svc, 1, hop, wan)
	w.Add(0, e)
	if a := testing.AllocsPerRun(100, func() { e.Time += sec; w.Add(e.Time, e) }); a != 0 {
		t.Errorf("%g allocations an event", a)
	}
}

func BenchmarkAdd(b *testing.B) {
	w := New(Config{})
	e := event(0, diag.CodeL4TcpRetransmit, svc, 1, hop, wan)
	b.ReportAllocs()
	for b.Loop() {
		e.Time += sec / 1000
		w.Add(e.Time, e)
	}
}

func BenchmarkEpisodes200Scopes(b *testing.B) {
	w := New(Config{})
	for i := range 200 {
		s := diag.Scope{Kind: diag.ScopeService, ID: time.Duration(i).String()}
		for _, c := range []diag.Code{diag.CodeL4TcpSegments, diag.CodeL4TcpPayload, diag.CodeL4TcpRetransmit} {
			w.Add(sec, event(sec, c, s, 1, hop, wan))
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if len(w.Episodes(2*sec)) != 1 {
			b.Fatal("no episode")
		}
	}
}
