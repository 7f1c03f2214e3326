package mqtt

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"golang.org/x/sync/errgroup"

	"github.com/strata-edge/strata/buffer"
	"github.com/strata-edge/strata/edge/upload"
	"github.com/strata-edge/strata/internal/testreq"
)

func TestMain(m *testing.M) {
	if handled, code := buffer.CheckMain(os.Args[1:]); handled {
		os.Exit(code)
	}
	if path := os.Getenv("DELIVERY_BUFFER"); path != "" {
		if err := deliver(path, os.Getenv("DELIVERY_BROKER"), os.Getenv("DELIVERY_FROM")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// deliver is the agent in small: it puts numbered findings, says which Put returned, and
// drains to the broker, until it is killed or its input ends; then it drains and leaves.
func deliver(path, broker, from string) error {
	n, err := strconv.Atoi(from)
	if err != nil {
		return err
	}
	q, rep, err := buffer.Open(path, buffer.Options{Sinks: []string{"mqtt"}, Linger: 5 * time.Millisecond, CheckCommand: buffer.SelfCheck()})
	if err != nil {
		return err
	}
	if rep.Damaged != "" {
		return errors.New(rep.Damaged)
	}
	client, err := New(Config{
		URL: broker, Device: "dev", MinBackoff: 20 * time.Millisecond, MaxBackoff: 100 * time.Millisecond,
		Sequence: func() (uint64, error) { return q.Count("mqtt") },
	})
	if err != nil {
		return err
	}
	cursor, err := q.Sink("mqtt")
	if err != nil {
		return err
	}
	drain := upload.New(upload.Config{Name: "mqtt", MinBackoff: 20 * time.Millisecond, MaxBackoff: 100 * time.Millisecond, SendTimeout: 5 * time.Second}, cursor, client)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return q.Run(ctx) })
	g.Go(func() error { return client.Run(ctx) })
	g.Go(func() error { return drain.Run(ctx) })
	ended := make(chan struct{})
	go func() {
		bufio.NewReader(os.Stdin).ReadString('\n')
		close(ended)
	}()
	for {
		f := finding
		f.ID = strconv.Itoa(n)
		b, err := json.Marshal(f)
		if err != nil {
			return err
		}
		if err := q.Put(ctx, buffer.Record{Payload: b, Priority: buffer.Priority(n % 2)}); err != nil {
			return err
		}
		fmt.Println(f.ID)
		n++
		select {
		case <-ended:
			for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
				if s := q.Stats(); drain.Stats().Sent > 0 && s.Sinks["mqtt"].InFlight == 0 && s.Waiting == 0 && idle(drain) {
					break
				}
			}
			cancel()
			return errors.Join(g.Wait(), q.Close())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// idle says that nothing was sent for a while.
func idle(d *upload.Drain) bool { return time.Since(d.Stats().LastSent) > 500*time.Millisecond }

// mosquitto is a broker process on one port, killed and started at will.
type mosquitto struct {
	t           *testing.T
	bin, config string
	address     string
	cmd         *exec.Cmd
}

func newMosquitto(t *testing.T) *mosquitto {
	m := &mosquitto{t: t, bin: testreq.Tool(t, "mosquitto", "mosquitto"), address: freePort(t)}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil { // the broker drops root
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(m.address)
	if err != nil {
		t.Fatal(err)
	}
	// Sessions are saved at each change: the subscriber's must outlive a kill.
	m.config = filepath.Join(dir, "mosquitto.conf")
	text := fmt.Sprintf("listener %s 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location %s/\nautosave_on_changes true\nautosave_interval 1\nmax_queued_messages 0\nuser root\n", port, dir)
	if err := os.WriteFile(m.config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.kill)
	return m
}

func (m *mosquitto) start() {
	m.t.Helper()
	m.cmd = exec.Command(m.bin, "-c", m.config)
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	eventually(m.t, "broker listens", func() bool {
		c, err := net.Dial("tcp", m.address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

func (m *mosquitto) kill() {
	if m.cmd != nil {
		m.cmd.Process.Kill()
		m.cmd.Wait()
		m.cmd = nil
	}
}

// subscriber counts the findings that arrive, by id.
type subscriber struct {
	mu   sync.Mutex
	seen map[string]int
}

func newSubscriber(t *testing.T, address string) (*subscriber, paho.Client) {
	t.Helper()
	s := &subscriber{seen: map[string]int{}}
	o := paho.NewClientOptions().AddBroker("tcp://" + address).SetClientID("subscriber").SetCleanSession(false).
		SetAutoReconnect(true).SetMaxReconnectInterval(50 * time.Millisecond).SetConnectRetry(true).SetConnectRetryInterval(20 * time.Millisecond)
	o.SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) { s.take(m.Payload()) })
	o.SetOnConnectHandler(func(c paho.Client) { c.Subscribe("strata/+/finding", 1, nil) })
	c := paho.NewClient(o)
	if !c.Connect().WaitTimeout(10 * time.Second) {
		t.Fatal("subscriber cannot connect")
	}
	t.Cleanup(func() { c.Disconnect(50) })
	if !c.Subscribe("strata/+/finding", 1, nil).WaitTimeout(5 * time.Second) {
		t.Fatal("cannot subscribe")
	}
	return s, c
}

func (s *subscriber) take(b []byte) {
	var f struct{ ID string }
	if json.Unmarshal(b, &f) != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[f.ID]++
}

// TestNothingIsLost kills the writing process and the broker with SIGKILL in mid-stream,
// again and again. Every finding whose Put returned must reach the subscriber.
func TestNothingIsLost(t *testing.T) {
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 3))
	m := newMosquitto(t)
	m.start()
	sub, subClient := newSubscriber(t, m.address)
	path := filepath.Join(t.TempDir(), buffer.FileName)

	var put []string
	brokerKills := 0
	for round := range rounds {
		last := round == rounds-1
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), "DELIVERY_BUFFER="+path, "DELIVERY_BROKER=mqtt://"+m.address, "DELIVERY_FROM="+strconv.Itoa((round+1)*1_000_000))
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan []string)
		go func() {
			var ids []string
			for sc := bufio.NewScanner(out); sc.Scan(); {
				ids = append(ids, sc.Text())
			}
			done <- ids
		}()
		time.Sleep(time.Duration(100+rnd.IntN(300)) * time.Millisecond)
		if round%2 == 1 {
			m.kill()
			brokerKills++
			time.Sleep(time.Duration(rnd.IntN(100)) * time.Millisecond)
			m.start()
			eventually(t, "subscriber is back", subClient.IsConnectionOpen)
			time.Sleep(time.Duration(rnd.IntN(200)) * time.Millisecond)
		}
		if last {
			in.Close() // it drains and leaves
		} else {
			cmd.Process.Kill()
		}
		put = append(put, <-done...)
		if err := cmd.Wait(); last && err != nil {
			t.Error(err)
		}
		in.Close()
	}
	lost := func() (ids []string) {
		sub.mu.Lock()
		defer sub.mu.Unlock()
		for _, id := range put {
			if sub.seen[id] == 0 {
				ids = append(ids, id)
			}
		}
		return ids
	}
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end) && len(lost()) > 0; {
		time.Sleep(20 * time.Millisecond)
	}
	sub.mu.Lock()
	duplicates, total := 0, 0
	for _, n := range sub.seen {
		duplicates += n - 1
		total += n
	}
	sub.mu.Unlock()
	t.Logf("%d findings put, %d process kills, %d broker kills: %d messages arrived, %d duplicates, %d lost",
		len(put), rounds-1, brokerKills, total, duplicates, len(lost()))
	if l := lost(); len(l) > 0 || len(put) < rounds {
		t.Errorf("of %d put, lost %d: %s", len(put), len(l), strings.Join(l, " "))
	}
}
