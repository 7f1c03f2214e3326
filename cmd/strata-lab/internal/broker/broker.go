package broker

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
)

// Broker is a running MQTT broker that lets everybody in.
type Broker struct {
	server *mochi.Server
	addr   string
}

// open is the hook that lets everybody connect, publish and subscribe.
type open struct{ mochi.HookBase }

func (*open) ID() string           { return "open" }
func (*open) Provides(b byte) bool { return b == mochi.OnConnectAuthenticate || b == mochi.OnACLCheck }

func (*open) OnConnectAuthenticate(*mochi.Client, packets.Packet) bool { return true }
func (*open) OnACLCheck(*mochi.Client, string, bool) bool              { return true }

// Start opens a broker on addr ("127.0.0.1:0" picks a free port).
func Start(addr string) (*Broker, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for mqtt on %s: %w", addr, err)
	}
	server := mochi.New(&mochi.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err := server.AddHook(new(open), nil); err != nil {
		_ = ln.Close()
		return nil, fmt.Errorf("mqtt broker %s: %w", addr, err)
	}
	if err := server.AddListener(listeners.NewNet("lab", ln)); err != nil {
		_ = ln.Close()
		return nil, fmt.Errorf("mqtt broker %s: %w", addr, err)
	}
	if err := server.Serve(); err != nil {
		_ = ln.Close()
		return nil, fmt.Errorf("mqtt broker %s: %w", addr, err)
	}
	return &Broker{server: server, addr: ln.Addr().String()}, nil
}

// Addr is the host and port that the broker listens on.
func (b *Broker) Addr() string { return b.addr }

// URL is the address in the form that clients take: "tcp://host:port".
func (b *Broker) URL() string { return "tcp://" + b.addr }

// Close drops every client and ends the broker.
func (b *Broker) Close() error {
	if err := b.server.Close(); err != nil {
		return fmt.Errorf("close mqtt broker %s: %w", b.addr, err)
	}
	return nil
}

// settle is how long Subscribe tries to reach the broker before it gives up.
const settle = 10 * time.Second

// Subscribe hands every message of topic (a filter, e.g. "strata/#") at url to receive,
// one at a time and in order, until ctx ends; then it returns nil. It fails when the
// broker cannot be reached within ten seconds or when the connection is lost: a lab run
// that missed a finding must not go on. The payload belongs to receive.
func Subscribe(ctx context.Context, url, topic string, receive func(topic string, payload []byte)) error {
	lost := make(chan error, 1)
	opts := paho.NewClientOptions().
		AddBroker(url).
		SetClientID(fmt.Sprintf("lab-%d", time.Now().UnixNano())).
		SetAutoReconnect(false).
		SetConnectTimeout(2 * time.Second).
		SetKeepAlive(20 * time.Second).
		SetConnectionLostHandler(func(_ paho.Client, err error) {
			select {
			case lost <- err:
			default:
			}
		})
	client := paho.NewClient(opts)
	deadline := time.Now().Add(settle)
	for {
		t := client.Connect()
		if t.WaitTimeout(3*time.Second) && t.Error() == nil {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("connect to mqtt broker %s: no success in %s: %w", url, settle, orTimeout(t.Error()))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(100 * time.Millisecond):
		}
	}
	defer client.Disconnect(100)
	t := client.Subscribe(topic, 1, func(_ paho.Client, m paho.Message) { receive(m.Topic(), m.Payload()) })
	if !t.WaitTimeout(3*time.Second) || t.Error() != nil {
		return fmt.Errorf("subscribe to %s at %s: %w", topic, url, orTimeout(t.Error()))
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-lost:
		return fmt.Errorf("mqtt broker %s: connection lost: %w", url, err)
	}
}

func orTimeout(err error) error {
	if err == nil {
		return context.DeadlineExceeded
	}
	return err
}
