package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/strata-edge/strata/bpf"
	"github.com/strata-edge/strata/canbus"
	"github.com/strata-edge/strata/edge/diag"
	"github.com/strata-edge/strata/edge/source/can"
	"github.com/strata-edge/strata/edge/source/disk"
	"github.com/strata-edge/strata/edge/source/flow"
	"github.com/strata-edge/strata/edge/source/link"
	"github.com/strata-edge/strata/smart"
)

// source is one running reader.
type source struct {
	name string
	run  func(ctx context.Context, emit func(diag.Signal)) error
}

// feed runs one source. Its failure is noted and told, and does not end the agent.
func (a *Agent) feed(ctx context.Context, s source) error {
	err := s.run(ctx, a.emit)
	if err != nil && ctx.Err() == nil {
		a.log.Error("a source has ended", "source", s.name, "error", err)
		a.emit(a.selfSignal("source_unobservable", 1, diag.Attr{Key: "source", Value: s.name}, diag.Attr{Key: "error", Value: err.Error()}))
	}
	return nil
}

func (a *Agent) openSources() {
	if a.cfg.Flow.Enabled {
		if err := a.openFlow(); err != nil {
			a.status.cannot("packets", err)
			a.self.unobservable = append(a.self.unobservable, "packets")
		}
	}
	if a.cfg.Link.Enabled {
		src := link.New(link.Config{Interfaces: a.cfg.Interfaces, Interval: a.cfg.Link.Poll, Now: a.now, Log: a.log})
		a.sources = append(a.sources, source{name: "link", run: src.Run})
		a.status.watch("links", fmt.Sprintf("carrier at once, error counters every %s", a.cfg.Link.Poll))
	}
	if a.cfg.Disk.Enabled {
		a.openDisks()
	}
	if a.cfg.CAN.Enabled {
		a.openCAN()
	}
}

func (a *Agent) openFlow() error {
	tuning := bpf.DefaultTuning()
	if a.cfg.Flow.Deep == "all" {
		tuning.DeepAll = 1
	}
	probe, err := bpf.Load(bpf.Config{Flows: uint32(a.cfg.Limits.Flows), Ring: uint32(a.cfg.Flow.Ring), Tuning: &tuning})
	if err != nil {
		return fmt.Errorf("load the kernel programs: %w (needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN)", err)
	}
	a.probe = probe
	payloads, err := probe.Payloads()
	if err != nil {
		return fmt.Errorf("open the payload ring: %w", err)
	}
	src, err := flow.New(flow.SourceConfig{
		Probe: probe, Payloads: payloads, Clock: a.clock, Now: a.now,
		Flows: a.cfg.Limits.Flows, Deep: a.cfg.Flow.Deep == "all", Interval: a.cfg.Flow.Harvest, Logger: a.log,
	})
	if err != nil {
		return err
	}
	a.flow = src
	a.ports = newPorts(probe, a.cfg.Interfaces)
	a.ports.refresh(a.status.watch, a.status.cannot)
	if len(a.ports.on) == 0 {
		a.status.cannot("packets", errors.New("no interface to watch yet (looking again every few seconds)"))
		a.self.unobservable = append(a.self.unobservable, "packets")
	}
	a.sources = append(a.sources, source{name: "flow", run: func(ctx context.Context, emit func(diag.Signal)) error {
		return errors.Join(src.Run(ctx, emit), payloads.Close())
	}})
	return nil
}

func (a *Agent) openDisks() {
	src := disk.New(disk.Config{Interval: a.cfg.Disk.Poll, Now: a.now, Log: a.log})
	a.sources = append(a.sources, source{name: "disk", run: src.Run})
	found, err := smart.Discover(os.DirFS("/sys"))
	if err != nil {
		a.status.cannot("disks", err)
		return
	}
	for i, first := range firstLook(found) {
		if first.err != nil {
			a.status.cannot(found[i].Name, first.err)
			continue
		}
		a.status.watch(found[i].Name, fmt.Sprintf("%s, %s, every %s", first.health.Model, first.health.Verdict, a.cfg.Disk.Poll))
	}
	if len(found) == 0 {
		a.status.cannot("disks", errors.New("none found"))
	}
}

func (a *Agent) openCAN() {
	src := can.New(can.Config{Interfaces: a.cfg.CAN.Interfaces, Interval: a.cfg.CAN.Poll, Now: a.now, Log: a.log})
	a.sources = append(a.sources, source{name: "can", run: src.Run})
	links, err := canbus.Links()
	if err != nil {
		a.status.cannot("CAN buses", err)
		return
	}
	for i := range links {
		a.status.watch(links[i].Name, fmt.Sprintf("CAN, state %s, error frames and counters", links[i].Effective()))
	}
	if len(links) == 0 {
		a.status.cannot("CAN buses", errors.New("none found (looking again at each interval)"))
	}
}

type diskLook struct {
	health smart.Health
	err    error
}

// firstLookTime bounds how long the start waits for the drives to tell their names.
const firstLookTime = 2 * time.Second

// firstLook reads every drive once, side by side. An ioctl to a hung drive cannot be
// interrupted: its goroutine ends when the drive answers, and the start goes on without.
func firstLook(found []smart.Device) []diskLook {
	out := make([]diskLook, len(found))
	answers := make([]chan diskLook, len(found))
	reader := smart.NewReader()
	for i, d := range found {
		answers[i] = make(chan diskLook, 1)
		go func() {
			h, err := reader.Read(d)
			answers[i] <- diskLook{h, err}
		}()
	}
	timeout := time.After(firstLookTime)
	for i := range found {
		select {
		case out[i] = <-answers[i]:
		case <-timeout:
			out[i].err = fmt.Errorf("no answer within %s (reading on)", firstLookTime)
			timeout = time.After(0)
		}
	}
	return out
}
