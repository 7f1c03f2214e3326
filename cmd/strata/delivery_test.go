package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"github.com/strata-edge/strata/bpf"
	"github.com/strata-edge/strata/edge/diag"
	"github.com/strata-edge/strata/internal/testreq"
)

// TestNothingStoredIsLost runs the real binary on a link where many services refuse, with
// a real broker, and kills both with SIGKILL in mid-stream. The service prints a report
// once it is on the disk, so each one printed in any life must reach a subscriber.
//
// A broker killed with SIGKILL may lose what it has acknowledged and not yet passed on,
// which would be its loss and not Strata's. So a relay between the two holds back each
// PUBACK until the subscriber has that very message: what dies with the broker was never
// acknowledged, and Strata owes it still. Killing the service anywhere, also between
// PUBACK and its own bookkeeping, may give duplicates and must give no loss.
func TestNothingStoredIsLost(t *testing.T) {
	testreq.Root(t, "root")
	mosquitto := testreq.Tool(t, "mosquitto", "mosquitto")
	probe, err := bpf.Load(bpf.Config{})
	if err != nil {
		testreq.Missing(t, "bpf", err.Error())
	}
	probe.Close()
	near, far := newLine(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 5))

	s := &service{t: t, near: near, bin: buildStrata(t), state: filepath.Join(t.TempDir(), "state"), lines: map[report]string{}}
	inbox := newInbox()
	relay := newRelay(t, near, inbox)
	broker := &broker{t: t, near: near, bin: mosquitto, relay: relay, inbox: inbox}
	broker.start()
	t.Cleanup(broker.kill)
	t.Cleanup(s.kill)
	stop := refusals(t, near, far)
	defer stop()

	begin := time.Now()
	// caught waits until the relay has stopped the line at one of the next packets, so that
	// whatever is killed then dies in mid-stream: with a finding on its way to the broker
	// or with a PUBACK on its way back.
	caught := func(ack bool) {
		t.Helper()
		s.wait("finding on its way", relay.stopAt(ack, 1+rnd.IntN(12)))
	}
	s.start(relay.address)
	caught(true) // the broker and the subscriber have it, the service does not know
	s.kill()

	s.start(relay.address)
	caught(true) // the broker dies with what it has acknowledged
	broker.kill()
	pause(rnd, 500*time.Millisecond)
	broker.start()
	caught(false)
	broker.kill() // … and before it has got what was sent
	pause(rnd, 500*time.Millisecond)
	broker.start()
	caught(false)
	s.kill()

	s.start(relay.address)
	s.open(1 + rnd.IntN(8)) // some are delivered, and some not yet
	broker.kill()
	s.open(1 + rnd.IntN(8))
	pause(rnd, 30*time.Millisecond)
	s.kill() // while the broker is away

	s.start(relay.address) // and it stays away
	s.open(1 + rnd.IntN(8))
	broker.start()
	caught(true) // what two lives have left is being sent
	s.kill()

	s.start(relay.address)
	s.open(1 + rnd.IntN(8))
	stop()
	missing := func() []report { return inbox.missing(s.stored()) }
	for end := time.Now().Add(20 * time.Second); len(missing()) > 0 && time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
	}
	s.end()
	for end := time.Now().Add(time.Second); len(missing()) > 0 && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}

	stored, lost := s.stored(), missing()
	held := s.held()
	states := map[diag.State]int{}
	for r := range stored {
		states[r.state]++
	}
	messages, distinct, lonely := inbox.totals()
	t.Logf("%s: %d reports stored (%d opened, %d resolved) in %d lives of the service and %d of the broker; %d messages arrived, %d duplicates; the broker acknowledged %d that it never passed on; at the end %d held, %d lost",
		time.Since(begin).Round(100*time.Millisecond), len(stored), states[diag.StateOpen], states[diag.StateResolved],
		s.lives, broker.lives, messages, messages-distinct, lonely, len(held), len(lost))
	for _, r := range lost {
		if _, kept := held[r]; kept {
			t.Errorf("not delivered in time, still in the buffer: %s", stored[r])
		} else {
			t.Errorf("lost: %s", stored[r])
		}
	}
	if states[diag.StateOpen] < 50 {
		t.Errorf("%d findings are too few to prove anything", states[diag.StateOpen])
	}
}

// pause waits a random time below limit.
func pause(rnd *rand.Rand, limit time.Duration) {
	time.Sleep(time.Duration(rnd.Int64N(int64(limit))))
}

// report names one report: no service is tried twice, so no finding opens twice.
type report struct {
	id    string
	state diag.State
}

func reportOf(line []byte) (report, bool) {
	var f diag.Finding
	if err := json.Unmarshal(line, &f); err != nil || f.ID == "" {
		return report{}, false
	}
	return report{f.ID, f.State}, true
}

// service is the binary under test, in one life after the other.
type service struct {
	t                *testing.T
	near, bin, state string
	lives            int
	cmd              *exec.Cmd
	read             chan struct{} // closed when all of a life's output was read
	log              bytes.Buffer

	mu    sync.Mutex
	lines map[report]string
	opens int
}

func buildStrata(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "strata")
	cmd := exec.Command("go", "build", "-o", bin, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build strata: %v\n%s", err, out)
	}
	return bin
}

func (s *service) start(address string) {
	s.t.Helper()
	s.lives++
	s.log.Reset()
	s.cmd = exec.Command("ip", "netns", "exec", s.near, s.bin, "run", "--json", "--interfaces", "eth0",
		"--state", s.state, "--mqtt", "tcp://"+address, "--device", "d")
	s.cmd.Stderr = &s.log
	out, err := s.cmd.StdoutPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		s.t.Fatalf("start strata: %v", err)
	}
	s.read = make(chan struct{})
	go func(read chan struct{}) {
		defer close(read)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			r, ok := reportOf(sc.Bytes())
			if !ok {
				continue // cut short by a kill
			}
			s.mu.Lock()
			if s.lines[r] == "" && r.state == diag.StateOpen {
				s.opens++
			}
			s.lines[r] = sc.Text()
			s.mu.Unlock()
		}
	}(s.read)
}

// open waits until n more findings were opened, that is stored and printed.
func (s *service) open(n int) {
	s.t.Helper()
	s.mu.Lock()
	n += s.opens
	s.mu.Unlock()
	enough := make(chan struct{})
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for {
			s.mu.Lock()
			have := s.opens
			s.mu.Unlock()
			if have >= n {
				close(enough)
				return
			}
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	s.wait("findings", enough)
}

// wait waits for something that the running service must bring about.
func (s *service) wait(what string, done <-chan struct{}) {
	s.t.Helper()
	select {
	case <-done:
	case <-s.read:
		_ = s.cmd.Wait()
		s.t.Fatalf("strata ended by itself:\n%s", s.log.String())
	case <-time.After(20 * time.Second):
		s.kill()
		s.t.Fatalf("no %s within 20 s; life %d said:\n%s", what, s.lives, s.log.String())
	}
}

func (s *service) kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill() // it may have ended already
	<-s.read
	_ = s.cmd.Wait()
	s.cmd = nil
}

// end asks the service to stop.
func (s *service) end() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	<-s.read
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("strata at its end: %v\n%s", err, s.log.String())
	}
	s.cmd = nil
}

// stored gives what was printed and must arrive: openings and ends. An update leaves the
// buffer unsent where a later report of the same finding says all that it says.
func (s *service) stored() map[report]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[report]string, len(s.lines))
	for r, line := range s.lines {
		if r.state != diag.StateUpdate {
			out[r] = line
		}
	}
	return out
}

// held gives what the buffer still has once the service has ended.
func (s *service) held() map[report]struct{} {
	s.t.Helper()
	out, err := exec.Command(s.bin, "findings", "--json", "--state", s.state).Output()
	if err != nil {
		s.t.Errorf("strata findings: %v", err)
	}
	held := map[report]struct{}{}
	for line := range bytes.Lines(out) {
		if r, ok := reportOf(line); ok {
			held[r] = struct{}{}
		}
	}
	return held
}

// newLine makes two namespaces with a cable between their eth0, near at 10.78.0.1 and far
// at 10.78.0.2.
func newLine(t *testing.T) (near, far string) {
	t.Helper()
	testreq.Root(t, "netns")
	tool := testreq.Tool(t, "netns", "ip")
	ip := func(args string) {
		t.Helper()
		if out, err := exec.Command(tool, strings.Fields(args)...).CombinedOutput(); err != nil {
			testreq.Missing(t, "netns", fmt.Sprintf("ip %s: %v: %s", args, err, out))
		}
	}
	prefix := fmt.Sprintf("sdeliver%d-", os.Getpid())
	near, far = prefix+"near", prefix+"far"
	for _, ns := range []string{near, far} {
		ip("netns add " + ns)
		t.Cleanup(func() {
			if out, err := exec.Command(tool, "netns", "del", ns).CombinedOutput(); err != nil {
				t.Errorf("remove %s: %v: %s", ns, err, out)
			}
		})
		ip("-n " + ns + " link set lo up")
	}
	ip("-n " + near + " link add eth0 type veth peer name eth0 netns " + far)
	for i, ns := range []string{near, far} {
		ip(fmt.Sprintf("-n %s addr add 10.78.0.%d/24 dev eth0", ns, i+1))
		ip("-n " + ns + " link set eth0 up")
	}
	return near, far
}

// within runs fn on a thread of the namespace; what it opens stays there.
func within(name string, fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := netns.GetFromName(name)
		if err == nil {
			err = errors.Join(netns.Set(ns), ns.Close())
		}
		if err == nil {
			err = fn()
		}
		done <- err
	}()
	return <-done
}

// refusals connects from near to one port of far after another, in waves; nothing listens
// there. stop may be called twice.
func refusals(t *testing.T, near, far string) (stop func()) {
	t.Helper()
	const (
		wave  = 6
		pause = 400 * time.Millisecond
		first = 10_000
	)
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		err := within(near, func() error {
			for port := uint16(first); ; {
				for range wave {
					to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 78, 0, 2}), port)
					c, err := net.DialTimeout("tcp", to.String(), time.Second)
					if err == nil {
						c.Close()
						return fmt.Errorf("%s: somebody listens", to)
					}
					if !errors.Is(err, syscall.ECONNREFUSED) {
						return fmt.Errorf("%s in %s: %w", to, far, err)
					}
					port++
				}
				select {
				case <-end:
					return nil
				case <-time.After(pause):
				}
			}
		})
		if err != nil {
			t.Errorf("traffic: %v", err)
		}
	}()
	return sync.OnceFunc(func() { close(end); <-done })
}
