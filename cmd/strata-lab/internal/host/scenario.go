package host

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/strata-edge/strata/edge/diag"
)

// Scenario is one kind of fault: what is done to the site and what a diagnosis must say.
type Scenario struct {
	Name    string
	Title   string
	Layer   diag.Layer
	Causes  []string // ids of edge/diag/causes.yaml that are right
	Default bool     // part of the default demonstration
	v4Only  bool
	inject  func(ctx context.Context, st *Stage, r *rand.Rand) (*Fault, error)
}

// Fault is a scenario that has been done to a stage.
type Fault struct {
	Scenario *Scenario
	Detail   string    // which host, port, share …
	Scopes   []string  // where it is right to see the root: a fault of the path sits on all of it
	Onset    time.Time // when the site was changed

	clear  func(context.Context) error
	effect func() (Effect, error)
}

// Effect is what a fault was seen to do, by the clients and the kernel's counters, never
// by Strata.
type Effect struct {
	Shown bool      // it does what its name says
	First time.Time // the first operation or packet that suffered; zero where none did
	What  string
}

// Effect looks at what the fault has done so far.
func (f *Fault) Effect() (Effect, error) { return f.effect() }

// Clear undoes the fault.
func (f *Fault) Clear(ctx context.Context) error { return f.clear(ctx) }

// Fits says whether the scenario can be done to the plan's site.
func (s *Scenario) Fits(p *Plan) bool { return !s.v4Only || !p.V6 }

// Inject does the scenario to the stage; the variant is drawn from r.
func (s *Scenario) Inject(ctx context.Context, st *Stage, r *rand.Rand) (*Fault, error) {
	onset := time.Now()
	f, err := s.inject(ctx, st, r)
	if err != nil {
		return nil, fmt.Errorf("inject %s: %w", s.Name, err)
	}
	f.Scenario = s
	if f.Onset.IsZero() {
		f.Onset = onset
	}
	return f, nil
}

// Scenarios gives the catalogue, from the lowest layer up.
func Scenarios() []*Scenario {
	return slices.Concat(netScenarios(), transportScenarios(), appScenarios())
}

// FindScenarios gives the scenarios of a comma-separated list of names.
func FindScenarios(list string) ([]*Scenario, error) {
	all := Scenarios()
	var out []*Scenario
	for name := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(all, func(s *Scenario) bool { return s.Name == strings.TrimSpace(name) })
		if i < 0 {
			var known []string
			for _, s := range all {
				known = append(known, s.Name)
			}
			return nil, fmt.Errorf("unknown fault %q (known: %s)", name, strings.Join(known, ", "))
		}
		out = append(out, all[i])
	}
	return out, nil
}

// suffering watches the operations of some services from now on. It is shown when at
// least least of them ended in one of classes; the first of those says when it began.
func (st *Stage) suffering(least int, services []string, classes ...string) func() (Effect, error) {
	since := time.Now()
	return func() (Effect, error) {
		hit := st.Log.Ended(since, func(o Op) bool {
			return slices.Contains(services, o.Service) && slices.Contains(classes, o.Class)
		})
		e := summary(since, hit)
		e.Shown = len(hit) >= least
		return e, nil
	}
}

// summary counts operations by service and class.
func summary(since time.Time, ops []Op) Effect {
	var e Effect
	count := map[string]int{}
	for _, o := range ops {
		count[o.Service+" "+o.Class]++
		start := o.Start
		if start.Before(since) {
			start = since
		}
		if e.First.IsZero() || start.Before(e.First) {
			e.First = start
		}
	}
	var parts []string
	for k, n := range count {
		parts = append(parts, fmt.Sprintf("%d× %s", n, k))
	}
	slices.Sort(parts)
	e.What = strings.Join(parts, ", ")
	if e.What == "" {
		e.What = "no operation suffered"
	}
	return e
}

// set puts a service into a mode.
func (st *Stage) set(service string, m mode) error {
	s := st.Plan.Service(service)
	return st.order(st.Plan.Servers[s.Server].Name, order{Do: doMode, Name: service, Mode: m})
}

// serverFault is a fault that a server process makes by itself.
func (st *Stage) serverFault(service string, m mode, detail string, least int, classes ...string) (*Fault, error) {
	f := &Fault{
		Detail: detail,
		Scopes: []string{st.Plan.Service(service).Scope()},
		effect: st.suffering(least, []string{service}, classes...),
		clear:  func(context.Context) error { return st.set(service, mode{}) },
	}
	return f, st.set(service, m)
}

// serviceNames gives the names of services.
func serviceNames(list []Service) []string {
	var out []string
	for _, s := range list {
		out = append(out, s.Name)
	}
	return out
}

// serviceScopes gives the scopes of services.
func serviceScopes(list []Service) []string {
	var out []string
	for _, s := range list {
		out = append(out, s.Scope())
	}
	return out
}

// pick draws one of a list.
func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }
