package otlp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"

	"github.com/strata-edge/strata/buffer"
	"github.com/strata-edge/strata/edge/diag"
)

// Stats counts since New.
type Stats struct {
	Exported uint64 // findings that the server took
	Rejected uint64 // findings given up: no finding, or refused for good
	Partial  uint64 // requests that the server took in part
	Reports  uint64 // snapshots of Strata's own figures that the server took
	Failures uint64 // requests that failed
}

// Client exports to one endpoint.
type Client struct {
	cfg   Config
	log   *slog.Logger
	exp   *otlpmetrichttp.Exporter
	res   *resource.Resource
	http  *http.Client
	start time.Time

	exported, rejected, partial, reports, failures atomic.Uint64
}

// New checks the configuration and reads the files that it names; it does not connect.
func New(ctx context.Context, cfg Config) (*Client, error) {
	if cfg.Timeout <= 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.Period <= 0 {
		cfg.Period = DefaultPeriod
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	u, err := cfg.endpoint()
	if err != nil {
		return nil, err
	}
	headers, err := cfg.headers()
	if err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, log: cfg.Logger, start: time.Now()}
	transport, err := c.cfg.transport()
	if err != nil {
		return nil, err
	}
	c.http = &http.Client{
		Transport: recorder{transport},
		// A redirect would carry the credentials elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	options := []otlpmetrichttp.Option{
		otlpmetrichttp.WithEndpoint(u.Host),
		otlpmetrichttp.WithURLPath(u.Path),
		otlpmetrichttp.WithHeaders(headers),
		otlpmetrichttp.WithCompression(otlpmetrichttp.GzipCompression),
		otlpmetrichttp.WithMaxResponseSize(maxResponse),
		otlpmetrichttp.WithRetry(otlpmetrichttp.RetryConfig{Enabled: false}),
		otlpmetrichttp.WithHTTPClient(c.http),
	}
	if u.Scheme == "http" {
		options = append(options, otlpmetrichttp.WithInsecure())
	}
	if c.exp, err = otlpmetrichttp.New(ctx, options...); err != nil {
		return nil, fmt.Errorf("otlp exporter for %s: %w", cfg.URL, err)
	}
	c.res = resource.NewSchemaless(
		attribute.String("service.name", "strata"),
		attribute.String("service.version", cfg.Version),
		attribute.String("service.instance.id", cfg.Device),
		attribute.String("host.id", cfg.Device),
	)
	return c, nil
}

// Close frees the connections.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return c.exp.Shutdown(context.Background())
}

// Send exports the items in one request. Records that are no finding, and those in a
// request that the server calls bad, are given up, counted, and reported as acknowledged.
func (c *Client) Send(ctx context.Context, items []buffer.Item) ([]buffer.ID, error) {
	acked := make([]buffer.ID, 0, len(items))
	points := make([]metricdata.DataPoint[float64], 0, len(items))
	for _, it := range items {
		p, err := point(it)
		if err != nil {
			c.rejected.Add(1)
			c.log.Warn("record cannot be exported and is given up", "id", uint64(it.ID), "error", err)
			acked = append(acked, it.ID)
			continue
		}
		points = append(points, p)
	}
	if len(points) == 0 {
		return acked, nil
	}
	err := c.export(ctx, []metricdata.Metrics{{
		Name: "strata.finding", Unit: "1", Description: "Confidence of a finding, at its own time.",
		Data: metricdata.Gauge[float64]{DataPoints: points},
	}})
	var refused *refusedError
	switch {
	case errors.As(err, &refused):
		c.rejected.Add(uint64(len(points)))
		c.log.Warn("otlp endpoint refuses findings for good", "findings", len(points), "error", err)
	case err != nil:
		return acked, err
	default:
		c.exported.Add(uint64(len(points)))
	}
	acked = acked[:0]
	for _, it := range items {
		acked = append(acked, it.ID)
	}
	return acked, nil
}

// point turns a record into a point at the finding's own, where needed corrected, time.
func point(it buffer.Item) (metricdata.DataPoint[float64], error) {
	var f diag.Finding
	if err := json.Unmarshal(it.Payload, &f); err != nil {
		return metricdata.DataPoint[float64]{}, fmt.Errorf("decode finding: %w", err)
	}
	if f.Cause == "" || f.Time.IsZero() {
		return metricdata.DataPoint[float64]{}, errors.New("decode finding: no cause or no time")
	}
	t := f.Time.Add(it.Shift)
	attrs := []attribute.KeyValue{
		attribute.String("strata.cause", f.Cause),
		attribute.Int("strata.layer", int(f.Layer)),
		attribute.String("strata.scope.kind", f.Scope.Kind),
		attribute.String("strata.scope.id", f.Scope.ID),
		attribute.String("strata.state", string(f.State)),
	}
	if f.Severity != "" {
		attrs = append(attrs, attribute.String("strata.severity", string(f.Severity)))
	}
	if !it.Dated() {
		attrs = append(attrs, attribute.Bool("strata.clock.synced", false))
	}
	return metricdata.DataPoint[float64]{
		Attributes: attribute.NewSet(attrs...), Time: t, Value: f.Confidence,
		Exemplars: []metricdata.Exemplar[float64]{{
			Time: t, Value: f.Confidence,
			FilteredAttributes: []attribute.KeyValue{attribute.String("strata.finding.id", f.ID)},
		}},
	}, nil
}

// refusedError is an answer that sending the same again cannot change.
type refusedError struct {
	status int
	err    error
}

func (e *refusedError) Error() string {
	return fmt.Sprintf("refused with status %d: %v", e.status, e.err)
}
func (e *refusedError) Unwrap() error { return e.err }

// laterError carries what the server asked for.
type laterError struct {
	err   error
	after time.Duration
}

func (e *laterError) Error() string             { return e.err.Error() }
func (e *laterError) Unwrap() error             { return e.err }
func (e *laterError) RetryAfter() time.Duration { return e.after }

// export sends one request and judges the outcome by the server's answer.
func (c *Client) export(ctx context.Context, metrics []metricdata.Metrics) error {
	// The exporter's own time-out does not hold for a client that it is given.
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	var a answer
	err := c.exp.Export(context.WithValue(ctx, answerKey{}, &a), &metricdata.ResourceMetrics{
		Resource:     c.res,
		ScopeMetrics: []metricdata.ScopeMetrics{{Scope: scope, Metrics: metrics}},
	})
	if err == nil {
		return nil
	}
	if a.status >= 200 && a.status <= 299 {
		c.partial.Add(1)
		c.log.Warn("otlp endpoint took a part only", "error", err)
		return nil
	}
	c.failures.Add(1)
	err = fmt.Errorf("export to %s: %w", c.cfg.URL, err)
	switch a.status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return &refusedError{a.status, err}
	}
	if a.after > 0 {
		return &laterError{err, a.after}
	}
	return err
}

// answer is what the server said to one request; 0 where it said nothing.
type answer struct {
	status int
	after  time.Duration
}

type answerKey struct{}

// recorder notes the answer in the request's context: the exporter's errors give neither
// the status nor Retry-After.
type recorder struct{ next http.RoundTripper }

func (r recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := r.next.RoundTrip(req)
	if a, ok := req.Context().Value(answerKey{}).(*answer); ok && err == nil {
		a.status = resp.StatusCode
		a.after = retryAfter(resp.Header.Get("Retry-After"), time.Now())
	}
	return resp, err
}

// retryAfter reads seconds or a date (RFC 9110, 10.2.3); 0 where there is neither.
func retryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil {
		return max(0, t.Sub(now))
	}
	return 0
}

// Stats gives a snapshot.
func (c *Client) Stats() Stats {
	return Stats{
		Exported: c.exported.Load(), Rejected: c.rejected.Load(), Partial: c.partial.Load(),
		Reports: c.reports.Load(), Failures: c.failures.Load(),
	}
}
