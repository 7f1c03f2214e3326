package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/strata-edge/strata/bpf"
	"github.com/strata-edge/strata/buffer"
	"github.com/strata-edge/strata/canbus"
	"github.com/strata-edge/strata/edge/diag"
	"github.com/strata-edge/strata/smart"
)

// Check is one line of a self-test.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Needed bool   `json:"needed"` // Strata is of little use without
	Detail string `json:"detail"`
}

// SelfTest says what this kernel and device can give, without watching anything: nothing
// is attached to a port in use, and the buffer that it opens is one of its own.
func SelfTest(cfg Config) []Check {
	var out []Check
	add := func(name string, needed bool, detail string, err error) {
		if err != nil {
			detail = err.Error()
		}
		out = append(out, Check{Name: name, OK: err == nil, Needed: needed, Detail: detail})
	}
	detail, err := testPrograms(cfg)
	add("kernel programs", true, detail, err)
	detail, err = testBuffer()
	add("buffer", true, detail, err)
	p, err := OpenPipeline(cfg, PipelineOptions{Clock: func() diag.Clock { return diag.Clock{} }})
	if err != nil {
		add("rules", true, "", err)
	} else {
		add("rules", true, fmt.Sprintf("%d rules", p.matrix.Rules().Len()), nil)
		add("model", false, p.model.about, p.ModelAbsent())
		if err := p.Close(); err != nil {
			add("model", false, "", err)
		}
	}
	found, err := smart.Discover(os.DirFS("/sys"))
	if err == nil && len(found) == 0 {
		err = errors.New("none found")
	}
	add("drives", false, fmt.Sprintf("%d found", len(found)), err)
	links, err := canbus.Links()
	if err == nil && len(links) == 0 {
		err = errors.New("none found")
	}
	add("CAN buses", false, fmt.Sprintf("%d found", len(links)), err)
	stamp, err := buffer.SystemStamp()
	if err == nil && !stamp().Synced {
		err = errors.New("the kernel does not hold the wall clock synchronised: findings are re-dated once it does")
	}
	add("clock", false, "synchronised", err)
	return out
}

// testPrograms loads the programs and pushes one frame through them.
func testPrograms(cfg Config) (detail string, err error) {
	probe, err := bpf.Load(bpf.Config{Flows: uint32(cfg.Limits.Flows), Ring: uint32(cfg.Flow.Ring), Replay: true})
	if err != nil {
		return "", fmt.Errorf("%w (needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN)", err)
	}
	defer func() { err = errors.Join(err, probe.Close()) }()
	frame := make([]byte, 60)
	copy(frame[12:], []byte{0x08, 0x06})
	if err := probe.Packet(1, frame, len(frame)); err != nil {
		return "", err
	}
	c, err := probe.Counters()
	if err != nil {
		return "", err
	}
	if c.Packets != 1 {
		return "", fmt.Errorf("one frame was pushed through, %d were counted", c.Packets)
	}
	n, err := probe.MapMemory()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("loaded without BTF, %.1f MiB of tables", float64(n)/(1<<20)), nil
}

func testBuffer() (detail string, err error) {
	dir, err := os.MkdirTemp("", "strata-selftest")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	q, _, err := buffer.Open(filepath.Join(dir, buffer.FileName), buffer.Options{CheckCommand: buffer.SelfCheck()})
	if err != nil {
		return "", err
	}
	return "opens, checked in a child process", q.Close()
}
