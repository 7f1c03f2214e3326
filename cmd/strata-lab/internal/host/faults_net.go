package host

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"os/exec"
	"strings"
	"time"
)

// netScenarios are the faults of layers 2 and 3.
func netScenarios() []*Scenario {
	return []*Scenario{
		{Name: "next-hop-gone", Title: "the router does not answer ARP or ND", Layer: 2,
			Causes: []string{"l2.nexthop.unresolved"}, Default: true, inject: nextHopGone},
		{Name: "duplicate-address", Title: "a second station uses a LAN address", Layer: 2,
			Causes: []string{"l2.address.duplicate"}, Default: true, v4Only: true, inject: duplicateAddress},
		{Name: "mtu-blackhole", Title: "large packets vanish beyond the gateway", Layer: 3,
			Causes: []string{"l3.mtu.blackhole"}, Default: true, inject: mtuBlackHole},
		{Name: "path-loss", Title: "packets are lost beyond the gateway", Layer: 3,
			Causes: []string{"l3.path.loss"}, Default: true, inject: pathLoss},
		{Name: "unreachable", Title: "the router has no way to a server", Layer: 3,
			Causes: []string{"l3.route.unreachable"}, Default: true, inject: unreachable},
	}
}

// nextHopGone makes the router deaf and dumb towards the gateway, carrier still up.
func nextHopGone(ctx context.Context, st *Stage, _ *rand.Rand) (*Fault, error) {
	dead := func(all bool) error {
		return errors.Join(
			st.order(roleRouter, order{Do: doDrop, Drop: &Drop{Iface: portWAN, All: all}}),
			st.order(roleRouter, order{Do: doDrop, Drop: &Drop{Iface: portWAN, Egress: true, All: all}}))
	}
	suffer := st.suffering(1, serviceNames(st.Plan.Services), classTimeout, classUnreachable, classClosed, classOther)
	f := &Fault{
		Detail: fmt.Sprintf("router %s", st.Plan.RtWAN),
		Scopes: []string{"host:" + st.Plan.RtWAN.String()},
		clear:  func(context.Context) error { return dead(false) },
		effect: func() (Effect, error) {
			e, err := suffer()
			if err != nil {
				return e, err
			}
			state, err := st.neighbour(roleGateway, st.Plan.RtWAN)
			if d, e2 := st.drops(portWAN, false); e2 == nil && !d.First.IsZero() {
				e.First = d.First
			}
			e.Shown = e.Shown && (strings.Contains(state, "FAILED") || strings.Contains(state, "INCOMPLETE"))
			e.What += "; the gateway's neighbour entry: " + state
			return e, err
		},
	}
	if err := dead(true); err != nil {
		return nil, err
	}
	return f, st.site.ip(ctx, roleGateway, "neigh flush dev "+portWAN)
}

// neighbour gives the state of a role's neighbour entry.
func (st *Stage) neighbour(role string, a netip.Addr) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ip", "-n", st.site.space(role), "neigh", "show", "to", a.String()).Output()
	if err != nil {
		return "", fmt.Errorf("read the neighbours of %s: %w", role, err)
	}
	f := strings.Fields(string(out))
	if len(f) == 0 {
		return "none", nil
	}
	return f[len(f)-1], nil
}

func (st *Stage) drops(iface string, egress bool) (Drops, error) {
	v, err := st.ask(roleRouter, order{Do: doDrops, Drop: &Drop{Iface: iface, Egress: egress}})
	if err != nil || v.Drops == nil {
		return Drops{}, err
	}
	return *v.Drops, nil
}

// duplicateAddress lets a second station take the address of a client or of the gateway.
// Both announce themselves as real stations do; the second one also does work.
func duplicateAddress(ctx context.Context, st *Stage, r *rand.Rand) (*Fault, error) {
	p := st.Plan
	victim := pick(r, p.Clients...)
	gateway := r.IntN(4) == 0
	addr := victim.Addr
	if gateway {
		addr = p.GwLAN
	}
	if err := st.attach(ctx, roleIntruder, addr); err != nil {
		return nil, err
	}
	if !gateway {
		if err := st.site.ip(ctx, roleIntruder, fmt.Sprintf("route add default via %s", p.GwLAN)); err != nil {
			return nil, err
		}
		work := Work{Name: "in." + workGet, Kind: workGet, Service: svcWeb, Addr: p.Service(svcWeb).Addr,
			Every: time.Second, Min: 100, Max: 2000, Timeout: 2 * time.Second, Seed: r.Uint64()}
		if err := st.order(roleIntruder, order{Do: doWork, Work: &work}); err != nil {
			return nil, err
		}
	}
	onset := time.Now()
	argue := func() error {
		err := st.order(roleIntruder, order{Do: doAnnounce, Name: portHost, Addr: addr.String(), HW: p.Intruder.MAC})
		if !gateway {
			// RFC 5227 section 2.4: the owner defends its address, at most every ten seconds.
			err = errors.Join(err, st.order(victim.Name, order{Do: doAnnounce, Name: portHost, Addr: addr.String(), HW: victim.MAC}))
		}
		return err
	}
	quit := make(chan struct{})
	over := make(chan struct{})
	go func() {
		defer close(over)
		for {
			if argue() != nil {
				return // the effect check will miss the claims and say so
			}
			select {
			case <-quit:
				return
			case <-time.After(10 * time.Second):
			}
		}
	}()
	return &Fault{
		Detail: fmt.Sprintf("%s also at %s", addr, p.Intruder.MAC),
		Scopes: []string{"host:" + addr.String()},
		Onset:  onset,
		clear: func(ctx context.Context) error {
			close(quit)
			<-over
			return errors.Join(
				st.order(roleIntruder, order{Do: doEnd, Name: "in." + workGet}),
				st.site.ip(ctx, roleIntruder, "addr flush dev "+portHost, "link set "+portHost+" down"),
				st.order(victim.Name, order{Do: doAnnounce, Name: portHost, Addr: victim.Addr.String(), HW: victim.MAC}),
				st.forget(ctx, gateway))
		},
		effect: func() (Effect, error) {
			v, err := st.ask(roleGateway, order{Do: doClaims})
			claims := v.Claims[addr.String()]
			e := Effect{Shown: len(claims) > 1 || gateway && len(claims) > 0, First: onset}
			e.What = fmt.Sprintf("the gateway heard %s claimed by %s", addr, strings.Join(claims, " and "))
			return e, err
		},
	}, nil
}

// forget makes the clients look for the gateway again.
func (st *Stage) forget(ctx context.Context, needed bool) error {
	if !needed {
		return nil
	}
	var errs []error
	for _, c := range st.Plan.Clients {
		errs = append(errs, st.site.ip(ctx, c.Name, "neigh flush dev "+portHost))
	}
	return errors.Join(errs...)
}

// stretch is a part of the path beyond the gateway: all of it, or the part to one server.
type stretch struct {
	iface    string
	to, from bool // whether packets to and from the servers leave the router through iface
	services []Service
	scopes   []string // of the services, their hosts and, where all of it is meant, the router
}

// drawStretch picks where beyond the gateway a path fault sits.
func drawStretch(st *Stage, r *rand.Rand) stretch {
	p := st.Plan
	if len(p.Servers) > 1 && r.IntN(2) == 0 {
		i := r.IntN(len(p.Servers))
		if list := p.ServicesOf(i); len(list) > 0 {
			return stretch{iface: p.Servers[i].Port, to: true, services: list,
				scopes: append(serviceScopes(list), "host:"+p.Servers[i].Addr.String())}
		}
	}
	s := stretch{iface: portWAN, from: true, services: p.Services, scopes: serviceScopes(p.Services)}
	for _, v := range p.Servers {
		s.scopes = append(s.scopes, "host:"+v.Addr.String())
	}
	s.scopes = append(s.scopes, "host:"+p.RtWAN.String())
	return s
}

// place puts drop rules on the directions of a stretch and gives what undoes them.
func (st *Stage) place(s stretch, to, from bool, rule Drop) (func(context.Context) error, error) {
	var sides []bool
	if to {
		sides = append(sides, s.to)
	}
	if from {
		sides = append(sides, s.from)
	}
	set := func(rule Drop) error {
		var errs []error
		for _, egress := range sides {
			rule.Iface, rule.Egress = s.iface, egress
			errs = append(errs, st.order(roleRouter, order{Do: doDrop, Drop: &rule}))
		}
		return errors.Join(errs...)
	}
	return func(context.Context) error { return set(Drop{}) }, set(rule)
}

// lost adds up what both droppers of a stretch counted.
func (st *Stage) lost(s stretch, to, from bool) (Drops, error) {
	var sum Drops
	for _, side := range []struct{ on, egress bool }{{to, s.to}, {from, s.from}} {
		if !side.on {
			continue
		}
		d, err := st.drops(s.iface, side.egress)
		if err != nil {
			return sum, err
		}
		sum.Seen += d.Seen
		sum.Dropped += d.Dropped
		if !d.First.IsZero() && (sum.First.IsZero() || d.First.Before(sum.First)) {
			sum.First = d.First
		}
	}
	return sum, nil
}

func directions(to, from bool) string {
	switch {
	case to && from:
		return "both ways"
	case to:
		return "towards the server"
	}
	return "from the server"
}

// mtuBlackHole drops large packets, at least towards the servers, and tells nobody.
func mtuBlackHole(_ context.Context, st *Stage, r *rand.Rand) (*Fault, error) {
	s := drawStretch(st, r)
	limit := 600 + r.IntN(800)
	to, from := true, r.IntN(2) == 0
	if !hasUploads(s.services) {
		from = true
	}
	suffer := st.suffering(1, serviceNames(s.services), classTimeout, classClosed, classReset)
	f := &Fault{
		Scopes: s.scopes,
		Detail: fmt.Sprintf("packets above %d bytes, %s, at %s", limit, directions(to, from), s.iface),
		effect: func() (Effect, error) {
			e, err := suffer()
			if err != nil {
				return e, err
			}
			d, err := st.lost(s, to, from)
			e.First = d.First
			e.Shown = e.Shown && d.Dropped >= 3 && d.Seen > d.Dropped
			e.What += fmt.Sprintf("; %d of %d packets dropped, all of them large", d.Dropped, d.Seen)
			return e, err
		},
	}
	clear, err := st.place(s, to, from, Drop{Above: limit})
	f.clear = clear
	return f, err
}

func hasUploads(list []Service) bool {
	for _, s := range list {
		if s.Name == svcWeb || s.Name == svcSink {
			return true
		}
	}
	return false
}

// pathLoss drops a share of all packets.
func pathLoss(_ context.Context, st *Stage, r *rand.Rand) (*Fault, error) {
	s := drawStretch(st, r)
	chance := 0.03 + 0.12*r.Float64()
	to, from := true, true
	switch r.IntN(4) {
	case 0:
		from = false
	case 1:
		to = false
	}
	f := &Fault{
		Detail: fmt.Sprintf("%.1f %% %s, at %s", 100*chance, directions(to, from), s.iface),
		Scopes: s.scopes,
		effect: func() (Effect, error) {
			d, err := st.lost(s, to, from)
			share, spread := 0.0, 1.0
			if d.Seen > 0 {
				share = float64(d.Dropped) / float64(d.Seen)
				spread = 4 * math.Sqrt(chance*(1-chance)/float64(d.Seen))
			}
			return Effect{
				Shown: d.Dropped >= 5 && math.Abs(share-chance) <= spread,
				First: d.First,
				What:  fmt.Sprintf("%d of %d packets dropped (%.1f %%)", d.Dropped, d.Seen, 100*share),
			}, err
		},
	}
	clear, err := st.place(s, to, from, Drop{Chance: chance})
	f.clear = clear
	return f, err
}

// unreachable lets the router answer with ICMP: it knows no route, has a route that says
// unreachable, or finds the server silent.
func unreachable(ctx context.Context, st *Stage, r *rand.Rand) (*Fault, error) {
	i := r.IntN(len(st.Plan.Servers))
	for len(st.Plan.ServicesOf(i)) == 0 {
		i = (i + 1) % len(st.Plan.Servers)
	}
	v := st.Plan.Servers[i]
	names := serviceNames(st.Plan.ServicesOf(i))
	suffer := st.suffering(2, names, classUnreachable, classTimeout)
	before, err := st.unreachables()
	if err != nil {
		return nil, err
	}
	f := &Fault{
		Scopes: []string{"host:" + v.Addr.String()},
		effect: func() (Effect, error) {
			e, err := suffer()
			if err != nil {
				return e, err
			}
			now, err := st.unreachables()
			e.Shown = e.Shown && now > before
			e.What += fmt.Sprintf("; the clients received %d ICMP unreachable", now-before)
			return e, err
		},
	}
	var do []string
	var undo func(context.Context) error
	switch r.IntN(3) {
	case 0:
		f.Detail = fmt.Sprintf("no route to %s", v.Net)
		do = []string{fmt.Sprintf("route del %s dev %s", v.Net, v.Port)}
		undo = func(ctx context.Context) error {
			return st.site.ip(ctx, roleRouter, fmt.Sprintf("route add %s dev %s proto kernel", v.Net, v.Port))
		}
	case 1:
		f.Detail = fmt.Sprintf("an unreachable route for %s", v.Addr)
		do = []string{fmt.Sprintf("route add unreachable %s", v.Addr)}
		undo = func(ctx context.Context) error {
			return st.site.ip(ctx, roleRouter, fmt.Sprintf("route del unreachable %s", v.Addr))
		}
	default:
		f.Detail = fmt.Sprintf("server %s is off", v.Addr)
		dead := func(all bool) error {
			return errors.Join(
				st.order(roleRouter, order{Do: doDrop, Drop: &Drop{Iface: v.Port, All: all}}),
				st.order(roleRouter, order{Do: doDrop, Drop: &Drop{Iface: v.Port, Egress: true, All: all}}))
		}
		if err := dead(true); err != nil {
			return nil, err
		}
		do = []string{"neigh flush dev " + v.Port}
		undo = func(context.Context) error { return dead(false) }
	}
	f.clear = undo
	return f, st.site.ip(ctx, roleRouter, do...)
}

// unreachables adds up the ICMP unreachable messages that the clients received.
func (st *Stage) unreachables() (int64, error) {
	return st.count(clientRoles(st.Plan), "Icmp.InDestUnreachs", "Icmp6InDestUnreachs")
}

func clientRoles(p *Plan) []string {
	var out []string
	for _, c := range p.Clients {
		out = append(out, c.Name)
	}
	return out
}

// count adds up kernel counters of some roles.
func (st *Stage) count(roles []string, names ...string) (int64, error) {
	var sum int64
	for _, role := range roles {
		v, err := st.ask(role, order{Do: doCounters})
		if err != nil {
			return 0, err
		}
		for _, n := range names {
			sum += v.Counters[n]
		}
	}
	return sum, nil
}
