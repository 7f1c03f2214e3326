package cause

import (
	"encoding/hex"
	"encoding/json"
	"hash/fnv"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/strata-edge/strata/edge/diag"
	"github.com/strata-edge/strata/edge/graph"
)

// How a finding lives. Two looks in a row open it (one where its evidence is decisive), so
// that the first packet of a fault does not name the wrong layer; what begins within wake of
// a root's last evidence and shows within tail of it is still the root's doing; within
// reopen the same trouble is opened again as the same finding.
const (
	settleLooks = 2
	settleTime  = 1500 * time.Millisecond
	wake        = 8 * time.Second
	tail        = 25 * time.Second
	reopen      = 60 * time.Second
	lag         = 10 * time.Second
	refresh     = 60 * time.Second
	unsureLooks = 15
)

// verdict is one root of one window.
type verdict struct {
	candidate
	scope  diag.Scope
	path   []diag.Scope
	chain  []diag.Link
	attrs  []diag.Attr
	rules  string
	model  string
	others []diag.Alternative
	first  diag.Time // of the evidence
	latest diag.Time
}

type lifeKey struct {
	cause *diag.Cause
	scope diag.Scope
}

// life is one finding's life.
type life struct {
	verdict
	id       string
	looks    int
	born     diag.Time // of the first look
	seen     diag.Time // of the latest look that supported it
	fresh    bool      // supported in the window being settled
	state    diag.State
	ended    diag.Time
	sent     diag.Time
	sentConf float64
	sentCode diag.Code
	over     string // id of the finding that turned out to be its root
}

type lifeTable map[lifeKey]*life

// see notes that v is a root of the window at now.
func (t lifeTable) see(now diag.Time, v verdict) {
	k := lifeKey{v.cause, v.scope}
	l := t[k]
	if l == nil {
		l = &life{born: now}
		t[k] = l
	}
	l.verdict, l.fresh, l.seen = v, true, now
	l.looks++
}

// unsure notes an episode with evidence but no root. Only after many such looks in a row
// it becomes a finding, on the node of the strongest piece.
func (t lifeTable) unsure(now diag.Time, g *graph.Graph, cands []candidate, clock diag.Clock) {
	undetermined, _ := diag.CauseByID("l0.undetermined")
	var best *candidate
	for k := range cands {
		if c := &cands[k]; c.ev.met && undetermined.On(g.Node(c.node).Scope.Kind) && (best == nil || c.p > best.p) {
			best = c
		}
	}
	if best == nil {
		return
	}
	c := candidate{node: best.node, cause: undetermined, ev: best.ev, model: math.NaN(), p: 0.3}
	first, latest := span(g, &c)
	t.see(now, verdict{
		candidate: c, scope: g.Node(c.node).Scope, path: g.Node(c.node).Path, chain: chain(g, &c, clock, 4),
		others: []diag.Alternative{{Cause: best.cause.ID, Confidence: math.Round(best.p*100) / 100}},
		first:  first, latest: latest,
	})
}

// settle ends a look: it opens, updates and resolves.
func (t lifeTable) settle(now diag.Time, clock diag.Clock, cfg Config, emit func(diag.Finding)) {
	for _, l := range t.ordered() {
		switch {
		case l.state == "" && !l.fresh:
			if now.Sub(l.seen) > cfg.Quiet {
				delete(t, lifeKey{l.cause, l.scope})
			} else if l.cause.Layer == 0 {
				l.looks = 0
			}
		case l.state == "":
			if l.ready(now) && !t.accounted(l, now) {
				l.open(now, clock, cfg, emit)
				t.supersede(l, now, clock, emit)
			}
		case l.state == diag.StateResolved:
			if l.fresh && !t.accounted(l, now) {
				l.over = ""
				l.open(now, clock, cfg, emit)
			} else if now.Sub(l.ended) > reopen {
				delete(t, lifeKey{l.cause, l.scope})
			}
		case l.fresh:
			if l.ev.code != l.sentCode || math.Abs(l.p-l.sentConf) >= 0.2 || now.Sub(l.sent) >= refresh {
				l.state = diag.StateUpdate
				l.send(now, clock, emit)
			}
		case now.Sub(l.seen) >= cfg.Quiet:
			l.resolve(now, clock, emit)
		}
		l.fresh = false
	}
}

// ordered gives the lives lowest layer first, so that a root opens before what it
// accounts for and the same events give the same findings.
func (t lifeTable) ordered() []*life {
	out := make([]*life, 0, len(t))
	for _, l := range t {
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b *life) int {
		if a.cause.Class != b.cause.Class {
			return a.cause.Class - b.cause.Class
		}
		if a.scope.String() < b.scope.String() {
			return -1
		}
		return 1
	})
	return out
}

func (l *life) ready(now diag.Time) bool {
	if l.cause.ID == "l0.undetermined" {
		return l.looks >= unsureLooks
	}
	if info, _ := l.ev.code.Info(); info.Decisive {
		return true
	}
	return l.looks >= settleLooks && now.Sub(l.born) >= settleTime
}

// accounted says whether a finding that is open, or was until a moment ago, explains l.
// A state that still stands keeps the finding alive that explains it: an error-passive
// controller does not become another fault because its errors have stopped.
func (t lifeTable) accounted(l *life, now diag.Time) bool {
	for _, o := range t.ordered() {
		if o == l || !o.covers(l) {
			continue
		}
		open := o.state == diag.StateOpen || o.state == diag.StateUpdate
		if info, _ := l.ev.code.Info(); open && info.Kind == diag.KindState {
			o.seen = now
			return true
		}
		ended := o.state == diag.StateResolved && o.over == ""
		if (open || ended) && l.first <= o.latest.Add(wake) && now <= o.latest.Add(tail) {
			return true
		}
	}
	return false
}

func (l *life) covers(o *life) bool {
	if o.cause == l.cause {
		return o.scope != l.scope && slices.Contains(o.path, l.scope)
	}
	return (o.scope == l.scope || slices.Contains(o.path, l.scope)) && l.cause.Accounts(o.ev.code)
}

// supersede resolves the open findings that l turns out to be the root of: a root is seen
// at most lag after its symptom, or the two are different troubles.
func (t lifeTable) supersede(l *life, now diag.Time, clock diag.Clock, emit func(diag.Finding)) {
	for _, o := range t.ordered() {
		if o != l && (o.state == diag.StateOpen || o.state == diag.StateUpdate) && l.covers(o) && !o.covers(l) && l.first.Sub(o.first) <= lag {
			o.over = l.id
			o.resolve(now, clock, emit)
		}
	}
}

func (l *life) open(now diag.Time, clock diag.Clock, cfg Config, emit func(diag.Finding)) {
	if l.id == "" {
		l.id = newID(clock.Boot, cfg.Device, l.cause.ID, l.scope.String(), strconv.FormatInt(int64(now), 36))
	}
	l.state, l.sent, l.sentConf, l.sentCode = diag.StateOpen, now, l.p, l.ev.code
	f := l.finding(now, clock)
	f.Device = cfg.Device
	f.First = clock.Wall(l.first)
	f.Code = l.ev.code
	f.Severity = l.severity()
	f.Chain, f.Alternatives = l.chain, l.others
	f.Evidence = l.evidence()
	if l.model != "" {
		f.Model = cfg.Model
	}
	fit(&f)
	emit(f)
}

// maxOpened is the size of an opening report in bytes (docs/FINDINGS.md).
const maxOpened = 1024

// fit shortens a report that is too long: the far end of its chain first, then the
// alternatives. What decides stays.
func fit(f *diag.Finding) {
	for size(f) > maxOpened && len(f.Chain) > 2 {
		f.Chain = f.Chain[:len(f.Chain)-1]
	}
	for size(f) > maxOpened && len(f.Alternatives) > 0 {
		f.Alternatives = f.Alternatives[:len(f.Alternatives)-1]
	}
}

func size(f *diag.Finding) int {
	b, err := json.Marshal(f)
	if err != nil {
		return 0
	}
	return len(b)
}

// newID gives an id that no other finding of this device has.
func newID(parts ...string) string {
	h := fnv.New64a()
	for _, s := range parts {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil))
}

// finding gives what every report of l carries.
func (l *life) finding(now diag.Time, clock diag.Clock) diag.Finding {
	return diag.Finding{
		ID: l.id, Time: clock.Wall(now), Last: clock.Wall(l.seen), Layer: l.cause.Layer, Cause: l.cause.ID,
		Scope: l.scope.Ref(), Confidence: math.Round(l.p*100) / 100, State: l.state,
	}
}

func (l *life) send(now diag.Time, clock diag.Clock, emit func(diag.Finding)) {
	f := l.finding(now, clock)
	f.Severity = l.severity()
	if l.ev.code != l.sentCode {
		// Other evidence than what was reported carries the finding now.
		f.Code = l.ev.code
	}
	l.sent, l.sentConf, l.sentCode = now, l.p, l.ev.code
	emit(f)
}

func (l *life) resolve(now diag.Time, clock diag.Clock, emit func(diag.Finding)) {
	l.state, l.ended = diag.StateResolved, now
	f := l.finding(now, clock)
	if l.over != "" {
		f.Evidence = map[string]string{"root": l.over}
	}
	emit(f)
}

func (l *life) severity() diag.Severity {
	info, _ := l.ev.code.Info()
	switch {
	case l.cause.Layer == 0:
		return diag.SeverityInfo
	case info.Decisive:
		return diag.SeverityCritical
	case l.p < 0.7:
		return diag.SeverityWarning
	}
	return diag.SeverityError
}

// evidence gives the details a person wants to see, and what each judge alone says.
func (l *life) evidence() map[string]string {
	m := map[string]string{}
	for _, a := range l.attrs {
		if len(m) < 6 && len(a.Value) <= 64 {
			m[a.Key] = a.Value
		}
	}
	if l.cause.ID == "l0.undetermined" {
		return m
	}
	m["by.rules"] = l.rules
	if l.model != "" {
		m["by.model"] = l.model
	}
	return m
}
