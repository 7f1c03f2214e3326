package host

import (
	"context"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
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
	for _, seed := range []uint64{0, 1} { // IPv4 behind NAT, IPv6
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
		for _, s := range st.Plan.Servers {
			v, err := st.ask(s.Name, order{Do: doCounters})
			if err != nil {
				t.Fatal(err)
			}
			// A site that loses or reorders by itself would hide what faults do.
			if n := v.Counters["Tcp.RetransSegs"]; n*1000 > v.Counters["Tcp.OutSegs"] {
				t.Errorf("seed %d: server %s sent %d of %d segments again", seed, s.Name, n, v.Counters["Tcp.OutSegs"])
			}
		}
		for _, w := range st.Plan.Works {
			if kinds[w.Kind] == 0 {
				t.Errorf("seed %d: no %s came to an end in %s", seed, w.Kind, time.Since(begin))
			}
		}
	}
}

// TestFaultsDoWhatTheySay injects faults into a site and waits for their effect on the
// clients, then for the clients to recover. STRATA_LAB_FAULTS names others ("all" for the
// whole catalogue), STRATA_LAB_SEED another site.
func TestFaultsDoWhatTheySay(t *testing.T) {
	names := "port-refused,http-5xx,path-loss"
	if v := os.Getenv("STRATA_LAB_FAULTS"); v != "" {
		names = v
	}
	list := Scenarios()
	if names != "all" {
		var err error
		if list, err = FindScenarios(names); err != nil {
			t.Fatal(err)
		}
	}
	seed := uint64(2)
	if v := os.Getenv("STRATA_LAB_SEED"); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	s := &session{stage: open(t, seed), board: new(Board), dir: t.TempDir()}
	truth, err := os.Create(filepath.Join(s.dir, "truth.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	s.truth = truth
	defer truth.Close()
	r := rand.New(rand.NewPCG(seed, 7))
	for _, sc := range list {
		if !sc.Fits(s.stage.Plan) {
			continue
		}
		e, err := s.run(t.Context(), sc, r, pace{limit: 20 * time.Second, hold: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		f := e.fault
		if e.shown.IsZero() || e.effect.First.Before(f.Onset) {
			t.Errorf("%s (%s): no effect: %s", sc.Name, f.Detail, e.effect.What)
			continue
		}
		t.Logf("%-18s %s: shown after %s, first sign after %s, clients well after %s: %s", sc.Name, f.Detail,
			e.shown.Sub(f.Onset).Round(10*time.Millisecond), e.effect.First.Sub(f.Onset).Round(10*time.Millisecond),
			e.recovered.Sub(e.cleared).Round(10*time.Millisecond), e.effect.What)
	}
}

// TestNothingIsLeft compares what the kernel has before and after a stage, and after a
// stage whose owner was killed has been swept.
func TestNothingIsLeft(t *testing.T) {
	testreq.Root(t, "netns")
	testreq.Tool(t, "netns", "ip")
	mine := func(s *site) int {
		list, err := os.ReadDir(netnsDir)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, e := range list {
			if strings.HasPrefix(e.Name(), s.id+"-") {
				n++
			}
		}
		return n
	}
	ports := func() string {
		list, err := net.Interfaces()
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, i := range list {
			names = append(names, i.Name)
		}
		return strings.Join(names, " ")
	}
	before := ports()
	st, err := Open(t.Context(), NewPlan(3), testWriter{t}, func(string, []byte, time.Time) {})
	if err != nil {
		t.Fatal(err)
	}
	if mine(st.site) < 6 {
		t.Errorf("%d namespaces while the stage is up", mine(st.site))
	}
	if _, err := Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if mine(st.site) < 6 {
		t.Error("a living stage was swept")
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if n := mine(st.site); n > 0 {
		t.Errorf("%d namespaces left", n)
	}

	killed, err := Open(t.Context(), NewPlan(3), testWriter{t}, func(string, []byte, time.Time) {})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", tempPrefix)
	if err != nil {
		t.Fatal(err)
	}
	if err := killed.site.owns(dir); err != nil {
		t.Fatal(err)
	}
	_ = killed.site.lock.Close() // what the kernel does to the lock of a killed run
	if _, err := Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := mine(killed.site); n > 0 {
		t.Errorf("%d namespaces of a killed run left", n)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the folder of a killed run is left: %v", err)
		_ = os.RemoveAll(dir)
	}
	for role, n := range killed.nodes {
		select {
		case <-n.done:
		case <-time.After(5 * time.Second):
			t.Errorf("node %s of a killed run still lives", role)
		}
	}
	if after := ports(); after != before {
		t.Errorf("interfaces before: %s; after: %s", before, after)
	}
}
