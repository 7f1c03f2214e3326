package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"
)

// Stage is a plan brought up: namespaces, addresses, servers and clients at work.
type Stage struct {
	Plan *Plan
	Log  *Recorder

	site    *site
	nodes   map[string]*proc
	stderr  io.Writer
	message func(topic string, payload []byte, at time.Time)
	trouble chan error
}

// Open brings a plan up. Messages at the broker go to message; what the processes say on
// standard error goes to stderr. The clients do not work yet: Start does that.
func Open(ctx context.Context, p *Plan, stderr io.Writer, message func(string, []byte, time.Time)) (*Stage, error) {
	s, err := newSite()
	if err != nil {
		return nil, err
	}
	st := &Stage{
		Plan: p, Log: new(Recorder), site: s, nodes: map[string]*proc{},
		stderr: stderr, message: message, trouble: make(chan error, 8),
	}
	if err := st.bringUp(ctx); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return st, nil
}

func (st *Stage) bringUp(ctx context.Context) error {
	if err := st.network(ctx); err != nil {
		return fmt.Errorf("build the network: %w", err)
	}
	roles := []string{roleGateway, roleRouter, roleManagement, roleIntruder}
	for _, c := range st.Plan.Clients {
		roles = append(roles, c.Name)
	}
	for _, s := range st.Plan.Servers {
		roles = append(roles, s.Name)
	}
	for _, r := range roles {
		n, err := st.site.startNode(r, st.stderr, st.hear)
		if err != nil {
			return err
		}
		st.nodes[r] = n
	}
	return st.equip()
}

// equip opens broker and servers.
func (st *Stage) equip() error {
	keys, err := newPKI(time.Now())
	if err != nil {
		return err
	}
	if err := st.order(roleManagement, order{Do: doBroker, Addr: st.brokerAddr().String()}); err != nil {
		return err
	}
	for _, port := range []string{portLAN, portWAN} {
		if err := st.order(roleGateway, order{Do: doListen, Name: port}); err != nil {
			return err
		}
	}
	public := &pki{Root: keys.Root}
	for _, c := range append([]Station{st.Plan.Intruder}, st.Plan.Clients...) {
		if err := st.order(c.Name, order{Do: doTrust, PKI: public}); err != nil {
			return err
		}
	}
	for _, s := range st.Plan.Servers {
		if err := st.order(s.Name, order{Do: doTrust, PKI: keys, TLS13: st.Plan.TLS13}); err != nil {
			return err
		}
	}
	for _, s := range st.Plan.Services {
		if err := st.order(st.Plan.Servers[s.Server].Name, order{Do: doServe, Service: &s}); err != nil {
			return err
		}
	}
	return nil
}

// Start puts the clients to work.
func (st *Stage) Start() error {
	for _, w := range st.Plan.Works {
		if err := st.order(st.Plan.Clients[w.Client].Name, order{Do: doWork, Work: &w}); err != nil {
			return err
		}
	}
	return nil
}

// Close ends every process of the stage and removes its namespaces.
func (st *Stage) Close() error {
	var wg sync.WaitGroup
	for _, n := range st.nodes {
		wg.Go(n.stop)
	}
	wg.Wait()
	return st.site.close()
}

// Trouble reports what broke in the stage itself, such as the loss of the broker.
func (st *Stage) Trouble() <-chan error { return st.trouble }

// BrokerURL is where the gateway reaches the broker.
func (st *Stage) BrokerURL() string { return "tcp://" + st.brokerAddr().String() }

func (st *Stage) brokerAddr() netip.AddrPort { return netip.AddrPortFrom(st.Plan.MgmtPeer, 1883) }

func (st *Stage) hear(role string, v note) {
	switch {
	case v.Op != nil:
		if role != roleIntruder { // what an intruder goes through is not the site's concern
			st.Log.add(*v.Op)
		}
	case v.Message != nil:
		st.message(v.Topic, v.Message, v.At)
	case v.Err != "":
		select {
		case st.trouble <- fmt.Errorf("node %s: %s", role, v.Err):
		default:
		}
	}
}

func (st *Stage) order(role string, o order) error {
	_, err := st.ask(role, o)
	return err
}

func (st *Stage) ask(role string, o order) (note, error) {
	n := st.nodes[role]
	if n == nil {
		return note{}, fmt.Errorf("no node %q", role)
	}
	return n.do(o)
}

// Recorder keeps what the clients went through. It is safe for several goroutines.
type Recorder struct {
	mu  sync.Mutex
	ops []Op
}

// keepOps bounds the record; a run of an hour stays far below.
const keepOps = 500_000

func (r *Recorder) add(o Op) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ops) < keepOps {
		r.ops = append(r.ops, o)
	}
}

// Ended gives the operations that ended at t or later and for which keep holds.
func (r *Recorder) Ended(t time.Time, keep func(Op) bool) []Op {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Op
	for i := len(r.ops) - 1; i >= 0; i-- {
		end := r.ops[i].Start.Add(r.ops[i].Took)
		if end.Before(t.Add(-time.Minute)) {
			break // operations arrive nearly in the order in which they end
		}
		if !end.Before(t) && keep(r.ops[i]) {
			out = append(out, r.ops[i])
		}
	}
	return out
}
