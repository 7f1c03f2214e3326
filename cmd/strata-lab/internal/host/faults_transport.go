package host

import (
	"context"
	"fmt"
	"math/rand/v2"
)

// transportScenarios are the faults of layer 4.
func transportScenarios() []*Scenario {
	return []*Scenario{
		{Name: "port-refused", Title: "the server process is gone", Layer: 4,
			Causes: []string{"l4.port.refused"}, Default: true, inject: portRefused},
		{Name: "udp-port-closed", Title: "the name server process is gone", Layer: 4,
			Causes: []string{"l4.port.refused"}, inject: udpPortClosed},
		{Name: "port-filtered", Title: "a filter drops connection attempts", Layer: 4,
			Causes: []string{"l4.port.filtered"}, Default: true, inject: portFiltered},
		{Name: "tcp-reset", Title: "connections are reset midway", Layer: 4,
			Causes: []string{"l4.tcp.reset"}, inject: tcpReset},
		{Name: "receiver-stalled", Title: "the server stops reading", Layer: 4,
			Causes: []string{"l4.receiver.stalled"}, Default: true, inject: serverStalled},
		{Name: "client-stalled", Title: "a client stops reading", Layer: 4,
			Causes: []string{"l4.receiver.stalled"}, inject: clientStalled},
	}
}

func portRefused(_ context.Context, st *Stage, r *rand.Rand) (*Fault, error) {
	name := pick(r, svcWeb, svcTLS, svcMQTT, svcSink, svcFeed)
	return st.serverFault(name, mode{Fault: faultStop}, describe(st, name), 2, classRefused)
}

func udpPortClosed(_ context.Context, st *Stage, _ *rand.Rand) (*Fault, error) {
	return st.serverFault(svcDNS, mode{Fault: faultStop}, describe(st, svcDNS), 2, classRefused)
}

func describe(st *Stage, name string) string {
	return fmt.Sprintf("%s at %s", name, st.Plan.Service(name).Addr)
}

// fresh gives a service whose clients open a new connection for each operation, so that a
// fault of connection attempts shows.
func fresh(st *Stage, r *rand.Rand) Service {
	var names []string
	for _, w := range st.Plan.Works {
		if w.Client == 0 && !w.Keep && w.Kind != workLookup && w.Kind != workReport {
			names = append(names, w.Service)
		}
	}
	return st.Plan.Service(pick(r, names...))
}

// portFiltered puts a packet filter on the server: new connections only, the whole port,
// or an ICMP message instead of silence.
func portFiltered(ctx context.Context, st *Stage, r *rand.Rand) (*Fault, error) {
	s := fresh(st, r)
	role := st.Plan.Servers[s.Server].Name
	match, verdict, how := "tcp flags & (syn | ack) == syn ", "drop", "new connections dropped"
	class := []string{classTimeout}
	switch r.IntN(4) {
	case 0:
		match, how = "", "every packet dropped"
		class = append(class, classReset, classClosed)
	case 1:
		verdict, how = "reject with icmpx type admin-prohibited", "answered with administratively prohibited"
		// The kernel maps the ICMP message to an errno: host or port unreachable, or no access.
		class = []string{classProhibited, classUnreachable, classRefused}
	}
	rules := fmt.Sprintf("table inet lab_filter {\n chain input {\n type filter hook input priority 0\n tcp dport %d %s%s\n }\n}\n", s.Addr.Port(), match, verdict)
	return &Fault{
		Detail: describe(st, s.Name) + ": " + how,
		Scopes: []string{s.Scope()},
		effect: st.suffering(1, []string{s.Name}, class...),
		clear: func(ctx context.Context) error {
			return st.site.exec(ctx, role, "", "nft", "delete", "table", "inet", "lab_filter")
		},
	}, st.site.exec(ctx, role, rules, "nft", "-f", "-")
}

// tcpReset lets the server break off halfway, or a box on the way send resets at random.
func tcpReset(ctx context.Context, st *Stage, r *rand.Rand) (*Fault, error) {
	if r.IntN(2) == 0 {
		name := pick(r, svcSink, svcFeed)
		return st.serverFault(name, mode{Fault: faultReset}, describe(st, name)+": the server breaks off", 2, classReset, classClosed)
	}
	s := st.Plan.Service(pick(r, svcSink, svcWeb, svcFeed))
	family := "ip"
	if st.Plan.V6 {
		family = "ip6"
	}
	share := 4 + r.IntN(10)
	rules := fmt.Sprintf("table inet lab_reset {\n chain forward {\n type filter hook forward priority 0\n"+
		" %s daddr %s tcp dport %d tcp flags & (syn | fin | rst) == 0 numgen random mod 100 < %d reject with tcp reset\n }\n}\n",
		family, s.Addr.Addr(), s.Addr.Port(), share)
	return &Fault{
		Detail: fmt.Sprintf("%s: the router resets at %d %% of the segments", describe(st, s.Name), share),
		Scopes: []string{s.Scope()},
		effect: st.suffering(2, []string{s.Name}, classReset, classClosed),
		clear: func(ctx context.Context) error {
			return st.site.exec(ctx, roleRouter, "", "nft", "delete", "table", "inet", "lab_reset")
		},
	}, st.site.exec(ctx, roleRouter, rules, "nft", "-f", "-")
}

// serverStalled lets the bulk server accept and not read.
func serverStalled(_ context.Context, st *Stage, _ *rand.Rand) (*Fault, error) {
	s := st.Plan.Service(svcSink)
	f, err := st.serverFault(svcSink, mode{Fault: faultStall}, describe(st, svcSink), 1, classTimeout)
	if err != nil {
		return nil, err
	}
	return st.withZeroWindows(f, []string{st.Plan.Servers[s.Server].Name})
}

// clientStalled lets one client stop reading what it has asked for.
func clientStalled(_ context.Context, st *Stage, _ *rand.Rand) (*Fault, error) {
	c := st.Plan.Clients[0]
	set := func(m mode) error {
		return st.order(c.Name, order{Do: doMode, Name: c.Name + "." + workPull, Mode: m})
	}
	f := &Fault{
		Detail: fmt.Sprintf("client %s", c.Addr),
		Scopes: []string{"host:" + c.Addr.String()},
		effect: st.suffering(1, []string{svcFeed}, classTimeout),
		clear:  func(context.Context) error { return set(mode{}) },
	}
	if err := set(mode{Fault: faultStall}); err != nil {
		return nil, err
	}
	return st.withZeroWindows(f, []string{c.Name})
}

// withZeroWindows adds to the effect that the kernel of the stalled side has told its peer
// to wait.
func (st *Stage) withZeroWindows(f *Fault, roles []string) (*Fault, error) {
	const counter = "TcpExt.TCPToZeroWindowAdv"
	before, err := st.count(roles, counter)
	if err != nil {
		return nil, err
	}
	suffer := f.effect
	f.effect = func() (Effect, error) {
		e, err := suffer()
		if err != nil {
			return e, err
		}
		now, err := st.count(roles, counter)
		e.Shown = e.Shown && now > before
		e.What += fmt.Sprintf("; %d zero windows advertised", now-before)
		return e, err
	}
	return f, nil
}
