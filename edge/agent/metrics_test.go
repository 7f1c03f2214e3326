package agent

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	colmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/protobuf/proto"

	"github.com/strata-edge/strata/edge/diag"
)

// collector is an OTLP/HTTP endpoint that keeps what it can decode. While it is away it
// answers 503.
type collector struct {
	mu      sync.Mutex
	away    bool
	refused int // requests with findings
	bad     []error
	got     []*metricspb.Metric
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var m colmetrics.ExportMetricsServiceRequest
	body, err := gzip.NewReader(r.Body)
	if err == nil {
		var b []byte
		if b, err = io.ReadAll(body); err == nil {
			err = proto.Unmarshal(b, &m)
		}
	}
	var got []*metricspb.Metric
	for _, rm := range m.ResourceMetrics {
		for _, sm := range rm.ScopeMetrics {
			got = append(got, sm.Metrics...)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err != nil:
		c.bad = append(c.bad, err)
		w.WriteHeader(http.StatusBadRequest)
	case c.away:
		if slices.ContainsFunc(got, func(m *metricspb.Metric) bool { return m.Name == "strata.finding" }) {
			c.refused++
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	default:
		c.got = append(c.got, got...)
	}
}

// points gives what arrived under a name: gauges and sums alike, oldest first.
func (c *collector) points(name string) (out []*metricspb.NumberDataPoint) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.got {
		if m.Name == name {
			out = append(append(out, m.GetGauge().GetDataPoints()...), m.GetSum().GetDataPoints()...)
		}
	}
	return out
}

// latest gives the latest point of a name that has the attributes.
func (c *collector) latest(name string, want map[string]string) *metricspb.NumberDataPoint {
	points := c.points(name)
next:
	for i := len(points) - 1; i >= 0; i-- {
		have := attributes(points[i].Attributes)
		for k, v := range want {
			if have[k] != v {
				continue next
			}
		}
		return points[i]
	}
	return nil
}

func attributes(kv []*commonpb.KeyValue) map[string]string {
	out := map[string]string{}
	for _, a := range kv {
		switch v := a.Value.Value.(type) {
		case *commonpb.AnyValue_StringValue:
			out[a.Key] = v.StringValue
		case *commonpb.AnyValue_IntValue:
			out[a.Key] = strconv.FormatInt(v.IntValue, 10)
		}
	}
	return out
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// TestOwnFiguresAndFindingsReachTheCollector runs an agent that lacks its model: it says
// so in a finding, while the collector is away, and tells what it uses itself.
func TestOwnFiguresAndFindingsReachTheCollector(t *testing.T) {
	col := &collector{away: true}
	server := httptest.NewServer(col)
	defer server.Close()
	c := blind(t)
	c.OTLP.URL, c.OTLP.Interval = server.URL, time.Second
	c.Model.Enabled, c.Model.Library = true, filepath.Join(t.TempDir(), "none.so")
	begin := time.Now()
	h, stop := start(t, c)
	stopped := sync.OnceFunc(stop)
	defer stopped()
	h.wait(t, diag.StateOpen, diag.CodeL0StrataModelAbsent)
	h.mu.Lock()
	told := h.all[0]
	h.mu.Unlock()
	until(t, "the finding is sent while the collector is away", func() bool {
		col.mu.Lock()
		defer col.mu.Unlock()
		return col.refused > 0
	})
	back := time.Now()
	col.mu.Lock()
	col.away = false
	col.mu.Unlock()

	finding := map[string]string{
		"strata.cause": "l0.strata.degraded", "strata.state": "open", "strata.layer": "0",
		"strata.scope.kind": "device", "strata.scope.id": "device",
	}
	until(t, "the finding arrives", func() bool { return col.latest("strata.finding", finding) != nil })
	p := col.latest("strata.finding", finding)
	if at := time.Unix(0, int64(p.TimeUnixNano)); !at.Equal(told.Time) || at.Before(begin) || !at.Before(back) {
		t.Errorf("the finding arrived with the time %s, it was told at %s", at, told.Time)
	}
	if p.GetAsDouble() != told.Confidence {
		t.Errorf("confidence %g, want %g", p.GetAsDouble(), told.Confidence)
	}
	if len(p.Exemplars) != 1 || attributes(p.Exemplars[0].FilteredAttributes)["strata.finding.id"] != told.ID {
		t.Errorf("exemplars %v, want one with the id %s", p.Exemplars, told.ID)
	}

	uplink := map[string]string{"strata.uplink": "otlp"}
	until(t, "the delivery is counted", func() bool {
		p := col.latest("strata.uplink.sent", uplink)
		return p != nil && p.GetAsDouble() >= 1
	})
	for _, want := range []struct {
		name  string
		attrs map[string]string
		min   float64
	}{
		{"process.memory.usage", map[string]string{"strata.memory": "anonymous"}, 1 << 20},
		{"process.cpu.time", nil, 0.001},
		{"strata.memory.limit", nil, float64(24 << 20)},
		{"strata.buffer.usage", nil, 0},
		{"strata.buffer.records", nil, 0},
		{"strata.buffer.put", nil, 1},
		{"strata.buffer.delivered", nil, 0}, // the buffer books acknowledgements in batches
		{"strata.uplink.failures", uplink, 1},
		{"strata.dropped", map[string]string{"strata.part": "agent", "strata.reason": "signal_queue_full"}, 0},
		{"strata.dropped", map[string]string{"strata.part": "agent", "strata.reason": "finding_queue_full"}, 0},
		{"strata.dropped", map[string]string{"strata.part": "agent", "strata.reason": "buffer_refused"}, 0},
		{"strata.dropped", map[string]string{"strata.part": "matrix", "strata.reason": "no_rule"}, 0},
		{"strata.dropped", map[string]string{"strata.part": "window", "strata.reason": "late"}, 0},
	} {
		p := col.latest(want.name, want.attrs)
		if p == nil || p.GetAsDouble() < want.min {
			t.Errorf("%s %v: %v, want at least %g", want.name, want.attrs, p, want.min)
			continue
		}
		if at := time.Unix(0, int64(p.TimeUnixNano)); at.Before(back) || at.After(time.Now()) {
			t.Errorf("%s at %s, which is not when it was measured", want.name, at)
		}
	}
	for _, p := range col.points("strata.dropped") {
		if a := attributes(p.Attributes); a["strata.part"] == "" || a["strata.reason"] == "" {
			t.Errorf("a loss without part or reason: %v", p)
		}
		if p.GetAsDouble() != 0 {
			t.Errorf("an idle agent lost something: %v", p)
		}
	}
	stopped()
	col.mu.Lock()
	defer col.mu.Unlock()
	if len(col.bad) > 0 {
		t.Errorf("requests that do not decode: %v", col.bad)
	}
}
