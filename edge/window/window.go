package window

import (
	"cmp"
	"slices"
	"time"

	"github.com/strata-edge/strata/edge/diag"
)

// A window is ten seconds and slides by two. One bucket more than that holds what has
// come since the last slide.
const (
	buckets       = 5
	ring          = buckets + 1
	DefaultLength = 10 * time.Second
)

// Config bounds a Window. Zero values mean the defaults.
type Config struct {
	Length    time.Duration // of the window; it slides by a fifth of it. 10 s.
	MaxScopes int           // scopes held at once. 2,048.
	MaxCodes  int           // codes held for one scope. 48.
}

// Stats counts what a Window held and lost.
type Stats struct {
	Scopes  int    // held now
	Evicted uint64 // scopes that made room for others
	Late    uint64 // events older than the window
	Crowded uint64 // events beyond MaxCodes of their scope
}

// Window is a sliding window over all scopes.
type Window struct {
	cfg    Config
	slide  diag.Time
	scopes map[diag.Scope]*scope
	stats  Stats
	serial uint64
}

type scope struct {
	path  []diag.Scope
	last  diag.Time
	codes []series // sorted by code
}

// series is one code on one scope, in buckets of a fifth of the window each.
type series struct {
	code   diag.Code
	kind   diag.Kind
	latest float64
	at     diag.Time // of the latest report
	until  diag.Time // latest stands until then; 0: no end
	told   bool      // there was a report at all
	rose   bool      // there was a non-zero one
	onset  diag.Time // start of the run of non-zero reports
	active diag.Time // last non-zero report
	slot   [ring]int64
	value  [ring]float64
	attrs  []diag.Attr
}

// New gives an empty window.
func New(cfg Config) *Window {
	if cfg.Length <= 0 {
		cfg.Length = DefaultLength
	}
	if cfg.MaxScopes <= 0 {
		cfg.MaxScopes = 2048
	}
	if cfg.MaxCodes <= 0 {
		cfg.MaxCodes = 48
	}
	return &Window{cfg: cfg, slide: diag.Time(cfg.Length / buckets), scopes: map[diag.Scope]*scope{}}
}

// Slide gives how often episodes are worth asking for.
func (w *Window) Slide() time.Duration { return time.Duration(w.slide) }

// Stats gives the counts since the start.
func (w *Window) Stats() Stats {
	s := w.stats
	s.Scopes = len(w.scopes)
	return s
}

// Add takes one event. decisive says that the event alone is worth a look at once.
func (w *Window) Add(now diag.Time, e diag.Event) (decisive bool) {
	info, ok := e.Code.Info()
	if !ok {
		return false
	}
	if info.Kind == diag.KindCount && e.Time <= now.Add(-w.cfg.Length) {
		w.stats.Late++
		return false
	}
	sc := w.scope(e)
	s := sc.series(e.Code, info.Kind, w.cfg.MaxCodes)
	if s == nil {
		w.stats.Crowded++
		return false
	}
	fresh := s.latest == 0
	s.add(e, w.slide, w.cfg.Length)
	return info.Decisive && e.Value > 0 && (fresh || info.Kind == diag.KindCount)
}

func (w *Window) scope(e diag.Event) *scope {
	sc := w.scopes[e.Scope]
	if sc == nil {
		if len(w.scopes) >= w.cfg.MaxScopes {
			w.evict()
		}
		sc = &scope{}
		w.scopes[e.Scope] = sc
	}
	if e.Path != nil {
		sc.path = e.Path
	}
	sc.last = max(sc.last, e.Time)
	return sc
}

// evict drops the scope that was silent longest, but one whose state still stands only
// where there is no other.
func (w *Window) evict() {
	var victim diag.Scope
	var best *scope
	standing := true
	for k, sc := range w.scopes {
		st := sc.standing()
		if best == nil || (standing && !st) || (standing == st && sc.last < best.last) {
			victim, best, standing = k, sc, st
		}
	}
	delete(w.scopes, victim)
	w.stats.Evicted++
}

func (sc *scope) standing() bool {
	for i := range sc.codes {
		if sc.codes[i].kind == diag.KindState && sc.codes[i].latest > 0 {
			return true
		}
	}
	return false
}

func (sc *scope) series(code diag.Code, kind diag.Kind, limit int) *series {
	i, found := slices.BinarySearchFunc(sc.codes, code, func(s series, c diag.Code) int { return cmp.Compare(s.code, c) })
	if found {
		return &sc.codes[i]
	}
	if len(sc.codes) >= limit {
		return nil
	}
	sc.codes = slices.Insert(sc.codes, i, series{code: code, kind: kind})
	for j := range sc.codes[i].slot {
		sc.codes[i].slot[j] = -1
	}
	return &sc.codes[i]
}

func (s *series) add(e diag.Event, slide diag.Time, length time.Duration) {
	slot := int64(e.Time / slide)
	b := int(((slot % ring) + ring) % ring)
	if s.slot[b] < slot {
		s.slot[b], s.value[b] = slot, 0
	}
	if s.slot[b] == slot {
		if s.kind == diag.KindCount {
			s.value[b] += e.Value
		} else {
			s.value[b] = max(s.value[b], e.Value)
		}
	}
	if e.Value > 0 {
		if !s.rose || e.Time > s.active.Add(length) {
			if s.kind == diag.KindCount || s.latest == 0 {
				s.onset = e.Time
			}
		}
		s.active, s.rose = max(s.active, e.Time), true
	}
	if !s.told || e.Time >= s.at {
		s.told, s.at, s.latest = true, e.Time, e.Value
		s.until = 0
		switch {
		case e.Hold > 0:
			s.until = e.Time.Add(e.Hold)
		case s.kind == diag.KindLevel:
			s.until = e.Time.Add(length)
		}
	}
	if len(e.Attrs) > 0 {
		s.attrs = e.Attrs
	}
}

// observe gives what the series shows at now; ok is false where it shows nothing any more.
func (s *series) observe(now diag.Time, slide diag.Time) (o diag.Observation, ok bool) {
	o = diag.Observation{Code: s.code, First: s.onset, Last: s.active, Attrs: s.attrs}
	newest := int64((now - 1) / slide) // the last one that is full when now is a slide's end
	for b := range s.slot {
		if s.slot[b] < 0 || s.slot[b] <= newest-buckets || s.slot[b] > newest+1 {
			continue
		}
		ok = true
		switch s.kind {
		case diag.KindCount:
			o.Value += s.value[b]
		case diag.KindLevel:
			o.Value = max(o.Value, s.value[b])
		}
	}
	standing := s.told && (s.until == 0 || now <= s.until)
	switch s.kind {
	case diag.KindLevel:
		if standing {
			o.Value, ok = max(o.Value, s.latest), true
		}
	case diag.KindState:
		o.Value, ok = 0, standing
		if standing {
			o.Value = s.latest
		}
	}
	return o, ok
}

// Episodes gives the episodes at now: each a set of scopes joined by their paths, with at
// least one symptom among them. The same events give the same episodes in the same order.
// Scopes that show nothing any more are forgotten.
func (w *Window) Episodes(now diag.Time) []diag.Episode {
	nodes, index := w.nodes(now)
	group := newGroups(len(nodes))
	for i := range nodes {
		for _, p := range nodes[i].Path {
			if j, ok := index[p]; ok {
				group.join(i, j)
			}
		}
	}
	members, sick, order := map[int][]diag.Node{}, map[int]bool{}, []int(nil)
	for i := range nodes {
		r := group.of(i)
		if members[r] == nil {
			order = append(order, r)
		}
		members[r] = append(members[r], nodes[i])
		for k := range nodes[i].Observations {
			sick[r] = sick[r] || nodes[i].Observations[k].Symptom()
		}
	}
	var out []diag.Episode
	for _, r := range order {
		if !sick[r] {
			continue
		}
		w.serial++
		out = append(out, diag.Episode{ID: w.serial, Start: now.Add(-w.cfg.Length), End: now, Nodes: members[r]})
	}
	return out
}

// nodes gives every scope that shows something, and every scope that one of those
// depends on, sorted.
func (w *Window) nodes(now diag.Time) (nodes []diag.Node, index map[diag.Scope]int) {
	shown := make(map[diag.Scope]diag.Node, len(w.scopes))
	for k, sc := range w.scopes {
		n := diag.Node{Scope: k, Path: sc.path}
		for i := range sc.codes {
			if o, ok := sc.codes[i].observe(now, w.slide); ok {
				n.Observations = append(n.Observations, o)
			}
		}
		if len(n.Observations) == 0 {
			delete(w.scopes, k)
			continue
		}
		shown[k] = n
	}
	nodes = make([]diag.Node, 0, len(shown))
	for _, n := range shown {
		nodes = append(nodes, n)
	}
	sortNodes(nodes)
	for _, n := range nodes {
		for i, p := range n.Path {
			if _, ok := shown[p]; !ok {
				quiet := diag.Node{Scope: p, Path: n.Path[i+1:]}
				shown[p] = quiet
				nodes = append(nodes, quiet)
			}
		}
	}
	sortNodes(nodes)
	index = make(map[diag.Scope]int, len(nodes))
	for i := range nodes {
		index[nodes[i].Scope] = i
	}
	return nodes, index
}

func sortNodes(nodes []diag.Node) {
	slices.SortFunc(nodes, func(a, b diag.Node) int {
		return cmp.Or(cmp.Compare(a.Scope.Kind, b.Scope.Kind), cmp.Compare(a.Scope.ID, b.Scope.ID))
	})
}

// groups is a set of disjoint groups of numbers; a number's group is named by one of them.
type groups []int

func newGroups(n int) groups {
	g := make(groups, n)
	for i := range g {
		g[i] = i
	}
	return g
}

// of gives the group of i.
func (g groups) of(i int) int {
	for g[i] != i {
		g[i] = g[g[i]]
		i = g[i]
	}
	return i
}

// join makes one group of those of i and j.
func (g groups) join(i, j int) { g[g.of(i)] = g.of(j) }
