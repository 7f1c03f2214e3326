package host

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/strata-edge/strata/edge/diag"
)

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time { return t0.Add(time.Duration(seconds * float64(time.Second))) }

// say publishes one finding message as strata would.
func say(t *testing.T, b *Board, seconds float64, v map[string]any) {
	t.Helper()
	p, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	b.Receive("strata/lab/findings", p, at(seconds))
}

func opened(id, cause, scope string, confidence float64) map[string]any {
	return map[string]any{"id": id, "state": "open", "cause": cause, "layer": int(cause[1] - '0'), "confidence": confidence,
		"scope":    map[string]string{"kind": "service", "id": scope},
		"evidence": map[string]string{"by.rules": cause, "by.model": "none"}}
}

func TestJudge(t *testing.T) {
	const web, dns = "service:tcp/192.0.2.1:80", "service:udp/192.0.2.1:53"
	truth := Truth{Causes: []string{"l4.port.refused"}, Scopes: []string{web}, Onset: at(10), Symptom: at(11), Limit: 20 * time.Second}
	refused := opened("a", "l4.port.refused", web, 0.9)
	type step struct {
		at float64
		v  map[string]any
	}
	for name, c := range map[string]struct {
		steps []step
		want  Outcome
		took  time.Duration
	}{
		"nothing is said":           {nil, Missed, 0},
		"right":                     {[]step{{14, refused}}, Right, 3 * time.Second},
		"said before the onset":     {[]step{{9, refused}}, Missed, 0},
		"another cause first":       {[]step{{13, opened("b", "l3.path.loss", web, 0.8)}, {14, refused}}, WrongCause, 2 * time.Second},
		"another cause, too":        {[]step{{14, refused}, {15, opened("b", "l3.path.loss", web, 0.8)}}, Extra, 3 * time.Second},
		"another cause, not sure":   {[]step{{13, opened("b", "l3.path.loss", web, 0.49)}, {14, refused}}, Right, 3 * time.Second},
		"the right cause elsewhere": {[]step{{14, opened("a", "l4.port.refused", dns, 0.9)}}, WrongScope, 3 * time.Second},
		"late":                      {[]step{{31.5, refused}}, Late, 20500 * time.Millisecond},
		"strata's own troubles":     {[]step{{12, opened("z", "l0.undetermined", web, 0.9)}, {14, refused}}, Right, 3 * time.Second},
		"sure only by an update": {[]step{{12, opened("a", "l4.port.refused", web, 0.3)},
			{16, map[string]any{"id": "a", "state": "update", "confidence": 0.7}}}, Right, 5 * time.Second},
		"a change of mind": {[]step{{12, opened("a", "l3.path.loss", web, 0.8)},
			{16, map[string]any{"id": "a", "state": "update", "cause": "l4.port.refused", "confidence": 0.9}}}, WrongCause, time.Second},
		"a symptom that strata takes back": {[]step{{14, refused}, {15, opened("b", "l7.server.slow", web, 0.8)},
			{17, map[string]any{"id": "b", "state": "resolved", "evidence": map[string]string{"root": "a"}}}}, Right, 3 * time.Second},
		"a symptom resolved without a root": {[]step{{14, refused}, {15, opened("b", "l7.server.slow", web, 0.8)},
			{17, map[string]any{"id": "b", "state": "resolved"}}}, Extra, 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			var b Board
			for _, s := range c.steps {
				say(t, &b, s.at, s.v)
			}
			v := Judge(truth, b.Claims(at(0)))
			if v.Outcome != c.want || v.Took != c.took {
				t.Errorf("got %s after %s, want %s after %s (%+v)", v.Outcome, v.Took, c.want, c.took, v)
			}
			if err := b.Err(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestJudgeTellsWhoWasRight(t *testing.T) {
	var b Board
	f := opened("a", "l4.port.refused", "service:tcp/192.0.2.1:80", 0.9)
	f["evidence"] = map[string]string{"by.rules": "none", "by.model": "l4.port.refused"}
	say(t, &b, 14, f)
	v := Judge(Truth{Causes: []string{"l4.port.refused"}, Scopes: []string{"service:tcp/192.0.2.1:80"}, Onset: at(10), Symptom: at(11), Limit: time.Minute}, b.Claims(at(0)))
	if v.Rules || !v.Model {
		t.Errorf("rules %t, model %t; want the model alone to be right", v.Rules, v.Model)
	}
}

func TestBoardKnowsTheContract(t *testing.T) {
	var b Board
	b.Receive("x", []byte("no json"), at(0))
	b.Receive("x", []byte(`{"online":true}`), at(0))
	if b.Messages() != 2 || len(b.Claims(at(0))) != 0 || b.Err() != nil {
		t.Error("what is no finding must count and do nothing")
	}
	say(t, &b, 1, map[string]any{"id": "q", "state": "update", "confidence": 0.4})
	if b.Err() == nil {
		t.Error("a finding that begins with an update breaks the contract")
	}
	// The wire form of the program's own type must be what the board reads.
	p, err := json.Marshal(diag.Finding{ID: "r", State: diag.StateOpen, Cause: "l3.path.loss", Layer: 3, Confidence: 0.6,
		Scope: diag.Scope{Kind: diag.ScopeHost, ID: "192.0.2.1"}.Ref()})
	if err != nil {
		t.Fatal(err)
	}
	b.Receive("x", p, at(2))
	c := b.Claims(at(0))
	if len(c) != 1 || c[0].Scope != "host:192.0.2.1" || c[0].Layer != 3 {
		t.Errorf("claims %+v", c)
	}
}

func TestLabel(t *testing.T) {
	const web, dns = "service:tcp/192.0.2.1:80", "service:udp/192.0.2.1:53"
	phases := []Phase{
		{Scenario: "port-refused", Cause: "l4.port.refused", Scopes: []string{web}, Onset: at(30), Effect: at(32), Cleared: at(50), Recovered: at(54)},
		{Scenario: "dns-silent", Cause: "l7.dns.failure", Scopes: []string{dns}, Onset: at(100), Cleared: at(120), Recovered: at(121)},
	}
	for _, c := range []struct {
		at              float64
		scope           string
		symptoms        int
		label, scenario string
	}{
		{10, web, 1, LabelNone, "healthy"},
		{31, web, 1, LabelIgnore, "port-refused"}, // before the effect
		{33, web, 1, LabelIgnore, "port-refused"}, // within its margin
		{35, web, 1, "l4.port.refused", "port-refused"},
		{35, web, 0, LabelIgnore, "port-refused"}, // nothing to be seen in this window
		{35, dns, 1, LabelNone, "port-refused"},
		{50, web, 1, "l4.port.refused", "port-refused"},
		{51, dns, 1, LabelIgnore, "port-refused"}, // what it left behind may be anywhere
		{68, web, 1, LabelIgnore, "port-refused"}, // windows still reach back
		{70, web, 1, LabelNone, "healthy"},
		{110, dns, 1, LabelIgnore, "dns-silent"}, // never seen to work
	} {
		label, scenario := Label(phases, c.scope, c.symptoms, at(c.at))
		if label != c.label || scenario != c.scenario {
			t.Errorf("%s at %v with %d symptoms: %s (%s), want %s (%s)", c.scope, c.at, c.symptoms, label, scenario, c.label, c.scenario)
		}
	}
}

func TestEveryScenarioNamesKnownCauses(t *testing.T) {
	layers := map[diag.Layer]bool{}
	chosen := 0
	names := map[string]bool{}
	for _, s := range Scenarios() {
		if names[s.Name] {
			t.Errorf("%s: twice in the catalogue", s.Name)
		}
		names[s.Name] = true
		for _, id := range s.Causes {
			c, ok := diag.CauseByID(id)
			if !ok {
				t.Errorf("%s: unknown cause %s", s.Name, id)
			} else if c.Layer != s.Layer {
				t.Errorf("%s is of layer %d, its cause %s of layer %d", s.Name, s.Layer, id, c.Layer)
			}
		}
		if s.Default {
			layers[s.Layer] = true
			chosen++
		}
	}
	for _, l := range []diag.Layer{2, 3, 4, 6, 7} {
		if !layers[l] {
			t.Errorf("the default demonstration has no fault of layer %d", l)
		}
	}
	if chosen < 10 {
		t.Errorf("the default demonstration has %d faults", chosen)
	}
}
