package mqtt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/strata-edge/strata/buffer"
)

// ErrTooLarge is the reason for which a record is given up: the broker would refuse it
// for ever. It is counted in Stats.Rejected.
var ErrTooLarge = errors.New("payload over the limit")

var errNotConnected = errors.New("not connected to the broker")

// Stats counts since New.
type Stats struct {
	Connected   bool
	Connections uint64
	Published   uint64 // with a PUBACK
	Historical  uint64 // of them
	Rejected    uint64 // given up: too large or no JSON object
	LastError   string // of the latest connection attempt or loss; empty while connected
}

// Client is one connection to one broker, made again whenever it ends.
type Client struct {
	cfg     Config
	log     *slog.Logger
	finding string
	status  string

	mu      sync.Mutex
	session *session      // nil while not connected
	changed chan struct{} // closed and replaced when session changes
	lastErr string

	count                                        uint64 // Sequence where the configuration has none
	connections, published, historical, rejected atomic.Uint64
}

// session is one connection.
type session struct {
	client paho.Client
	since  time.Time
	lost   chan struct{} // closed once the connection is lost
}

// New checks the configuration and the files that it names; it does not connect.
func New(cfg Config) (*Client, error) {
	if cfg.ClientID == "" {
		cfg.ClientID = "strata-" + cfg.Device
	}
	if cfg.KeepAlive <= 0 {
		cfg.KeepAlive = DefaultKeepAlive
	}
	if cfg.MinBackoff <= 0 {
		cfg.MinBackoff = DefaultMinBackoff
	}
	if cfg.MaxBackoff < cfg.MinBackoff {
		cfg.MaxBackoff = max(DefaultMaxBackoff, cfg.MinBackoff)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	return &Client{
		cfg: cfg, log: cfg.Logger, changed: make(chan struct{}),
		finding: "strata/" + cfg.Device + "/finding", status: "strata/" + cfg.Device + "/status",
	}, nil
}

// Run keeps the connection until the context ends; then it says good-bye and returns nil.
// It gives an error only where trying again is of no use.
func (c *Client) Run(ctx context.Context) error {
	wait := time.Duration(0)
	var sequence uint64
	for {
		if sequence == 0 {
			var err error
			if sequence, err = c.nextSequence(); err != nil {
				return fmt.Errorf("mqtt sequence: %w", err)
			}
		}
		s, err := c.connect(ctx, sequence)
		if err == nil {
			wait = 0
			err = c.stay(ctx, s, sequence)
			sequence = 0
		}
		if ctx.Err() != nil {
			return nil
		}
		c.setError(err)
		if wait == 0 {
			c.log.Warn("mqtt connection failed, will retry", "broker", c.cfg.URL, "error", err)
		}
		wait = min(max(2*wait, c.cfg.MinBackoff), c.cfg.MaxBackoff)
		// Half of it at random, so that a fleet does not return as one.
		t := time.NewTimer(wait/2 + time.Duration(rand.Int64N(int64(wait/2)+1)))
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
	}
}

func (c *Client) nextSequence() (uint64, error) {
	if c.cfg.Sequence != nil {
		return c.cfg.Sequence()
	}
	c.count++
	return c.count, nil
}

type status struct {
	State    string     `json:"state"`
	Sequence uint64     `json:"sequence"`
	Version  string     `json:"version,omitempty"`
	Time     *time.Time `json:"time,omitempty"`
}

func (c *Client) connect(ctx context.Context, sequence uint64) (*session, error) {
	address, secure, host, err := c.cfg.endpoint()
	if err != nil {
		return nil, err
	}
	user, password, err := c.cfg.credentials()
	if err != nil {
		return nil, err
	}
	will, err := json.Marshal(status{State: "offline", Sequence: sequence})
	if err != nil {
		return nil, err
	}
	s := &session{lost: make(chan struct{})}
	var once sync.Once
	o := paho.NewClientOptions().
		AddBroker(address).
		SetClientID(c.cfg.ClientID).
		SetProtocolVersion(4).
		SetCleanSession(true).
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetConnectTimeout(connectTimeout).
		SetWriteTimeout(writeTimeout).
		SetKeepAlive(c.cfg.KeepAlive).
		SetMaxReconnectInterval(c.cfg.MaxBackoff).
		SetUsername(user).
		SetPassword(password).
		SetBinaryWill(c.status, will, 1, true).
		SetConnectionLostHandler(func(_ paho.Client, err error) {
			once.Do(func() {
				c.setError(err)
				close(s.lost)
			})
		})
	if secure {
		t, err := c.cfg.tls(host)
		if err != nil {
			return nil, err
		}
		o.SetTLSConfig(t)
	}
	s.client = paho.NewClient(o)
	if err := wait(ctx, s.client.Connect(), connectTimeout+time.Second); err != nil {
		s.client.Disconnect(0)
		return nil, fmt.Errorf("connect to %s: %w", c.cfg.URL, err)
	}
	s.since = time.Now()
	birth, err := json.Marshal(status{State: "online", Sequence: sequence, Version: c.cfg.Version, Time: &s.since})
	if err == nil {
		err = wait(ctx, s.client.Publish(c.status, 1, true, birth), ackTimeout)
	}
	if err != nil {
		s.client.Disconnect(0)
		return nil, fmt.Errorf("announce to %s: %w", c.cfg.URL, err)
	}
	return s, nil
}

// stay offers the session to Send until it is lost or the context ends.
func (c *Client) stay(ctx context.Context, s *session, sequence uint64) error {
	c.connections.Add(1)
	c.setSession(s)
	defer c.setSession(nil)
	c.log.Info("mqtt connected", "broker", c.cfg.URL, "sequence", sequence)
	select {
	case <-s.lost:
		s.client.Disconnect(0)
		return errors.New(c.Stats().LastError)
	case <-ctx.Done():
	}
	// A clean disconnect discards the last will, so the same words are said here. The
	// context is over: the bound is what is left for it.
	if will, err := json.Marshal(status{State: "offline", Sequence: sequence}); err == nil {
		s.client.Publish(c.status, 1, true, will).WaitTimeout(2 * time.Second)
	}
	s.client.Disconnect(250)
	return nil
}

func (c *Client) setSession(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session = s
	if s != nil {
		c.lastErr = ""
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *Client) setError(err error) {
	if err == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastErr = err.Error()
}

// wait waits for a token no longer than limit: not every token completes.
func wait(ctx context.Context, t paho.Token, limit time.Duration) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-t.Done():
		return t.Error()
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return fmt.Errorf("no answer within %s", limit)
	}
}

// Send publishes the items and waits until each is acknowledged by the broker. While
// there is no connection it waits for one. A record that can never be sent is given up,
// counted, and reported as acknowledged.
func (c *Client) Send(ctx context.Context, items []buffer.Item) ([]buffer.ID, error) {
	s, err := c.await(ctx)
	if err != nil {
		return nil, err
	}
	acked := make([]buffer.ID, 0, len(items))
	tokens := make([]paho.Token, len(items))
	historical := make([]bool, len(items))
	for i, it := range items {
		historical[i] = it.Dated() && it.Wall().Before(s.since)
		payload, err := encode(it, historical[i])
		if err == nil && len(payload) > MaxPayload {
			err = fmt.Errorf("%w: %d bytes", ErrTooLarge, len(payload))
		}
		if err != nil {
			c.rejected.Add(1)
			c.log.Warn("finding cannot be sent and is given up", "id", uint64(it.ID), "error", err)
			acked = append(acked, it.ID)
			continue
		}
		if !s.client.IsConnectionOpen() {
			break
		}
		tokens[i] = s.client.Publish(c.finding, 1, false, payload)
	}
	deadline := time.Now().Add(ackTimeout)
	var failed error
	for i, t := range tokens {
		if t == nil {
			continue
		}
		if err := s.wait(ctx, t, time.Until(deadline)); err != nil {
			failed = err
			continue
		}
		acked = append(acked, items[i].ID)
		c.published.Add(1)
		if historical[i] {
			c.historical.Add(1)
		}
	}
	if failed == nil && len(acked) < len(items) {
		failed = errNotConnected
	}
	if failed != nil {
		return acked, fmt.Errorf("publish to %s: %w", c.cfg.URL, failed)
	}
	return acked, nil
}

// wait is wait, ended also by the loss of the connection: its tokens may never complete.
func (s *session) wait(ctx context.Context, t paho.Token, limit time.Duration) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-t.Done():
	case <-s.lost:
		// An acknowledgement may have come just before the loss.
		if !t.WaitTimeout(0) {
			return errNotConnected
		}
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return errors.New("no PUBACK in time")
	}
	return t.Error()
}

// await gives the session once there is one.
func (c *Client) await(ctx context.Context) (*session, error) {
	for {
		c.mu.Lock()
		s, changed, last := c.session, c.changed, c.lastErr
		c.mu.Unlock()
		if s != nil {
			return s, nil
		}
		select {
		case <-ctx.Done():
			if last == "" {
				return nil, errNotConnected
			}
			return nil, fmt.Errorf("%w: %s", errNotConnected, last)
		case <-changed:
		}
	}
}

// Stats gives a snapshot.
func (c *Client) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Stats{
		Connected: c.session != nil, LastError: c.lastErr,
		Connections: c.connections.Load(), Published: c.published.Load(),
		Historical: c.historical.Load(), Rejected: c.rejected.Load(),
	}
}
