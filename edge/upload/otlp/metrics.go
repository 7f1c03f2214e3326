package otlp

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

var scope = instrumentation.Scope{Name: "github.com/strata-edge/strata"}

// Metric is one of Strata's own figures.
type Metric struct {
	Name  string // OpenTelemetry's where it has one ("process.memory.usage"), else "strata.…"
	Unit  string // UCUM
	Help  string
	Total bool // a sum that only grows since the agent's start; else a reading
	Value float64
	Attrs map[string]string
}

// Run exports snapshot() every Config.Period until the context ends. A report that fails
// is not repeated: the next one says more.
func (c *Client) Run(ctx context.Context, snapshot func() []Metric) error {
	t := time.NewTicker(c.cfg.Period)
	defer t.Stop()
	failing := false
	for {
		err := c.Report(ctx, snapshot())
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !failing {
			c.log.Warn("metrics cannot be exported", "error", err)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// Report exports one snapshot.
func (c *Client) Report(ctx context.Context, snapshot []Metric) error {
	if len(snapshot) == 0 {
		return nil
	}
	if err := c.export(ctx, group(snapshot, c.start, time.Now())); err != nil {
		return err
	}
	c.reports.Add(1)
	return nil
}

// group joins figures of one name, which differ in their attributes, into one metric, in
// the order in which the names first come.
func group(snapshot []Metric, start, now time.Time) []metricdata.Metrics {
	index := make(map[string]int, len(snapshot))
	var order []Metric
	points := make([][]metricdata.DataPoint[float64], 0, len(snapshot))
	for _, m := range snapshot {
		i, ok := index[m.Name]
		if !ok {
			i = len(order)
			index[m.Name] = i
			order = append(order, m)
			points = append(points, nil)
		}
		p := metricdata.DataPoint[float64]{Time: now, Value: m.Value}
		if order[i].Total {
			p.StartTime = start
		}
		attrs := make([]attribute.KeyValue, 0, len(m.Attrs))
		for k, v := range m.Attrs {
			attrs = append(attrs, attribute.String(k, v))
		}
		p.Attributes = attribute.NewSet(attrs...)
		points[i] = append(points[i], p)
	}
	out := make([]metricdata.Metrics, len(order))
	for i, m := range order {
		out[i] = metricdata.Metrics{Name: m.Name, Unit: m.Unit, Description: m.Help}
		if m.Total {
			out[i].Data = metricdata.Sum[float64]{Temporality: metricdata.CumulativeTemporality, IsMonotonic: true, DataPoints: points[i]}
		} else {
			out[i].Data = metricdata.Gauge[float64]{DataPoints: points[i]}
		}
	}
	return out
}
