package main

import (
	"bytes"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
)

// findingTopic is where the service under test publishes.
const findingTopic = "strata/d/finding"

// broker is a mosquitto on the near namespace's loopback, in one life after the other,
// and the subscriber that each life gets before the relay lets the service in.
type broker struct {
	t         *testing.T
	near, bin string
	relay     *relay
	inbox     *inbox
	lives     int
	cmd       *exec.Cmd
	client    paho.Client
	log       bytes.Buffer
}

const brokerAddress = "127.0.0.1:1883"

func (b *broker) start() {
	b.t.Helper()
	b.lives++
	config := filepath.Join(b.t.TempDir(), "mosquitto.conf")
	text := "listener 1883 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 0\nlog_dest stderr\nuser root\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	b.log.Reset()
	b.cmd = exec.Command("ip", "netns", "exec", b.near, b.bin, "-c", config)
	b.cmd.Stderr = &b.log
	if err := b.cmd.Start(); err != nil {
		b.t.Fatalf("start mosquitto: %v", err)
	}
	o := paho.NewClientOptions().AddBroker("tcp://" + brokerAddress).SetClientID("subscriber").
		SetAutoReconnect(false).SetConnectRetry(true).SetConnectRetryInterval(20 * time.Millisecond).
		SetCustomOpenConnectionFn(func(*url.URL, paho.ClientOptions) (net.Conn, error) { return b.relay.dial() }).
		SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) { b.inbox.take(m.Payload()) })
	b.client = paho.NewClient(o)
	for _, step := range []func() paho.Token{b.client.Connect, func() paho.Token { return b.client.Subscribe(findingTopic, 1, nil) }} {
		if k := step(); !k.WaitTimeout(10*time.Second) || k.Error() != nil {
			b.kill()
			b.t.Fatalf("subscriber: %v; mosquitto said:\n%s", k.Error(), b.log.String())
		}
	}
	b.relay.open()
}

// kill is SIGKILL in the middle of whatever flows.
func (b *broker) kill() {
	if b.cmd == nil {
		return
	}
	_ = b.cmd.Process.Kill() // it may have ended already
	b.relay.shut()
	_ = b.cmd.Wait()
	b.client.Disconnect(0)
	b.cmd = nil
}

// inbox is what the subscriber has received.
type inbox struct {
	mu       sync.Mutex
	payloads map[string]int
	reports  map[report]int
	changed  chan struct{} // closed and replaced at each arrival
	lonely   int           // acknowledged by a broker that died before it passed them on
}

func newInbox() *inbox {
	return &inbox{payloads: map[string]int{}, reports: map[report]int{}, changed: make(chan struct{})}
}

func (i *inbox) take(payload []byte) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.payloads[string(payload)]++
	if r, ok := reportOf(payload); ok {
		i.reports[r]++
	}
	close(i.changed)
	i.changed = make(chan struct{})
}

// await blocks until the payload has arrived; false where end comes first.
func (i *inbox) await(payload []byte, end <-chan struct{}) bool {
	for {
		i.mu.Lock()
		n, changed := i.payloads[string(payload)], i.changed
		i.mu.Unlock()
		if n > 0 {
			return true
		}
		select {
		case <-changed:
		case <-end:
			i.mu.Lock()
			i.lonely++
			i.mu.Unlock()
			return false
		}
	}
}

func (i *inbox) missing(want map[report]string) (out []report) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for r := range want {
		if i.reports[r] == 0 {
			out = append(out, r)
		}
	}
	return out
}

// totals gives the messages that arrived, the different reports among them, and how
// many messages a broker acknowledged and did not pass on before its end.
func (i *inbox) totals() (messages, distinct, lonely int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, n := range i.reports {
		messages += n
	}
	return messages, len(i.reports), i.lonely
}

// relay is the service's way to the broker. It passes MQTT packets on as they are, and a
// PUBACK only once the inbox has what it acknowledges.
type relay struct {
	t       *testing.T
	near    string
	inbox   *inbox
	address string
	work    sync.WaitGroup

	mu   sync.Mutex
	down chan struct{} // closed while the broker is away, and once at the end
	trap *trap         // nil where nothing is to be stopped
}

// trap stops one direction of a connection at one packet, for good.
type trap struct {
	ack    bool // at a PUBACK, else at a finding
	after  int  // of those to let through
	sprung chan struct{}
}

func newRelay(t *testing.T, near string, in *inbox) *relay {
	t.Helper()
	r := &relay{t: t, near: near, inbox: in, down: make(chan struct{})}
	close(r.down)
	var l net.Listener
	if err := within(near, func() (err error) { l, err = net.Listen("tcp", "127.0.0.1:0"); return err }); err != nil {
		t.Fatalf("relay: %v", err)
	}
	r.address = l.Addr().String()
	r.work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.work.Go(func() { r.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		r.shut()
		r.work.Wait()
	})
	return r
}

// dial connects to the broker from inside its namespace.
func (r *relay) dial() (c net.Conn, err error) {
	err = within(r.near, func() (err error) {
		c, err = net.DialTimeout("tcp", brokerAddress, time.Second)
		return err
	})
	return c, err
}

func (r *relay) open() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = make(chan struct{})
}

// stopAt stops the line at the n-th next finding, or at the PUBACK of it: nothing
// more gets through in that direction. The channel is closed when it has happened.
func (r *relay) stopAt(ack bool, n int) <-chan struct{} {
	tr := &trap{ack: ack, after: n - 1, sprung: make(chan struct{})}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trap = tr
	return tr.sprung
}

// caught says that a finding, or the PUBACK of one, must not get through.
func (r *relay) caught(ack bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch tr := r.trap; {
	case tr == nil || tr.ack != ack:
		return false
	case tr.after > 0:
		tr.after--
		return false
	default:
		close(tr.sprung)
		r.trap = nil
		return true
	}
}

// shut ends every connection and refuses new ones.
func (r *relay) shut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.down:
	default:
		close(r.down)
	}
}

// serve passes one connection on until either side or the broker is gone.
func (r *relay) serve(service net.Conn) {
	defer service.Close()
	r.mu.Lock()
	down := r.down
	r.mu.Unlock()
	select {
	case <-down:
		return
	default:
	}
	upstream, err := r.dial()
	if err != nil {
		return
	}
	defer upstream.Close()
	end := make(chan struct{})
	finish := sync.OnceFunc(func() { close(end); service.Close(); upstream.Close() })
	var pumps sync.WaitGroup
	pumps.Go(func() {
		select {
		case <-down:
			finish()
		case <-end:
		}
	})
	var mu sync.Mutex
	open := map[uint16][]byte{} // findings without a PUBACK, by packet id
	pumps.Go(func() {
		defer finish()
		_ = pump(upstream, service, func(p packets.ControlPacket) bool {
			if m, ok := p.(*packets.PublishPacket); ok && m.TopicName == findingTopic {
				mu.Lock()
				open[m.MessageID] = m.Payload
				mu.Unlock()
				if r.caught(false) {
					<-end
					return false
				}
			}
			return true
		})
	})
	pumps.Go(func() {
		defer finish()
		_ = pump(service, upstream, func(p packets.ControlPacket) bool {
			m, ok := p.(*packets.PubackPacket)
			if !ok {
				return true
			}
			mu.Lock()
			payload, finding := open[m.MessageID]
			delete(open, m.MessageID)
			mu.Unlock()
			if !finding {
				return true
			}
			if r.caught(true) {
				<-end
				return false
			}
			return r.inbox.await(payload, end)
		})
	})
	pumps.Wait()
}

// pump copies packets until one side is gone or pass says no.
func pump(to, from net.Conn, pass func(packets.ControlPacket) bool) error {
	for {
		p, err := packets.ReadPacket(from)
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		if !pass(p) {
			return nil
		}
		if err := p.Write(to); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
}
