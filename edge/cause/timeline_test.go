package cause_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/strata-edge/strata/edge/cause"
	"github.com/strata-edge/strata/edge/diag"
	"github.com/strata-edge/strata/edge/window"
	"github.com/strata-edge/strata/model"
)

var update = flag.Bool("update", false, "write the timelines' findings anew")

// TestTimelines plays each testdata/*.txtar: a timeline of events in, findings out, by
// the rules alone. The section "in" has lines
//
//	path SCOPE SCOPE…                          what the first scope depends on
//	FROM[..TO] CODE SCOPE VALUE [key=value…]   one event, or one every 2 s
//
// and "out" has the findings: time, state, cause, scope, confidence.
func TestTimelines(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no timelines: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txtar"), func(t *testing.T) { play(t, f) })
	}
}

func play(t *testing.T, file string) {
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Files) != 2 || a.Files[0].Name != "in" || a.Files[1].Name != "out" {
		t.Fatalf("%s: want the sections in and out", file)
	}
	got := run(t, string(a.Files[0].Data))
	if *update {
		a.Files[1].Data = []byte(got)
		if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want := string(a.Files[1].Data); got != want {
		t.Errorf("findings:\n%swant:\n%s", got, want)
	}
}

func run(t *testing.T, in string) string {
	schema, err := model.Default()
	if err != nil {
		t.Fatal(err)
	}
	e, err := cause.New(cause.Config{Schema: schema, Device: "dev"})
	if err != nil {
		t.Fatal(err)
	}
	w := window.New(window.Config{})
	events, end := parse(t, in)
	var out strings.Builder
	emit := func(f diag.Finding) {
		if f.State == diag.StateOpen && len(f.Chain) == 0 {
			t.Errorf("%s opened without a chain", f.Cause)
		}
		fmt.Fprintf(&out, "%s %s %s %s %.2f\n", f.Time.Sub(time.Unix(0, 0)), f.State, f.Cause, f.Scope.ID, f.Confidence)
	}
	for now := diag.Time(0); now <= end.Add(90*time.Second); now = now.Add(time.Second) {
		look := now%diag.Time(2*time.Second) == 0
		for len(events) > 0 && events[0].Time <= now {
			look = w.Add(now, events[0]) || look
			events = events[1:]
		}
		if look {
			e.Decide(now, w.Episodes(now), diag.Clock{}, emit)
		}
	}
	return out.String()
}

func parse(t *testing.T, in string) (events []diag.Event, end diag.Time) {
	paths := map[diag.Scope][]diag.Scope{}
	scope := func(s string) diag.Scope {
		v, err := diag.ParseScope(s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for n, line := range strings.Split(in, "\n") {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] == "#" {
			continue
		}
		if f[0] == "path" {
			for _, s := range f[2:] {
				paths[scope(f[1])] = append(paths[scope(f[1])], scope(s))
			}
			continue
		}
		if len(f) < 4 {
			t.Fatalf("line %d: %q", n+1, line)
		}
		code, err := diag.ParseCode(f[1])
		if err != nil {
			t.Fatal(err)
		}
		value, err := strconv.ParseFloat(f[3], 64)
		if err != nil {
			t.Fatal(err)
		}
		e := diag.Event{Code: code, Scope: scope(f[2]), Path: paths[scope(f[2])], Value: value}
		for _, kv := range f[4:] {
			k, v, _ := strings.Cut(kv, "=")
			if k == "hold" {
				if e.Hold, err = time.ParseDuration(v); err != nil {
					t.Fatal(err)
				}
				continue
			}
			e.Attrs = append(e.Attrs, diag.Attr{Key: k, Value: v})
		}
		from, to, span := strings.Cut(f[0], "..")
		if !span {
			to = from
		}
		start, err1 := time.ParseDuration(from)
		stop, err2 := time.ParseDuration(to)
		if err1 != nil || err2 != nil {
			t.Fatalf("line %d: times %q", n+1, f[0])
		}
		for at := start; at <= stop; at += 2 * time.Second {
			e.Time = diag.Time(at)
			events = append(events, e)
			end = max(end, e.Time)
		}
	}
	sortEvents(events)
	return events, end
}

func sortEvents(events []diag.Event) {
	for i := 1; i < len(events); i++ {
		for j := i; j > 0 && events[j].Time < events[j-1].Time; j-- {
			events[j], events[j-1] = events[j-1], events[j]
		}
	}
}
