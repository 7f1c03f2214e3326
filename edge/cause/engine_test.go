package cause_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/strata-edge/strata/edge/cause"
	"github.com/strata-edge/strata/edge/diag"
	"github.com/strata-edge/strata/edge/window"
	"github.com/strata-edge/strata/model"
)

// says is a scorer that gives every row the same answer.
type says struct {
	classes []string
	cause   string
	p       float32
	err     error
	rows    int
}

func (s *says) Score(_ []float32, rows int, out []float32) error {
	s.rows += rows
	for i := range out {
		out[i] = 0.01
		if s.classes[i%len(s.classes)] == s.cause {
			out[i] = s.p
		}
	}
	return s.err
}

var service = diag.Scope{Kind: diag.ScopeService, ID: "tcp/198.51.100.7:80"}

func decide(t *testing.T, s *says, every diag.Time, rows func(cause.Row)) (opened []diag.Finding, e *cause.Engine) {
	t.Helper()
	schema, err := model.Default()
	if err != nil {
		t.Fatal(err)
	}
	cfg := cause.Config{Schema: schema, Model: &diag.ModelRef{Version: "1", Schema: "abc"}, Rows: rows}
	if s != nil {
		s.classes = schema.Classes
		cfg.Scorer = s
	}
	if e, err = cause.New(cfg); err != nil {
		t.Fatal(err)
	}
	w := window.New(window.Config{})
	for at := diag.Time(0); at < diag.Time(20*time.Second); at = at.Add(2 * time.Second) {
		if at%every == 0 {
			w.Add(at, diag.Event{Time: at, Code: diag.CodeL4TcpRefused, Scope: service, Value: 1})
		}
		w.Add(at, diag.Event{Time: at, Code: diag.CodeL4TcpSyn, Scope: service, Value: 1})
		e.Decide(at, w.Episodes(at), diag.Clock{}, func(f diag.Finding) {
			if f.State == diag.StateOpen {
				opened = append(opened, f)
			}
		})
	}
	return opened, e
}

func TestModelAndRulesTogether(t *testing.T) {
	const often, seldom = diag.Time(2 * time.Second), diag.Time(12 * time.Second)
	for _, tc := range []struct {
		name   string
		scorer *says
		every  diag.Time
		opens  bool
		model  string
	}{
		{"rules alone", nil, seldom, true, ""},
		{"the model agrees", &says{cause: "l4.port.refused", p: 0.9}, seldom, true, "l4.port.refused"},
		{"weak evidence, and the model sees nothing", &says{}, seldom, false, ""},
		{"strong evidence, and the model sees nothing", &says{}, often, true, "none"},
		{"the model names what has no evidence", &says{cause: "l7.dns.failure", p: 0.99}, seldom, false, ""},
		{"the model fails: the rules decide", &says{err: errors.New("broken")}, seldom, true, ""},
	} {
		got, e := decide(t, tc.scorer, tc.every, nil)
		switch {
		case !tc.opens && len(got) != 0:
			t.Errorf("%s: opened %s", tc.name, got[0].Cause)
		case tc.opens && (len(got) != 1 || got[0].Cause != "l4.port.refused" || got[0].Evidence["by.rules"] != "l4.port.refused" || got[0].Evidence["by.model"] != tc.model):
			t.Errorf("%s: %+v", tc.name, got)
		}
		if tc.scorer != nil && tc.scorer.err != nil && e.ScoreFailures() == 0 {
			t.Errorf("%s: the failure is not counted", tc.name)
		}
	}
}

func TestRowsAreOfTheSchemasWidth(t *testing.T) {
	schema, err := model.Default()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	decide(t, nil, diag.Time(2*time.Second), func(r cause.Row) {
		n++
		if len(r.X) != len(schema.Features) || r.Scope != service || r.Symptoms != 1 || r.Rules["l4.port.refused"] == 0 {
			t.Errorf("row %+v", r)
		}
		for k, f := range schema.Features {
			if f.Name == "self.log.L4.TCP.REFUSED" && r.X[k] == 0 {
				t.Errorf("%s is 0", f.Name)
			}
		}
	})
	if n == 0 {
		t.Error("no rows")
	}
}

func TestNewRejectsForeignSchemas(t *testing.T) {
	for _, s := range []*model.Schema{
		{Classes: []string{"l9.none"}},
		{Features: []model.Feature{{Name: "x", Op: model.Log, Code: "L4.NO.SUCH"}}},
	} {
		if _, err := cause.New(cause.Config{Schema: s}); err == nil || !strings.Contains(err.Error(), "set up the decision") {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

// BenchmarkDecide weighs an episode of 40 sick services behind one next hop.
func BenchmarkDecide(b *testing.B) {
	schema, err := model.Default()
	if err != nil {
		b.Fatal(err)
	}
	s := &says{classes: schema.Classes}
	e, err := cause.New(cause.Config{Schema: schema, Scorer: s})
	if err != nil {
		b.Fatal(err)
	}
	w := window.New(window.Config{})
	hop := diag.Scope{Kind: diag.ScopeHost, ID: "192.0.2.1"}
	for i := range 40 {
		sc := diag.Scope{Kind: diag.ScopeService, ID: time.Duration(i).String()}
		for _, c := range []diag.Code{diag.CodeL4TcpSyn, diag.CodeL4TcpSynUnanswered, diag.CodeL4TcpRetransmit} {
			w.Add(0, diag.Event{Code: c, Scope: sc, Path: []diag.Scope{hop}, Value: 3})
		}
	}
	eps := w.Episodes(diag.Time(time.Second))
	b.ReportAllocs()
	for b.Loop() {
		e.Decide(diag.Time(time.Second), eps, diag.Clock{}, func(diag.Finding) {})
	}
}
