package host

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/strata-edge/strata/internal/testreq"
)

func TestMain(m *testing.M) {
	if os.Getenv(nodeEnv) != "" {
		os.Exit(Node(context.Background(), os.Stdin, os.Stdout))
	}
	os.Exit(m.Run())
}

// open brings a site up and its clients to work, and takes it down at the test's end.
func open(t *testing.T, seed uint64) *Stage {
	t.Helper()
	testreq.Root(t, "netns")
	testreq.Tool(t, "netns", "ip")
	testreq.Tool(t, "netns", "nft")
	t.Log("seed", seed)
	st, err := Open(t.Context(), NewPlan(seed), testWriter{t}, func(string, []byte, time.Time) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := st.Start(); err != nil {
		t.Fatal(err)
	}
	return st
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", b)
	return len(b), nil
}

func TestHealthySiteWorks(t *testing.T) {
	for seed := range uint64(6) {
		st := open(t, seed)
		begin := time.Now()
		time.Sleep(4 * time.Second)
		kinds := map[string]int{}
		for _, o := range st.Log.Ended(begin, func(Op) bool { return true }) {
			kinds[o.Kind]++
			if o.Class != classOK {
				t.Errorf("seed %d: %s %s: %s", seed, o.Work, o.Class, o.Detail)
			}
		}
		t.Logf("seed %d: v6 %t, nat %t, tls13 %t: %v", seed, st.Plan.V6, st.Plan.NAT, st.Plan.TLS13, kinds)
		for _, w := range st.Plan.Works {
			if kinds[w.Kind] == 0 {
				t.Errorf("seed %d: no %s came to an end in %s", seed, w.Kind, time.Since(begin))
			}
		}
	}
}

// TestFaultsDoWhatTheySay injects every fault of the catalogue into a site and waits for
// its effect on the clients, then for the clients to recover.
func TestFaultsDoWhatTheySay(t *testing.T) {
	if testing.Short() {
		t.Skip("takes minutes")
	}
	list := Scenarios()
	if only := os.Getenv("STRATA_LAB_FAULTS"); only != "" {
		var err error
		if list, err = FindScenarios(only); err != nil {
			t.Fatal(err)
		}
	}
	seed := uint64(2)
	if s := os.Getenv("STRATA_LAB_SEED"); s != "" {
		v, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = v
	}
	st := open(t, seed)
	time.Sleep(time.Second)
	r := rand.New(rand.NewPCG(seed, 7))
	for _, s := range list {
		if !s.Fits(st.Plan) {
			continue
		}
		f, err := s.Inject(t.Context(), st, r)
		if err != nil {
			t.Fatal(err)
		}
		var e Effect
		for time.Since(f.Onset) < 15*time.Second {
			if e, err = f.Effect(); err != nil || e.Shown {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		took := time.Since(f.Onset)
		if err != nil || !e.Shown {
			t.Errorf("%s (%s): no effect in %s: %s %v", s.Name, f.Detail, took, e.What, err)
		}
		if err := f.Clear(t.Context()); err != nil {
			t.Fatalf("clear %s: %v", s.Name, err)
		}
		t.Logf("%-18s %s: shown after %s, first sign after %s: %s", s.Name, f.Detail,
			took.Round(10*time.Millisecond), e.First.Sub(f.Onset).Round(10*time.Millisecond), e.What)
		cleared := time.Now()
		for time.Since(cleared) < 20*time.Second {
			time.Sleep(2500 * time.Millisecond)
			late := time.Now().Add(-2 * time.Second)
			bad := st.Log.Ended(cleared, func(o Op) bool { return o.Class != classOK && o.Start.After(late) })
			if len(bad) == 0 {
				break
			}
		}
		late := st.Log.Ended(cleared, func(o Op) bool { return o.Class != classOK && o.Start.After(cleared.Add(12*time.Second)) })
		for _, o := range late {
			t.Errorf("%s: not over: %s %s %s", s.Name, o.Work, o.Class, o.Detail)
		}
	}
}
