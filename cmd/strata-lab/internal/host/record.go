package host

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const recordAbout = `usage: strata-lab record -n RUNS -o FILE.jsonl.gz [flags]

Plays seeded runs (a site, healthy stretches, a random choice of faults) with strata on the
gateway and writes one labelled line for every candidate row that it weighed:
{"run":seed,"scenario":…,"scope":…,"label":cause|"none"|"ignore","x":[…],"schema":…}.
"ignore" stands around onset and recovery, where nobody can tell. A run that fails is left
out and reported. Needs root.
`

// recordFlags are the flags of record.
type recordFlags struct {
	runs, parallel, faults int
	seed                   uint64
	out, strata, only      string
}

// Record is the subcommand record. It gives the exit code.
func Record(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var o recordFlags
	fs := flag.NewFlagSet("strata-lab record", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.IntVar(&o.runs, "n", 1, "how many `runs`")
	fs.Uint64Var(&o.seed, "seed", 1, "`seed` of the first run; the others follow")
	fs.IntVar(&o.faults, "per-run", 6, "`faults` in a run")
	fs.IntVar(&o.parallel, "parallel", 2, "`runs` at a time, 1 to 8")
	fs.StringVar(&o.only, "faults", "", "comma-separated `names` to choose from (default: the whole catalogue)")
	fs.StringVar(&o.out, "o", "", "`file` to write, .jsonl.gz")
	fs.StringVar(&o.strata, "strata", "", "`program` under test (default build/strata, or beside this program)")
	fs.Usage = func() {
		fmt.Fprint(fs.Output(), recordAbout, "\n")
		fs.PrintDefaults()
	}
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	if fs.NArg() > 0 || o.out == "" || o.runs < 1 || o.faults < 0 || o.parallel < 1 || o.parallel > 8 {
		fmt.Fprint(stderr, "strata-lab record: want -o FILE, -n of at least 1, --parallel of 1 to 8 and nothing else\n")
		return 2
	}
	if err := record(ctx, o, stdout); err != nil {
		fmt.Fprintf(stderr, "strata-lab record: %v\n", err)
		return 1
	}
	return 0
}

// labelled is one line of the output.
type labelled struct {
	Run      uint64          `json:"run"`
	Scenario string          `json:"scenario"`
	Scope    string          `json:"scope"`
	Label    string          `json:"label"`
	X        json.RawMessage `json:"x"` // as strata wrote them: not a digit is lost
	Schema   string          `json:"schema"`
}

// row is the part of strata's row file that labels need.
type row struct {
	Time     time.Time       `json:"time"`
	Scope    string          `json:"scope"`
	Symptoms int             `json:"symptoms"`
	Schema   string          `json:"schema"`
	X        json.RawMessage `json:"x"`
}

func record(ctx context.Context, o recordFlags, out io.Writer) (err error) {
	list := Scenarios()
	if o.only != "" {
		if list, err = FindScenarios(o.only); err != nil {
			return err
		}
	}
	program, err := findStrata(o.strata)
	if err != nil {
		return err
	}
	if err := ready(ctx, out); err != nil {
		return err
	}
	file, err := os.Create(o.out)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	zip := gzip.NewWriter(file)
	defer func() { err = errors.Join(err, zip.Close(), file.Close()) }()

	var mu sync.Mutex // of zip, out and failed
	failed := 0
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(o.parallel)
	for i := range o.runs {
		seed := o.seed + uint64(i)
		group.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			lines, counts, err := recordRun(ctx, seed, list, o.faults, program)
			mu.Lock()
			defer mu.Unlock()
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				failed++
				fmt.Fprintf(out, "run %d left out: %v\n", seed, err)
				return nil
			}
			fmt.Fprintf(out, "run %d: %s\n", seed, counts)
			enc := json.NewEncoder(zip)
			for _, l := range lines {
				if err := enc.Encode(l); err != nil {
					return fmt.Errorf("record: %w", err)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d runs were left out", failed, o.runs)
	}
	return nil
}

// recordRun plays one run and labels its rows.
func recordRun(ctx context.Context, seed uint64, list []*Scenario, faults int, program string) (lines []labelled, counts string, err error) {
	dir, tidy, err := workDir("")
	if err != nil {
		return nil, "", err
	}
	defer tidy()
	rows := filepath.Join(dir, "rows.jsonl")
	phases, err := playRun(ctx, seed, list, faults, program, dir, rows)
	if err != nil {
		return nil, "", err
	}
	lines, err = labelRows(rows, seed, phases)
	return lines, tally(lines), err
}

// playRun plays the faults of one run and gives what happened when.
func playRun(ctx context.Context, seed uint64, list []*Scenario, faults int, program, dir, rows string) (phases []Phase, err error) {
	plan := NewPlan(seed)
	s, err := openSession(ctx, plan, program, dir, rows)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	r := rand.New(rand.NewPCG(seed, 0x4ec04d))
	between := func(lo, hi time.Duration) time.Duration { return lo + time.Duration(r.Int64N(int64(hi-lo))) }
	able := slices.DeleteFunc(slices.Clone(list), func(sc *Scenario) bool { return !sc.Fits(plan) })
	r.Shuffle(len(able), func(i, j int) { able[i], able[j] = able[j], able[i] })
	if err := s.wait(ctx, between(20*time.Second, 40*time.Second)); err != nil {
		return nil, err
	}
	for _, sc := range able[:min(faults, len(able))] {
		e, err := s.run(ctx, sc, r, pace{limit: 20 * time.Second, hold: between(12*time.Second, 30*time.Second)})
		if err != nil {
			return nil, err
		}
		phases = append(phases, Phase{
			Scenario: sc.Name, Cause: sc.Causes[0], Scopes: e.fault.Scopes,
			Onset: e.fault.Onset, Effect: e.shown, Cleared: e.cleared, Recovered: e.recovered,
		})
		if err := s.wait(ctx, between(marginRecovery, marginRecovery+15*time.Second)); err != nil {
			return nil, err
		}
	}
	return phases, nil
}

// labelRows reads strata's row file and labels it.
func labelRows(path string, seed uint64, phases []Phase) ([]labelled, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the rows: %w", err)
	}
	defer f.Close()
	var out []labelled
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r row
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("read row %d: %w", len(out)+1, err)
		}
		label, scenario := Label(phases, r.Scope, r.Symptoms, r.Time)
		out = append(out, labelled{Run: seed, Scenario: scenario, Scope: r.Scope, Label: label, X: r.X, Schema: r.Schema})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the rows: %w", err)
	}
	return out, nil
}

// tally counts labels.
func tally(lines []labelled) string {
	n := map[string]int{}
	for _, l := range lines {
		n[l.Label]++
	}
	keys := make([]string, 0, len(n))
	for k := range n {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	s := fmt.Sprintf("%d rows", len(lines))
	for _, k := range keys {
		s += fmt.Sprintf(", %d %s", n[k], k)
	}
	return s
}
