package host

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

const demoAbout = `usage: strata-lab demo [flags]

Builds a small site out of network namespaces (clients, a gateway, a router, servers), runs
strata on the gateway, breaks the site in one way after another and reads at a broker what
strata says. Each line: what was done, what strata found, how sure it was, how long after the
first packet or operation that suffered, and whether that is right.

Right means: the first finding of confidence 0.5 or more since the fault names an expected
cause on the expected scope, in time, and no other wrong finding follows. Needs root.
Exit 1 when any fault is not right or the healthy site gets a finding.
`

// demoFlags are the flags of demo.
type demoFlags struct {
	seed    uint64
	faults  string
	all     bool
	timeout time.Duration
	healthy time.Duration
	strata  string
	keep    string
	list    bool
}

// Demo is the subcommand demo. It gives the exit code.
func Demo(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var o demoFlags
	fs := flag.NewFlagSet("strata-lab demo", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Uint64Var(&o.seed, "seed", 2, "draws site and variants; 0 takes a random `seed`")
	fs.StringVar(&o.faults, "faults", "", "comma-separated `names` of faults (default: a selection)")
	fs.BoolVar(&o.all, "all", false, "every fault of the catalogue")
	fs.BoolVar(&o.list, "list", false, "list the catalogue and end")
	fs.DurationVar(&o.timeout, "timeout", 20*time.Second, "`time` from the first symptom within which a finding must be at the broker")
	fs.DurationVar(&o.healthy, "healthy", 30*time.Second, "`time` that the healthy site is watched first")
	fs.StringVar(&o.strata, "strata", "", "`program` under test (default build/strata, or beside this program)")
	fs.StringVar(&o.keep, "keep", "", "leave logs and the truth in this `folder`")
	fs.Usage = func() {
		fmt.Fprint(fs.Output(), demoAbout, "\n")
		fs.PrintDefaults()
	}
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	if fs.NArg() > 0 {
		fmt.Fprintf(stderr, "strata-lab demo: unexpected argument %q\n", fs.Arg(0))
		return 2
	}
	if o.list {
		for _, s := range Scenarios() {
			fmt.Fprintf(stdout, "L%d  %-18s %-45s %s\n", s.Layer, s.Name, s.Title, strings.Join(s.Causes, " or "))
		}
		return 0
	}
	if o.seed == 0 {
		o.seed = rand.Uint64N(1_000_000)
	}
	ok, err := demo(ctx, o, stdout)
	if err != nil {
		fmt.Fprintf(stderr, "strata-lab demo: %v\n", err)
		return 1
	}
	if !ok {
		return 1
	}
	return 0
}

// chosen gives the scenarios that the flags ask for and the plan's site allows.
func (o demoFlags) chosen(p *Plan) ([]*Scenario, error) {
	list := Scenarios()
	if o.faults != "" {
		var err error
		if list, err = FindScenarios(o.faults); err != nil {
			return nil, err
		}
	}
	return slices.DeleteFunc(list, func(s *Scenario) bool {
		return !s.Fits(p) || o.faults == "" && !o.all && !s.Default
	}), nil
}

func demo(ctx context.Context, o demoFlags, out io.Writer) (ok bool, err error) {
	plan := NewPlan(o.seed)
	list, err := o.chosen(plan)
	if err != nil {
		return false, err
	}
	program, err := findStrata(o.strata)
	if err != nil {
		return false, err
	}
	if err := ready(ctx, out); err != nil {
		return false, err
	}
	dir, tidy, err := workDir(o.keep)
	if err != nil {
		return false, err
	}
	defer tidy()
	fmt.Fprintf(out, "site %d: %s\n", o.seed, plan)
	s, err := openSession(ctx, plan, program, dir, "")
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, s.close()) }()

	t := newTable(out)
	well, err := s.healthy(ctx, o.healthy, t)
	if err != nil {
		return false, err
	}
	r := rand.New(rand.NewPCG(o.seed, 0xfa17))
	var done []graded
	for _, sc := range list {
		e, err := s.run(ctx, sc, r, pace{limit: o.timeout, linger: 4 * time.Second})
		if err != nil {
			return false, err
		}
		g := grade(e, s.board, o.timeout)
		t.fault(g)
		done = append(done, g)
	}
	return t.summary(well, done, s.board), nil
}

// graded is a fault and what the diagnosis was worth.
type graded struct {
	episode *episode
	verdict Verdict
}

// grade judges one episode.
func grade(e *episode, b *Board, limit time.Duration) graded {
	f := e.fault
	t := Truth{
		Causes: f.Scenario.Causes, Scopes: f.Scopes,
		Onset: f.Onset, Symptom: e.effect.First, Limit: limit,
	}
	g := graded{episode: e, verdict: Judge(t, b.Claims(f.Onset))}
	if e.shown.IsZero() {
		g.verdict.Outcome = NoEffect
	}
	return g
}

// healthy watches the site while nothing is wrong. It is well when no operation failed and
// nothing but layer 0 was claimed.
func (s *session) healthy(ctx context.Context, d time.Duration, t *table) (bool, error) {
	begin := time.Now()
	if err := s.wait(ctx, d); err != nil {
		return false, err
	}
	ops := s.stage.Log.Ended(begin, func(Op) bool { return true })
	bad := s.stage.Log.Ended(begin, func(o Op) bool { return o.Class != classOK })
	if len(bad) > 0 {
		return false, fmt.Errorf("the healthy site does not work: %s", summary(begin, bad).What)
	}
	claims := s.board.Claims(time.Time{})
	t.healthy(d, len(ops), claims)
	return !slices.ContainsFunc(claims, func(c Claim) bool { return c.Layer > 0 }), nil
}

// String says what kind of site it is.
func (p *Plan) String() string {
	family, nat, tls := "IPv4", "", "TLS 1.2"
	if p.V6 {
		family = "IPv6"
	}
	if p.NAT {
		nat = ", behind NAT"
	}
	if p.TLS13 {
		tls = "TLS 1.3"
	}
	return fmt.Sprintf("%s%s, %d clients, %d server hosts, %s", family, nat, len(p.Clients), len(p.Servers), tls)
}
