package budget

import (
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
)

// The shares. Each number has the date and the reason of its choice.
const (
	// 2026-11: the design's cap on anonymous and kernel memory, ONNX Runtime included.
	DefaultMemory int64 = 48 << 20
	// 2026-11: the design's cap on map memory.
	DefaultMaps int64 = 10 << 20
	// 2026-11: an estimate for ONNX Runtime with one small tree model, its arena off;
	// to be replaced when the scorer's own measurement says otherwise.
	DefaultModel int64 = 10 << 20
	// 2026-11: code, stacks of the C library, the runtime's own tables outside its limit.
	fixed int64 = 4 << 20
	// 2026-11: below this the collector would run without end; better to refuse.
	MinGo int64 = 12 << 20
	// 2026-11: two keep the ring reader going while a collection runs; more only adds
	// per-processor caches to the memory.
	DefaultCPUs = 2
	// 2026-11: file pages may be reclaimed at any time, but a group that is full of them
	// stalls; this much of the buffer file is counted when a unit's limit is judged.
	DefaultMapping int64 = 16 << 20
)

// Config is what the user may set; zero values take the defaults.
type Config struct {
	Memory int64 // bytes of anonymous and kernel memory
	Maps   int64 // of it, for BPF maps
	Model  int64 // of it, for ONNX Runtime; negative: no model, no share
	CPUs   int   // for GOMAXPROCS
}

// Plan is who may have what, in bytes. Go + Model + Maps + Fixed = Memory.
type Plan struct {
	Memory  int64 // anonymous and kernel memory of the process
	Go      int64 // Go's heap, stacks and tables: GOMEMLIMIT
	Model   int64 // ONNX Runtime
	Maps    int64 // BPF maps
	Fixed   int64
	Mapping int64 // resident part of the buffer's mapping, beside Memory
	CPUs    int   // GOMAXPROCS
	// Bound says what set Memory: "configuration", "cgroup" or "default".
	Bound string
}

// Divide makes the plan for a configuration under an allowance. The group's limit covers
// file pages too, so that a part of it stays with the buffer's mapping.
func Divide(cfg Config, a Allowance) (Plan, error) {
	p := Plan{Memory: DefaultMemory, Maps: DefaultMaps, Model: DefaultModel, Fixed: fixed, Mapping: DefaultMapping, Bound: "default"}
	if cfg.Memory != 0 {
		p.Memory, p.Bound = cfg.Memory, "configuration"
	}
	if a.Memory > 0 {
		p.Mapping = min(DefaultMapping, a.Memory/4)
		if free := a.Memory - p.Mapping; free < p.Memory {
			p.Memory, p.Bound = free, "cgroup"
		}
	}
	if cfg.Maps != 0 {
		p.Maps = cfg.Maps
	}
	if cfg.Model != 0 {
		p.Model = max(cfg.Model, 0)
	}
	if cfg.Memory < 0 || cfg.Maps < 0 {
		return Plan{}, fmt.Errorf("memory budget: negative sizes (memory %d, maps %d)", cfg.Memory, cfg.Maps)
	}
	p.Go = p.Memory - p.Maps - p.Model - p.Fixed
	if p.Go < MinGo {
		return Plan{}, fmt.Errorf("memory budget: %d KiB (set by %s) leave %d KiB for Go after maps %d, model %d and fixed %d KiB; %d KiB is the least",
			p.Memory>>10, p.Bound, p.Go>>10, p.Maps>>10, p.Model>>10, p.Fixed>>10, MinGo>>10)
	}
	p.CPUs = cfg.CPUs
	if p.CPUs <= 0 {
		p.CPUs = DefaultCPUs
	}
	p.CPUs = min(p.CPUs, runtime.NumCPU())
	if a.CPUs > 0 {
		p.CPUs = min(p.CPUs, max(1, int(math.Ceil(a.CPUs))))
	}
	return p, nil
}

// Apply sets the Go runtime's memory limit and processors to the plan's.
func (p Plan) Apply() {
	debug.SetMemoryLimit(p.Go)
	runtime.GOMAXPROCS(p.CPUs)
}

// Step is one thing that Strata gives up to stay under a cap.
type Step struct {
	Name  string  // stable, stands in metrics and logs
	At    float64 // share of the cap from which it is given up
	Until float64 // share under which it is taken up again
	What  string
}

// Order gives the order of shedding, first to go first: what costs most and tells least
// goes before what a finding needs. The gap between At and Until keeps it from swinging.
func Order() []Step {
	return []Step{
		{"clean_samples", 0.80, 0.70, "payload samples of flows without suspicion"},
		{"deep_admission", 0.85, 0.75, "new admissions of suspicious flows to payload parsing"},
		{"extended_tier", 0.90, 0.80, "extended counters of admitted and sampled flows"},
		{"deep_all", 0.93, 0.83, "payload parsing of flows already admitted"},
		{"model", 0.96, 0.86, "scoring by the model: rules and chains decide alone"},
		{"slow_sources", 0.98, 0.88, "sources that are read by the minute"},
	}
}

// Shed says how many steps of Order are given up at a use (share of the cap), when so far
// `now` of them were.
func Shed(use float64, now int) int {
	order := Order()
	now = min(max(now, 0), len(order))
	for now < len(order) && use >= order[now].At {
		now++
	}
	for now > 0 && use < order[now-1].Until {
		now--
	}
	return now
}
