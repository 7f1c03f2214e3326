package agent

import (
	"github.com/strata-edge/strata/buffer"
	"github.com/strata-edge/strata/edge/budget"
	"github.com/strata-edge/strata/edge/upload/otlp"
)

// metrics gives Strata's own figures: what it uses, what it did and every loss by reason.
// Only the OTLP uplink calls it, from one goroutine.
func (a *Agent) metrics() []otlp.Metric {
	var m []otlp.Metric
	m = append(m, a.processMetrics()...)
	for i, name := range dropNames {
		m = append(m, lost("agent", name, float64(a.drops.n[i].Load())))
	}
	a.stats.Lock()
	p := a.stats.PipelineStats
	a.stats.Unlock()
	m = append(m,
		lost("matrix", "no_rule", float64(p.Matrix.Unmapped)), lost("matrix", "not_finite", float64(p.Matrix.Rejected)),
		lost("window", "scope_evicted", float64(p.Window.Evicted)), lost("window", "late", float64(p.Window.Late)),
		lost("window", "crowded", float64(p.Window.Crowded)), lost("cause", "score_failed", float64(p.ScoreFailures)),
		gauge("strata.window.scopes", "{scope}", "scopes in the window", float64(p.Window.Scopes)),
	)
	m = append(m, a.bufferMetrics()...)
	if a.flow != nil {
		m = append(m, a.flowMetrics()...)
	}
	return m
}

func gauge(name, unit, help string, v float64) otlp.Metric {
	return otlp.Metric{Name: name, Unit: unit, Help: help, Value: v}
}

func total(name, unit, help string, v float64) otlp.Metric {
	return otlp.Metric{Name: name, Unit: unit, Help: help, Value: v, Total: true}
}

func lost(where, reason string, v float64) otlp.Metric {
	return otlp.Metric{
		Name: "strata.dropped", Unit: "{record}", Help: "what was dropped, by part and reason", Value: v, Total: true,
		Attrs: map[string]string{"strata.part": where, "strata.reason": reason},
	}
}

func (a *Agent) processMetrics() []otlp.Metric {
	s, err := a.sample()
	if err != nil {
		a.log.Warn("cannot measure the process", "error", err)
		return nil
	}
	memory := func(state string, v int64) otlp.Metric {
		return otlp.Metric{Name: "process.memory.usage", Unit: "By", Help: "resident memory", Value: float64(v), Attrs: map[string]string{"strata.memory": state}}
	}
	return []otlp.Metric{
		memory("anonymous", s.Anon), memory("file", s.File), memory("shared", s.Shmem),
		gauge("strata.maps.memory", "By", "kernel memory of the BPF maps", float64(s.Maps)),
		gauge("strata.memory.limit", "By", "cap on anonymous and kernel memory", float64(a.budget.Memory)),
		total("process.cpu.time", "s", "user and system time", s.CPU.Seconds()),
	}
}

// sample measures this process.
func (a *Agent) sample() (budget.Sample, error) {
	if a.sampler == nil {
		maps := func() int64 {
			if a.probe == nil {
				return 0
			}
			n, err := a.probe.MapMemory()
			if err != nil {
				a.log.Debug("cannot measure the kernel tables", "error", err)
			}
			return n
		}
		var err error
		if a.sampler, err = budget.NewSampler(maps, a.group); err != nil {
			return budget.Sample{}, err
		}
	}
	return a.sampler.Sample()
}

func (a *Agent) bufferMetrics() []otlp.Metric {
	s := a.queue.Stats()
	m := []otlp.Metric{
		gauge("strata.buffer.usage", "By", "bytes held for the uplinks", float64(s.Bytes)),
		gauge("strata.buffer.records", "{record}", "findings held for the uplinks", float64(s.Urgent+s.Normal)),
		total("strata.buffer.put", "{record}", "findings taken", float64(s.Put)),
		total("strata.buffer.delivered", "{record}", "findings that every uplink has", float64(s.Delivered)),
	}
	for _, l := range buffer.Losses() {
		m = append(m, lost("buffer", l.String(), float64(s.Lost[l])))
	}
	for i := range a.drains {
		st := a.drains[i].loop.Stats()
		attrs := map[string]string{"strata.uplink": a.drains[i].name}
		sent := total("strata.uplink.sent", "{record}", "findings acknowledged by the uplink", float64(st.Sent))
		failed := total("strata.uplink.failures", "1", "batches that failed in whole or in part", float64(st.Failures))
		sent.Attrs, failed.Attrs = attrs, attrs
		m = append(m, sent, failed)
	}
	return m
}

func (a *Agent) flowMetrics() []otlp.Metric {
	s := a.flow.Status()
	k, e := &s.Kernel, &s.Engine
	return []otlp.Metric{
		total("strata.flow.packets", "{packet}", "packets seen", float64(k.Packets)),
		total("strata.flow.bytes", "By", "bytes seen", float64(k.Bytes)),
		total("strata.flow.created", "{flow}", "flows seen", float64(k.FlowCreates)),
		total("strata.flow.admitted", "{flow}", "flows whose payload was admitted", float64(k.AdmitFlows)),
		total("strata.flow.payload", "By", "payload bytes looked at", float64(k.PayloadBytes)),
		total("strata.flow.messages", "{message}", "messages understood", float64(e.Messages)),
		lost("kernel", "flow_table", float64(k.FlowFails)), lost("kernel", "half_open_table", float64(k.HalfFails)),
		lost("kernel", "neighbour_table", float64(k.NeighbourFails)), lost("kernel", "interface_table", float64(k.InterfaceFails)),
		lost("kernel", "ring_full", float64(k.PayloadRingFull)), lost("kernel", "payload_budget", float64(k.PayloadBudget)),
		lost("kernel", "bad_l2", float64(k.BadL2)), lost("kernel", "bad_l3", float64(k.BadL3)), lost("kernel", "bad_l4", float64(k.BadL4)),
		lost("flow", "no_slot", float64(e.NoSlot)), lost("flow", "endpoint_evicted", float64(e.EndpointsEvicted)),
		lost("flow", "host_evicted", float64(e.HostsEvicted)), lost("flow", "undecodable", float64(e.Undecodable)),
	}
}
