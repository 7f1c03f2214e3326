package host

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/strata-edge/strata/cmd/strata-lab/internal/broker"
)

// order is one command to a node process, a line of JSON on its standard input.
type order struct {
	ID      int              `json:"id"`
	Do      string           `json:"do"`
	Service *Service         `json:"service,omitempty"`
	Work    *Work            `json:"work,omitempty"`
	Drop    *Drop            `json:"drop,omitempty"`
	PKI     *pki             `json:"pki,omitempty"`
	TLS13   bool             `json:"tls13,omitempty"`
	Name    string           `json:"name,omitempty"`
	Mode    mode             `json:"mode,omitzero"`
	Addr    string           `json:"addr,omitempty"`
	HW      net.HardwareAddr `json:"hw,omitempty"`
}

// The orders.
const (
	doServe    = "serve"    // start Service
	doMode     = "mode"     // put service or work Name into Mode
	doWork     = "work"     // start Work
	doEnd      = "end"      // end work Name
	doTrust    = "trust"    // use PKI
	doDrop     = "drop"     // set Drop
	doDrops    = "drops"    // read the dropper of Drop's interface and side
	doCounters = "counters" // read the namespace's TCP and ICMP counters
	doAnnounce = "announce" // say by ARP on interface Name that Addr is at HW
	doListen   = "listen"   // watch ARP on interface Name
	doClaims   = "claims"   // what doListen has heard: address -> stations
	doBroker   = "broker"   // open an MQTT broker at Addr and pass on what it gets
)

// mode is how a service or a work behaves; the zero value is healthy.
type mode struct {
	Fault string        `json:"fault,omitempty"`
	Code  int           `json:"code,omitempty"`
	Delay time.Duration `json:"delay,omitempty"`
	Cert  string        `json:"cert,omitempty"`
}

// note is what a node writes to its standard output: an answer to an order, an
// operation that a client finished, or a message at the broker.
type note struct {
	ID       int                 `json:"id,omitempty"`
	Err      string              `json:"err,omitempty"`
	Op       *Op                 `json:"op,omitempty"`
	Message  []byte              `json:"message,omitempty"`
	Topic    string              `json:"topic,omitempty"`
	At       time.Time           `json:"at,omitzero"`
	Drops    *Drops              `json:"drops,omitempty"`
	Counters map[string]int64    `json:"counters,omitempty"`
	Claims   map[string][]string `json:"claims,omitempty"`
}

// Op is one finished operation of a client.
type Op struct {
	Start   time.Time     `json:"start"`
	Took    time.Duration `json:"took"`
	Work    string        `json:"work"`
	Kind    string        `json:"kind"`
	Service string        `json:"service"`
	Class   string        `json:"class"` // "ok" or what went wrong, see classes.go
	Detail  string        `json:"detail,omitempty"`
}

// node is the state of one process inside a namespace.
type node struct {
	ctx context.Context
	wg  sync.WaitGroup

	outMu sync.Mutex
	out   *json.Encoder

	pki      *pki
	tls13    bool
	services map[string]service
	works    map[string]*worker
	droppers map[string]*dropper
	ears     map[string]*ear
}

// service is one listening socket with switchable faults.
type service interface {
	set(mode) error
	close() error
}

// Node runs the process inside a namespace until its input closes or ctx ends. It returns
// the process's exit code.
func Node(ctx context.Context, in io.Reader, out io.Writer) int {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n := &node{
		ctx:      ctx,
		out:      json.NewEncoder(out),
		services: map[string]service{},
		works:    map[string]*worker{},
		droppers: map[string]*dropper{},
		ears:     map[string]*ear{},
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var o order
		var answer note
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			answer.Err = fmt.Sprintf("read an order: %v", err)
		} else if err := n.obey(o, &answer); err != nil {
			answer.Err = err.Error()
		}
		answer.ID = o.ID
		n.write(answer)
	}
	cancel()
	for _, s := range n.services {
		_ = s.close()
	}
	for _, d := range n.droppers {
		_ = d.close()
	}
	for _, e := range n.ears {
		_ = e.close()
	}
	n.wg.Wait()
	return 0
}

func (n *node) write(v note) {
	n.outMu.Lock()
	defer n.outMu.Unlock()
	_ = n.out.Encode(v) // a closed pipe means that the lab is gone; the input ends, too
}

func (n *node) obey(o order, answer *note) error {
	switch o.Do {
	case doTrust:
		n.pki, n.tls13 = o.PKI, o.TLS13
		return nil
	case doServe:
		s, err := n.serve(*o.Service)
		if err != nil {
			return err
		}
		n.services[o.Service.Name] = s
		return nil
	case doWork:
		w, err := n.work(*o.Work)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(n.ctx)
		w.cancel = cancel
		n.works[o.Work.Name] = w
		n.wg.Go(func() { w.run(ctx) })
		return nil
	case doEnd:
		if w := n.works[o.Name]; w != nil {
			w.cancel()
			delete(n.works, o.Name)
		}
		return nil
	case doMode:
		if s := n.services[o.Name]; s != nil {
			return s.set(o.Mode)
		}
		if w := n.works[o.Name]; w != nil {
			w.set(o.Mode)
			return nil
		}
		return fmt.Errorf("set the mode of %s: no such service or work", o.Name)
	case doDrop, doDrops:
		d, err := n.dropper(o.Drop.Iface, o.Drop.Egress)
		if err != nil {
			return err
		}
		if o.Do == doDrop {
			return d.set(*o.Drop)
		}
		c, err := d.read()
		answer.Drops = &c
		return err
	case doCounters:
		c, err := counters()
		answer.Counters = c
		return err
	case doAnnounce:
		return announce(o.Name, o.Addr, o.HW)
	case doListen:
		e, err := listenARP(o.Name)
		if err != nil {
			return err
		}
		n.ears[o.Name] = e
		n.wg.Go(e.run)
		return nil
	case doClaims:
		answer.Claims = map[string][]string{}
		for _, e := range n.ears {
			e.claims(answer.Claims)
		}
		return nil
	case doBroker:
		return n.broker(o.Addr)
	}
	return fmt.Errorf("unknown order %q", o.Do)
}

func (n *node) dropper(iface string, egress bool) (*dropper, error) {
	key := fmt.Sprintf("%s/%t", iface, egress)
	if d := n.droppers[key]; d != nil {
		return d, nil
	}
	d, err := newDropper(iface, egress)
	if err == nil {
		n.droppers[key] = d
	}
	return d, err
}

// broker opens a broker and passes every message on, with the time of its arrival.
func (n *node) broker(addr string) error {
	b, err := broker.Start(addr)
	if err != nil {
		return err
	}
	n.wg.Go(func() {
		defer b.Close()
		err := broker.Subscribe(n.ctx, b.URL(), "#", func(topic string, payload []byte) {
			n.write(note{Topic: topic, Message: payload, At: time.Now()})
		})
		if err != nil {
			n.write(note{Err: err.Error()})
		}
	})
	return nil
}
