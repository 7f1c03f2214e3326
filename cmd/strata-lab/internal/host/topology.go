package host

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"strconv"
)

// The roles beside the plan's clients and servers, and the gateway's ports.
const (
	roleSwitch     = "sw"
	roleGateway    = "gw"
	roleRouter     = "rt"
	roleManagement = "mg"
	roleIntruder   = "in"

	portLAN  = "lan0"
	portWAN  = "wan0"
	portMgmt = "mgmt0"
	portHost = "eth0" // of every host, and of the router towards the gateway: wan0
)

// network makes the namespaces and joins them:
//
//	clients, intruder ── switch ── lan0 gateway wan0 ── wan0 router srvN ── servers
//	                                    gateway mgmt0 ── management
//
// No interface is ever made in the namespace that the lab itself runs in.
func (st *Stage) network(ctx context.Context) error {
	p, s := st.Plan, st.site
	roles := []string{roleSwitch, roleGateway, roleRouter, roleManagement, roleIntruder}
	for _, c := range p.Clients {
		roles = append(roles, c.Name)
	}
	for _, v := range p.Servers {
		roles = append(roles, v.Name)
	}
	for _, r := range roles {
		if err := s.add(ctx, r); err != nil {
			return err
		}
		// Addresses are given once and are no duplicates unless a fault makes them so. And a
		// virtual cable must not reorder: without packet steering a flow's packets wait in the
		// queue of whichever processor sent them.
		if err := s.exec(ctx, r, "", "sysctl", "-qew", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0",
			"net.ipv6.conf.default.accept_ra=0", "net.core.rps_default_mask="+processors()); err != nil {
			return err
		}
	}
	if err := s.ip(ctx, roleSwitch, "link add br0 type bridge forward_delay 0", "link set br0 up"); err != nil {
		return err
	}
	if err := st.lan(ctx); err != nil {
		return err
	}
	if err := st.wide(ctx); err != nil {
		return err
	}
	if err := s.ip(ctx, roleGateway,
		fmt.Sprintf("link add %s type veth peer name %s netns %s", portMgmt, portHost, s.space(roleManagement)),
		fmt.Sprintf("addr add %s dev %s", on(p.MgmtGw, p.Mgmt), portMgmt),
		"link set "+portMgmt+" up"); err != nil {
		return err
	}
	if err := s.ip(ctx, roleManagement,
		fmt.Sprintf("addr add %s dev %s", on(p.MgmtPeer, p.Mgmt), portHost), "link set "+portHost+" up"); err != nil {
		return err
	}
	for _, r := range []string{roleGateway, roleRouter} {
		if err := s.exec(ctx, r, "", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"); err != nil {
			return err
		}
	}
	if p.NAT {
		rules := fmt.Sprintf(`table ip lab_nat {
	chain post {
		type nat hook postrouting priority 100
		oifname %q masquerade
	}
}
`, portWAN)
		return s.exec(ctx, roleGateway, rules, "nft", "-f", "-")
	}
	return nil
}

// processors is the mask of all processors, at most 32, as the kernel reads it.
func processors() string {
	return strconv.FormatUint(1<<min(runtime.NumCPU(), 32)-1, 16)
}

// lan joins clients, intruder and gateway to the switch.
func (st *Stage) lan(ctx context.Context) error {
	p, s := st.Plan, st.site
	for _, c := range append([]Station{p.Intruder}, p.Clients...) {
		if err := s.ip(ctx, c.Name,
			fmt.Sprintf("link add %s address %s type veth peer name p-%s netns %s", portHost, c.MAC, c.Name, s.space(roleSwitch)),
			"link set "+portHost+" gso_max_segs 1"); err != nil {
			return err
		}
		if err := s.ip(ctx, roleSwitch, fmt.Sprintf("link set p-%s master br0", c.Name), fmt.Sprintf("link set p-%s up", c.Name)); err != nil {
			return err
		}
		if !c.Addr.IsValid() {
			continue
		}
		if err := st.attach(ctx, c.Name, c.Addr); err != nil {
			return err
		}
	}
	if err := s.ip(ctx, roleGateway,
		fmt.Sprintf("link add %s type veth peer name p-gw netns %s", portLAN, s.space(roleSwitch)),
		fmt.Sprintf("addr add %s dev %s", on(p.GwLAN, p.LAN), portLAN),
		"link set "+portLAN+" up"); err != nil {
		return err
	}
	if err := s.ip(ctx, roleSwitch, "link set p-gw master br0", "link set p-gw up"); err != nil {
		return err
	}
	for _, c := range p.Clients {
		if err := s.ip(ctx, c.Name, fmt.Sprintf("route add default via %s", p.GwLAN)); err != nil {
			return err
		}
	}
	return nil
}

// attach gives a LAN host its address and brings its port up.
func (st *Stage) attach(ctx context.Context, role string, a netip.Addr) error {
	return st.site.ip(ctx, role, fmt.Sprintf("addr add %s dev %s", on(a, st.Plan.LAN), portHost), "link set "+portHost+" up")
}

// wide joins gateway, router and servers.
func (st *Stage) wide(ctx context.Context) error {
	p, s := st.Plan, st.site
	if err := s.ip(ctx, roleGateway,
		fmt.Sprintf("link add %s type veth peer name %s netns %s", portWAN, portWAN, s.space(roleRouter)),
		fmt.Sprintf("addr add %s dev %s", on(p.GwWAN, p.WAN), portWAN),
		"link set "+portWAN+" up",
		fmt.Sprintf("route add default via %s onlink dev %s", p.RtWAN, portWAN)); err != nil {
		return err
	}
	router := []string{
		fmt.Sprintf("addr add %s dev %s", on(p.RtWAN, p.WAN), portWAN),
		"link set " + portWAN + " up",
	}
	if !p.NAT {
		router = append(router, fmt.Sprintf("route add %s via %s", p.LAN, p.GwWAN))
	}
	if err := s.ip(ctx, roleRouter, router...); err != nil {
		return err
	}
	for _, v := range p.Servers {
		if err := s.ip(ctx, roleRouter,
			fmt.Sprintf("link add %s type veth peer name %s netns %s", v.Port, portHost, s.space(v.Name)),
			fmt.Sprintf("addr add %s dev %s", on(v.Router, v.Net), v.Port),
			"link set "+v.Port+" up"); err != nil {
			return err
		}
		if err := s.ip(ctx, v.Name,
			"link set "+portHost+" gso_max_segs 1",
			fmt.Sprintf("addr add %s dev %s", on(v.Addr, v.Net), portHost),
			"link set "+portHost+" up",
			fmt.Sprintf("route add default via %s", v.Router)); err != nil {
			return err
		}
	}
	return nil
}

// on writes an address with the length of its prefix.
func on(a netip.Addr, p netip.Prefix) string { return netip.PrefixFrom(a, p.Bits()).String() }
