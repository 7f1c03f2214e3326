package host

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/strata-edge/strata/edge/diag"
)

func TestPlansAreSoundAndRepeat(t *testing.T) {
	v6, nat, clients := 0, 0, map[int]int{}
	for seed := range uint64(500) {
		p := NewPlan(seed)
		if !reflect.DeepEqual(p, NewPlan(seed)) {
			t.Fatalf("seed %d gives two plans", seed)
		}
		nets := []netip.Prefix{p.LAN, p.WAN, p.Mgmt}
		seen := map[netip.Addr]bool{}
		addrs := []netip.Addr{p.GwLAN, p.GwWAN, p.RtWAN, p.MgmtGw, p.MgmtPeer}
		for _, s := range p.Servers {
			nets = append(nets, s.Net)
			addrs = append(addrs, s.Addr, s.Router)
		}
		for _, c := range p.Clients {
			addrs = append(addrs, c.Addr)
		}
		for i, a := range nets {
			for _, b := range nets[:i] {
				if a.Overlaps(b) {
					t.Errorf("seed %d: %s and %s overlap", seed, a, b)
				}
			}
		}
		for _, a := range addrs {
			if seen[a] || !a.IsPrivate() && !netip.MustParsePrefix("100.64.0.0/10").Contains(a) {
				t.Errorf("seed %d: address %s is used twice or not private", seed, a)
			}
			seen[a] = true
		}
		kinds := map[string]bool{}
		for _, w := range p.Works {
			kinds[w.Kind] = kinds[w.Kind] || w.Client == 0
		}
		if len(kinds) != 7 {
			t.Errorf("seed %d: the first client does only %v", seed, kinds)
		}
		for _, s := range p.Services {
			if _, err := diag.ParseScope(s.Scope()); err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
		}
		if p.V6 {
			v6++
		}
		if p.NAT {
			nat++
		}
		clients[len(p.Clients)]++
	}
	if v6 < 50 || nat < 50 || len(clients) != 3 {
		t.Errorf("of 500 plans %d speak IPv6, %d have NAT, clients %v", v6, nat, clients)
	}
}
