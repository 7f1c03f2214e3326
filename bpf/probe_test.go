package bpf

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/strata-edge/strata/internal/testreq"
)

// load loads the programs for a test and closes them at its end.
func load(tb testing.TB, cfg Config) *Probe {
	tb.Helper()
	testreq.Root(tb, "bpf")
	p, err := Load(cfg)
	if errors.Is(err, unix.EPERM) {
		testreq.Missing(tb, "bpf", err.Error())
	} else if err != nil {
		var verifier *ebpf.VerifierError
		if errors.As(err, &verifier) {
			tb.Fatalf("%+v", verifier)
		}
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := p.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return p
}

// memoryBudget is the design's cap on kernel map memory.
const memoryBudget = 10 << 20

func TestMapMemory(t *testing.T) {
	n, err := load(t, Config{}).MapMemory()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("maps: %.2f MiB", float64(n)/(1<<20))
	if n == 0 || n >= memoryBudget {
		t.Errorf("map memory %d, budget %d", n, memoryBudget)
	}
}
