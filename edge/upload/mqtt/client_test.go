package mqtt

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/strata-edge/strata/buffer"
)

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// inbox is what arrived at an embedded broker.
type inbox struct {
	mu   sync.Mutex
	msgs []packets.Packet
	stop func() // the broker; may be called again
}

func (b *inbox) add(_ *mochi.Client, _ packets.Subscription, p packets.Packet) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.msgs = append(b.msgs, p)
}

func (b *inbox) all(topic string) (out []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.msgs {
		if m.TopicName == topic {
			out = append(out, string(m.Payload))
		}
	}
	return out
}

// embedded starts a broker in this process.
func embedded(t *testing.T, address string, config *tls.Config, hooks ...mochi.Hook) (*mochi.Server, *inbox) {
	t.Helper()
	s := mochi.New(&mochi.Options{InlineClient: true, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if len(hooks) == 0 {
		hooks = []mochi.Hook{&gate{}}
	}
	for _, h := range hooks {
		if err := s.AddHook(h, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.AddListener(listeners.NewTCP(listeners.Config{ID: "t", Address: address, TLSConfig: config})); err != nil {
		t.Fatal(err)
	}
	in := &inbox{}
	if err := s.Subscribe("#", 1, in.add); err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(); err != nil {
		t.Fatal(err)
	}
	in.stop = sync.OnceFunc(func() { s.Close() })
	t.Cleanup(in.stop)
	return s, in
}

func start(t *testing.T, cfg Config) (c *Client, stop func()) {
	t.Helper()
	cfg.Device = "dev"
	cfg.MinBackoff, cfg.MaxBackoff = 20*time.Millisecond, 50*time.Millisecond
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(stop)
	return c, stop
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("timed out: %s", what)
}

func TestPublishBirthAndDeath(t *testing.T) {
	address := freePort(t)
	server, in := embedded(t, address, nil)
	n := uint64(6)
	c, stop := start(t, Config{URL: "mqtt://" + address, Version: "1.2", Sequence: func() (uint64, error) { n++; return n, nil }})
	eventually(t, "connected", func() bool { return c.Stats().Connected })

	now := buffer.Stamp{Boot: "b", Wall: time.Now().Add(time.Minute), Synced: true}
	old := buffer.Stamp{Boot: "b", Wall: time.Now().Add(-time.Hour), Synced: true}
	big := finding
	big.Adjusted = strings.Repeat("x", MaxPayload)
	items := []buffer.Item{item(t, finding, now), item(t, finding, old), item(t, big, now), {ID: 9, Payload: []byte("junk")}}
	for i := range items {
		items[i].ID = buffer.ID(i)
	}
	acked, err := c.Send(context.Background(), items)
	if err != nil || len(acked) != 4 {
		t.Fatalf("%v, %v", acked, err)
	}
	eventually(t, "two findings", func() bool { return len(in.all("strata/dev/finding")) == 2 })
	got := in.all("strata/dev/finding")
	if strings.Contains(got[0], "historical") || !strings.Contains(got[1], `"historical":true`) {
		t.Errorf("got %q", got)
	}
	if s := c.Stats(); s.Published != 2 || s.Rejected != 2 || s.Historical != 1 || s.Connections != 1 {
		t.Errorf("%+v", s)
	}
	stop()
	eventually(t, "death", func() bool { return len(in.all("strata/dev/status")) == 2 })
	var birth, death status
	for i, s := range []*status{&birth, &death} {
		if err := json.Unmarshal([]byte(in.all("strata/dev/status")[i]), s); err != nil {
			t.Fatal(err)
		}
	}
	if birth.State != "online" || death.State != "offline" || birth.Sequence != 7 || death.Sequence != 7 || birth.Version != "1.2" || birth.Time == nil {
		t.Errorf("birth %+v, death %+v", birth, death)
	}
	if m := server.Topics.Messages("strata/dev/status"); len(m) != 1 || !strings.Contains(string(m[0].Payload), "offline") {
		t.Errorf("retained: %+v", m)
	}
	if server.Info.Subscriptions > 1 { // the test's own
		t.Errorf("%d subscriptions: the device must have none", server.Info.Subscriptions)
	}
}

func TestLastWillAfterLoss(t *testing.T) {
	address := freePort(t)
	server, in := embedded(t, address, nil)
	c, _ := start(t, Config{URL: "mqtt://" + address})
	eventually(t, "connected", func() bool { return c.Stats().Connected })
	cl, ok := server.Clients.Get("strata-dev")
	if !ok {
		t.Fatal("no client")
	}
	cl.Stop(fmt.Errorf("cut")) // without a DISCONNECT
	eventually(t, "back again", func() bool { return c.Stats().Connections == 2 && c.Stats().Connected })
	eventually(t, "will and births", func() bool { return len(in.all("strata/dev/status")) == 3 })
	all := strings.Join(in.all("strata/dev/status"), "\n")
	if !strings.Contains(all, `{"state":"offline","sequence":1}`) || !strings.Contains(all, `"sequence":2`) {
		t.Error(all)
	}
}

// gate lets those with the right password in; without one it lets all in. With silent set
// it swallows findings, so that they get no PUBACK.
type gate struct {
	mochi.HookBase
	password string
	silent   bool
}

func (*gate) ID() string { return "gate" }
func (*gate) Provides(b byte) bool {
	return b == mochi.OnPacketRead || b == mochi.OnConnectAuthenticate || b == mochi.OnACLCheck
}
func (g *gate) OnConnectAuthenticate(_ *mochi.Client, p packets.Packet) bool {
	return g.password == "" || string(p.Connect.Password) == g.password
}
func (*gate) OnACLCheck(*mochi.Client, string, bool) bool { return true }
func (g *gate) OnPacketRead(_ *mochi.Client, p packets.Packet) (packets.Packet, error) {
	if g.silent && p.FixedHeader.Type == packets.Publish && strings.HasSuffix(p.TopicName, "/finding") {
		return p, packets.ErrRejectPacket
	}
	return p, nil
}

// TestNoPubackIsNoAck: without a PUBACK nothing may count as sent, neither on time-out nor
// when the broker goes away.
func TestNoPubackIsNoAck(t *testing.T) {
	address := freePort(t)
	_, in := embedded(t, address, nil, &gate{silent: true})
	c, _ := start(t, Config{URL: "mqtt://" + address})
	eventually(t, "connected", func() bool { return c.Stats().Connected })
	now := buffer.Stamp{Wall: time.Now(), Synced: true}
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if acked, err := c.Send(ctx, []buffer.Item{item(t, finding, now)}); err == nil || len(acked) != 0 {
		t.Errorf("time-out: %v, %v", acked, err)
	}
	time.AfterFunc(100*time.Millisecond, in.stop)
	if acked, err := c.Send(context.Background(), []buffer.Item{item(t, finding, now)}); err == nil || len(acked) != 0 {
		t.Errorf("broker went away: %v, %v", acked, err)
	}
	ctx, cancel = context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if acked, err := c.Send(ctx, []buffer.Item{item(t, finding, now)}); err == nil || len(acked) != 0 {
		t.Errorf("no broker: %v, %v", acked, err)
	}
}

func TestCredentials(t *testing.T) {
	address := freePort(t)
	embedded(t, address, nil, &gate{password: "right"})
	user, password := write(t, "user", "gw\n", 0o600), write(t, "password", "wrong\n", 0o600)
	c, _ := start(t, Config{URL: "mqtt://" + address, UsernameFile: user, PasswordFile: password})
	eventually(t, "refused", func() bool { return c.Stats().LastError != "" })
	if e := c.Stats().LastError; strings.Contains(e, "wrong") || !strings.Contains(e, "not Authorized") {
		t.Errorf("error %q", e)
	}
	if err := os.WriteFile(password, []byte("right\n"), 0o600); err != nil { // rotation
		t.Fatal(err)
	}
	eventually(t, "connected with the new password", func() bool { return c.Stats().Connected })
}

func TestTLS(t *testing.T) {
	ca, other := newAuthority(t, "ca"), newAuthority(t, "other")
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	broker := func(cert, key string, max uint16) string {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		address := freePort(t)
		embedded(t, address, &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, MinVersion: tls.VersionTLS10, MaxVersion: max})
		return "mqtts://" + address
	}
	day := time.Now().Add(24 * time.Hour)
	cert, key := ca.issue("broker.example", day)
	good := broker(cert, key, 0)
	oldCert, oldKey := ca.issue("broker.example", time.Now().Add(-time.Hour))
	expired := broker(oldCert, oldKey, 0)
	old := broker(cert, key, tls.VersionTLS11)
	mine, mineKey := ca.issue("device", day)
	foreign, foreignKey := other.issue("device", day)
	late, lateKey := ca.issue("device", time.Now().Add(-time.Hour))

	for name, c := range map[string]struct {
		cfg  Config
		want string // in the error; empty: connects
	}{
		"good":                  {Config{URL: good, CAFile: ca.file, CertFile: mine, KeyFile: mineKey, ServerName: "broker.example"}, ""},
		"wrong ca":              {Config{URL: good, CAFile: other.file, CertFile: mine, KeyFile: mineKey, ServerName: "broker.example"}, "signed by unknown authority"},
		"broker's is expired":   {Config{URL: expired, CAFile: ca.file, CertFile: mine, KeyFile: mineKey, ServerName: "broker.example"}, "expired"},
		"wrong host":            {Config{URL: good, CAFile: ca.file, CertFile: mine, KeyFile: mineKey, ServerName: "elsewhere.example"}, "not elsewhere.example"},
		"address is no name":    {Config{URL: good, CAFile: ca.file, CertFile: mine, KeyFile: mineKey}, "127.0.0.1"},
		"no client certificate": {Config{URL: good, CAFile: ca.file, ServerName: "broker.example"}, "certificate required"},
		"foreign client":        {Config{URL: good, CAFile: ca.file, CertFile: foreign, KeyFile: foreignKey, ServerName: "broker.example"}, "certificate"},
		"expired client":        {Config{URL: good, CAFile: ca.file, CertFile: late, KeyFile: lateKey, ServerName: "broker.example"}, "certificate"},
		"TLS 1.1 only":          {Config{URL: old, CAFile: ca.file, CertFile: mine, KeyFile: mineKey, ServerName: "broker.example"}, "protocol version"},
	} {
		t.Run(name, func(t *testing.T) {
			client, _ := start(t, c.cfg)
			if c.want == "" {
				eventually(t, "connected", func() bool { return client.Stats().Connected })
				return
			}
			eventually(t, "refused", func() bool { return client.Stats().LastError != "" })
			if e := client.Stats().LastError; !strings.Contains(e, c.want) {
				t.Errorf("error %q lacks %q", e, c.want)
			}
			if client.Stats().Connections != 0 {
				t.Error("it connected")
			}
		})
	}

	t.Run("rotation", func(t *testing.T) {
		cfg := Config{URL: good, CAFile: ca.file, ServerName: "broker.example"}
		cfg.CertFile, cfg.KeyFile = late, lateKey
		client, _ := start(t, cfg)
		eventually(t, "refused", func() bool { return client.Stats().LastError != "" })
		for from, to := range map[string]string{mine: late, mineKey: lateKey} {
			b, err := os.ReadFile(from)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(to, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "connected with the new certificate", func() bool { return client.Stats().Connected })
	})
	if err := os.Chmod(mineKey, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{URL: good, Device: "d", CAFile: ca.file, CertFile: mine, KeyFile: mineKey}); err == nil || !strings.Contains(err.Error(), "0600") {
		t.Errorf("a key that the group can read: %v", err)
	}
}
