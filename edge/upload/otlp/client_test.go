package otlp

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	colmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/protobuf/proto"

	"github.com/strata-edge/strata/buffer"
	"github.com/strata-edge/strata/edge/diag"
)

// receiver is an OTLP/HTTP server that decodes what it gets and answers as it is told.
type receiver struct {
	mu       sync.Mutex
	requests []*colmetrics.ExportMetricsServiceRequest
	headers  []http.Header
	paths    []string
	answers  []func(http.ResponseWriter) // for the next requests; then success
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body := io.Reader(req.Body)
	if req.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body = z
	}
	b, err := io.ReadAll(body)
	var m colmetrics.ExportMetricsServiceRequest
	if err == nil {
		err = proto.Unmarshal(b, &m)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	r.requests = append(r.requests, &m)
	r.headers = append(r.headers, req.Header)
	r.paths = append(r.paths, req.URL.Path)
	answer := func(w http.ResponseWriter) { reply(w, &colmetrics.ExportMetricsServiceResponse{}) }
	if len(r.answers) > 0 {
		answer, r.answers = r.answers[0], r.answers[1:]
	}
	r.mu.Unlock()
	answer(w)
}

func reply(w http.ResponseWriter, m proto.Message) {
	b, err := proto.Marshal(m)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	w.Write(b)
}

// metrics gives every metric that arrived, in order.
func (r *receiver) metrics() (out []*metricspb.Metric) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, q := range r.requests {
		for _, rm := range q.ResourceMetrics {
			for _, sm := range rm.ScopeMetrics {
				out = append(out, sm.Metrics...)
			}
		}
	}
	return out
}

func attrs(kv []*commonpb.KeyValue) map[string]string {
	out := map[string]string{}
	for _, a := range kv {
		switch v := a.Value.Value.(type) {
		case *commonpb.AnyValue_StringValue:
			out[a.Key] = v.StringValue
		default:
			out[a.Key] = strings.TrimSpace(a.Value.String())
		}
	}
	return out
}

func client(t *testing.T, cfg Config) *Client {
	t.Helper()
	cfg.Device, cfg.Version = "dev", "1.2"
	c, err := New(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func server(t *testing.T, answers ...func(http.ResponseWriter)) (*receiver, string) {
	t.Helper()
	r := &receiver{answers: answers}
	s := httptest.NewServer(r)
	t.Cleanup(s.Close)
	return r, s.URL
}

func item(t testing.TB, id buffer.ID, at time.Time) buffer.Item {
	t.Helper()
	b, err := json.Marshal(diag.Finding{
		ID: "f1", Time: at, Layer: 3, Cause: "l3.mtu.blackhole", Scope: diag.ScopeRef{Kind: "host", ID: "host:192.0.2.1"},
		Severity: diag.SeverityError, Confidence: 0.75, State: diag.StateOpen,
	})
	if err != nil {
		t.Fatal(err)
	}
	return buffer.Item{ID: id, Payload: b, Stamp: buffer.Stamp{Boot: "b", Wall: at, Synced: true}}
}

// TestOriginalTimes: findings of the last 30 days arrive with their own times.
func TestOriginalTimes(t *testing.T) {
	r, url := server(t)
	c := client(t, Config{URL: url})
	now := time.Now()
	var items []buffer.Item
	want := map[uint64]bool{}
	for i := range 30 {
		at := now.Add(-time.Duration(i) * 24 * time.Hour)
		items = append(items, item(t, buffer.ID(i), at))
		want[uint64(at.UnixNano())] = true
	}
	shifted := item(t, 100, time.Unix(1000, 0))
	shifted.Stamp.Synced, shifted.Shift = false, time.Hour
	want[uint64(time.Unix(4600, 0).UnixNano())] = true
	unsynced := item(t, 101, time.Unix(2000, 0))
	unsynced.Stamp.Synced = false
	want[uint64(time.Unix(2000, 0).UnixNano())] = true
	for len(items) > 0 {
		n := min(16, len(items))
		acked, err := c.Send(context.Background(), items[:n])
		if err != nil || len(acked) != n {
			t.Fatal(acked, err)
		}
		items = items[n:]
	}
	acked, err := c.Send(context.Background(), []buffer.Item{shifted, unsynced, {ID: 7, Payload: []byte("junk")}, {ID: 8, Payload: []byte("{}")}})
	if err != nil || len(acked) != 4 {
		t.Fatal(acked, err)
	}
	n := 0
	for _, m := range r.metrics() {
		if m.Name != "strata.finding" || m.GetGauge() == nil {
			t.Fatalf("%v", m)
		}
		for _, p := range m.GetGauge().DataPoints {
			n++
			if !want[p.TimeUnixNano] {
				t.Errorf("point at %s", time.Unix(0, int64(p.TimeUnixNano)))
			}
			delete(want, p.TimeUnixNano)
			a := attrs(p.Attributes)
			if a["strata.cause"] != "l3.mtu.blackhole" || a["strata.scope.kind"] != "host" || a["strata.scope.id"] != "host:192.0.2.1" ||
				a["strata.state"] != "open" || a["strata.severity"] != "error" || a["strata.layer"] != "int_value:3" || p.GetAsDouble() != 0.75 {
				t.Errorf("%v %v", a, p)
			}
			if (a["strata.clock.synced"] != "") != (p.TimeUnixNano == uint64(2000*time.Second)) {
				t.Errorf("clock: %v", a)
			}
			if len(p.Exemplars) != 1 || attrs(p.Exemplars[0].FilteredAttributes)["strata.finding.id"] != "f1" {
				t.Errorf("exemplars %v", p.Exemplars)
			}
		}
	}
	if n != 32 || len(want) != 0 {
		t.Errorf("%d points, missing %v", n, want)
	}
	res := attrs(r.requests[0].ResourceMetrics[0].Resource.Attributes)
	if res["service.name"] != "strata" || res["host.id"] != "dev" || res["service.version"] != "1.2" {
		t.Errorf("resource %v", res)
	}
	if s := c.Stats(); s.Exported != 32 || s.Rejected != 2 {
		t.Errorf("%+v", s)
	}
	if r.paths[0] != "/v1/metrics" {
		t.Errorf("path %s", r.paths[0])
	}
}

func status(code int, header, value string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		if header != "" {
			w.Header().Set(header, value)
		}
		w.WriteHeader(code)
	}
}

func TestAnswers(t *testing.T) {
	partial := func(w http.ResponseWriter) {
		reply(w, &colmetrics.ExportMetricsServiceResponse{PartialSuccess: &colmetrics.ExportMetricsPartialSuccess{RejectedDataPoints: 1, ErrorMessage: "too old"}})
	}
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter)
		acked  int
		after  time.Duration
		want   Stats
	}{
		"partial success": {partial, 1, 0, Stats{Exported: 1, Partial: 1}},
		"unreadable success": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/x-protobuf")
			w.Write([]byte("\xff"))
		}, 1, 0, Stats{Exported: 1, Partial: 1}},
		"503, come back later":  {status(503, "Retry-After", "7"), 0, 7 * time.Second, Stats{Failures: 1}},
		"429, come back later":  {status(429, "Retry-After", "3"), 0, 3 * time.Second, Stats{Failures: 1}},
		"500":                   {status(500, "", ""), 0, 0, Stats{Failures: 1}},
		"401 may be mended":     {status(401, "", ""), 0, 0, Stats{Failures: 1}},
		"404 may be mended":     {status(404, "", ""), 0, 0, Stats{Failures: 1}},
		"redirect not followed": {status(307, "Location", "http://192.0.2.1/"), 0, 0, Stats{Failures: 1}},
		"400 is for good":       {status(400, "", ""), 1, 0, Stats{Rejected: 1, Failures: 1}},
		"413 is for good":       {status(413, "", ""), 1, 0, Stats{Rejected: 1, Failures: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			r, url := server(t, c.answer)
			cl := client(t, Config{URL: url})
			acked, err := cl.Send(context.Background(), []buffer.Item{item(t, 1, time.Now())})
			if len(acked) != c.acked || (err == nil) != (c.acked == 1) {
				t.Errorf("acked %v, %v", acked, err)
			}
			var later interface{ RetryAfter() time.Duration }
			if errors.As(err, &later) != (c.after > 0) || (c.after > 0 && later.RetryAfter() != c.after) {
				t.Errorf("retry after: %v", err)
			}
			if s := cl.Stats(); s != c.want {
				t.Errorf("%+v, want %+v", s, c.want)
			}
			if len(r.requests) != 1 {
				t.Errorf("%d requests: retry is the queue's", len(r.requests))
			}
		})
	}
}

func TestRefusedConnectionAndTimeout(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	c := client(t, Config{URL: "http://" + address})
	if acked, err := c.Send(context.Background(), []buffer.Item{item(t, 1, time.Now())}); err == nil || len(acked) != 0 || !strings.Contains(err.Error(), "refused") {
		t.Errorf("%v, %v", acked, err)
	}
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer s.Close()
	defer close(release)
	c = client(t, Config{URL: s.URL, Timeout: 50 * time.Millisecond})
	if acked, err := c.Send(context.Background(), []buffer.Item{item(t, 1, time.Now())}); err == nil || len(acked) != 0 {
		t.Errorf("silent server: %v, %v", acked, err)
	}
}

func write(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(p, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(p, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
	return p
}

func TestHTTPSAndHeaders(t *testing.T) {
	r := &receiver{}
	s := httptest.NewTLSServer(r)
	defer s.Close()
	ca := write(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})), 0o644)
	headers := write(t, "headers", "# for the collector\nAuthorization: Bearer a:b\n\nx-tenant:  7\n", 0o600)
	c := client(t, Config{URL: s.URL + "/custom/path", CAFile: ca, HeadersFile: headers})
	if _, err := c.Send(context.Background(), []buffer.Item{item(t, 1, time.Now())}); err != nil {
		t.Fatal(err)
	}
	if h := r.headers[0]; h.Get("Authorization") != "Bearer a:b" || h.Get("X-Tenant") != "7" || r.paths[0] != "/custom/path" {
		t.Errorf("%v %v", h, r.paths)
	}
	c = client(t, Config{URL: s.URL})
	if _, err := c.Send(context.Background(), []buffer.Item{item(t, 1, time.Now())}); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("unknown authority: %v", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{URL: "grpc://x"}, "scheme"},
		{Config{URL: "http://user:secret@x"}, "headers file"},
		{Config{URL: "http://sec\x7fret"}, "not a URL"},
		{Config{URL: "http://"}, "want scheme"},
		{Config{URL: "http://x?token=1"}, "want scheme"},
		{Config{URL: "http://x", CAFile: "ca.pem"}, "https"},
		{Config{URL: "https://x", CAFile: "/nonexistent/ca.pem"}, "no such file"},
		{Config{URL: "https://x", CertFile: "cert.pem"}, "belong together"},
		{Config{URL: "http://x", HeadersFile: write(t, "h", "A: b\n", 0o640)}, "0600"},
		{Config{URL: "http://x", HeadersFile: write(t, "h", "no colon\n", 0o600)}, "line 1"},
		{Config{URL: "http://x", HeadersFile: write(t, "h", "A: b\nB c: d\n", 0o600)}, "line 2"},
	} {
		if _, err := New(context.Background(), c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.cfg, err, c.want)
		}
	}
}

func TestReports(t *testing.T) {
	r, url := server(t, status(500, "", ""))
	c := client(t, Config{URL: url, Period: 10 * time.Millisecond})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	n := 0.0
	go func() {
		done <- c.Run(ctx, func() []Metric {
			n++
			return []Metric{
				{Name: "process.memory.usage", Unit: "By", Value: 1024},
				{Name: "strata.dropped", Unit: "{record}", Total: true, Value: n, Attrs: map[string]string{"reason": "crc"}},
				{Name: "strata.dropped", Unit: "{record}", Total: true, Value: n, Attrs: map[string]string{"reason": "evicted"}},
			}
		})
	}()
	for end := time.Now().Add(10 * time.Second); c.Stats().Reports < 3 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if s := c.Stats(); s.Reports < 3 || s.Failures != 1 {
		t.Errorf("%+v", s)
	}
	m := r.metrics()[2:4] // of the second request
	sum := m[1].GetSum()
	if m[0].Name != "process.memory.usage" || m[0].GetGauge().DataPoints[0].GetAsDouble() != 1024 || sum == nil || !sum.IsMonotonic || len(sum.DataPoints) != 2 {
		t.Fatalf("%v", m)
	}
	if p := sum.DataPoints[1]; attrs(p.Attributes)["reason"] != "evicted" || p.StartTimeUnixNano == 0 || p.TimeUnixNano < p.StartTimeUnixNano || p.GetAsDouble() != 2 {
		t.Errorf("%v", p)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for s, want := range map[string]time.Duration{
		"": 0, "5": 5 * time.Second, "-5": 0, "99999999999999": 0, "x": 0,
		now.Add(time.Minute).Format(http.TimeFormat): time.Minute, now.Add(-time.Minute).Format(http.TimeFormat): 0,
	} {
		if got := retryAfter(s, now); got != want {
			t.Errorf("%q: %s", s, got)
		}
	}
}

func FuzzPoint(f *testing.F) {
	f.Add([]byte(`{"id":"f","cause":"l3.mtu.blackhole","time":"2026-01-01T00:00:00Z","scope":{"kind":"host","id":"host:x"},"confidence":1}`), int64(5))
	f.Add([]byte(`[]`), int64(0))
	f.Fuzz(func(t *testing.T, b []byte, shift int64) {
		_, _ = point(buffer.Item{Payload: b, Shift: time.Duration(shift)})
	})
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("7")
	f.Add("Thu, 01 Jan 2026 00:00:00 GMT")
	f.Fuzz(func(t *testing.T, s string) {
		if retryAfter(s, time.Unix(0, 0)) < 0 {
			t.Fatal(s)
		}
	})
}

func BenchmarkPoint(b *testing.B) {
	it := item(b, 1, time.Now())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := point(it); err != nil {
			b.Fatal(err)
		}
	}
}
