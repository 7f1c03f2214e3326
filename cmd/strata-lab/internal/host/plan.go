package host

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"
)

// Plan is a whole site drawn from a seed: addresses, ports, who talks to whom and how often.
type Plan struct {
	Seed     uint64
	V6       bool // the site speaks IPv6 instead of IPv4
	NAT      bool // the gateway masquerades towards the wide area
	TLS13    bool // the TLS service offers TLS 1.3; else TLS 1.2 only
	LAN      netip.Prefix
	GwLAN    netip.Addr
	GwWAN    netip.Addr
	RtWAN    netip.Addr
	WAN      netip.Prefix
	Mgmt     netip.Prefix
	MgmtGw   netip.Addr
	MgmtPeer netip.Addr
	Clients  []Station
	Intruder Station // takes another station's address when told to
	Servers  []Server
	Services []Service
	Works    []Work
}

// Station is a host on the LAN.
type Station struct {
	Name string
	Addr netip.Addr
	MAC  net.HardwareAddr
}

// Server is a host behind the router, in a network of its own.
type Server struct {
	Name   string
	Addr   netip.Addr
	Router netip.Addr
	Net    netip.Prefix
	Port   string // the router's interface towards it
}

// The services of a site. Every plan has all of them.
const (
	svcWeb  = "web"  // HTTP/1.1
	svcTLS  = "tls"  // HTTPS
	svcDNS  = "dns"  // DNS over UDP
	svcMQTT = "mqtt" // MQTT 3.1.1
	svcSink = "sink" // takes bulk data, answers when it has all of it
	svcFeed = "feed" // gives as much bulk data as asked for
)

// Service is one listening socket.
type Service struct {
	Name   string         `json:"name"`
	Server int            `json:"server"`
	Addr   netip.AddrPort `json:"addr"`
	Buffer int            `json:"buffer,omitempty"` // receive buffer in bytes, 0 for the kernel's own
}

// Scope gives the service as findings name it.
func (s Service) Scope() string {
	proto := "tcp"
	if s.Name == svcDNS {
		proto = "udp"
	}
	return "service:" + proto + "/" + s.Addr.String()
}

// The kinds of work that clients do.
const (
	workGet    = "get"    // HTTP GET, Min to Max bytes come back
	workPost   = "post"   // HTTP POST of Min to Max bytes
	workSecure = "secure" // HTTPS GET
	workLookup = "lookup" // DNS query
	workReport = "report" // MQTT publish over a session that stays
	workPush   = "push"   // bulk upload
	workPull   = "pull"   // bulk download
)

// Work is one steady activity of one client.
type Work struct {
	Name    string         `json:"name"`
	Client  int            `json:"client"`
	Kind    string         `json:"kind"`
	Service string         `json:"service"`
	Addr    netip.AddrPort `json:"addr"`
	Every   time.Duration  `json:"every"` // mean pause between two operations
	Min     int            `json:"min,omitempty"`
	Max     int            `json:"max,omitempty"`
	Keep    bool           `json:"keep,omitempty"`    // one connection for many operations
	Timeout time.Duration  `json:"timeout"`           // of one operation
	Buffer  int            `json:"buffer,omitempty"`  // receive buffer in bytes
	MaxTLS  uint16         `json:"max_tls,omitempty"` // highest TLS version offered, 0 for the newest
	Seed    uint64         `json:"seed"`
}

// NewPlan draws the site of a seed.
func NewPlan(seed uint64) *Plan {
	r := rand.New(rand.NewPCG(seed, 0x57a7a1ab))
	p := &Plan{
		Seed:  seed,
		V6:    r.IntN(4) == 0,
		TLS13: r.IntN(2) == 0,
	}
	p.NAT = !p.V6 && r.IntN(3) == 0
	p.addresses(r)
	p.services(r)
	p.works(r)
	return p
}

// private draws a private prefix that is none of taken.
func private(r *rand.Rand, v6 bool, taken *[]netip.Prefix) netip.Prefix {
	for {
		var pfx netip.Prefix
		if v6 {
			b := [16]byte{0: 0xfd}
			for i := 1; i < 8; i++ {
				b[i] = byte(r.IntN(256))
			}
			pfx = netip.PrefixFrom(netip.AddrFrom16(b), 64)
		} else {
			var b [4]byte
			switch r.IntN(4) {
			case 0:
				b = [4]byte{192, 168, byte(r.IntN(256)), 0}
			case 1:
				b = [4]byte{172, byte(16 + r.IntN(16)), byte(r.IntN(256)), 0}
			case 2:
				b = [4]byte{100, byte(64 + r.IntN(64)), byte(r.IntN(256)), 0}
			default:
				b = [4]byte{10, byte(r.IntN(256)), byte(r.IntN(256)), 0}
			}
			pfx = netip.PrefixFrom(netip.AddrFrom4(b), 24)
		}
		clash := false
		for _, t := range *taken {
			clash = clash || t.Overlaps(pfx)
		}
		if !clash {
			*taken = append(*taken, pfx)
			return pfx
		}
	}
}

// inside draws n different hosts of a prefix.
func inside(r *rand.Rand, pfx netip.Prefix, n int) []netip.Addr {
	base := pfx.Addr().AsSlice()
	var out []netip.Addr
	for _, last := range r.Perm(253)[:n] {
		b := append([]byte(nil), base...)
		b[len(b)-1] = byte(last + 1)
		a, _ := netip.AddrFromSlice(b)
		out = append(out, a)
	}
	return out
}

func hardware(r *rand.Rand) net.HardwareAddr {
	m := make(net.HardwareAddr, 6)
	for i := range m {
		m[i] = byte(r.IntN(256))
	}
	m[0] = m[0]&^1 | 2 // unicast, locally administered
	return m
}

func (p *Plan) addresses(r *rand.Rand) {
	var taken []netip.Prefix
	p.LAN = private(r, p.V6, &taken)
	p.WAN = private(r, p.V6, &taken)
	p.Mgmt = private(r, false, &taken)
	clients := 1 + r.IntN(3)
	lan := inside(r, p.LAN, clients+1)
	p.GwLAN = lan[0]
	for i, a := range lan[1:] {
		p.Clients = append(p.Clients, Station{Name: fmt.Sprintf("c%d", i), Addr: a, MAC: hardware(r)})
	}
	p.Intruder = Station{Name: "in", MAC: hardware(r)}
	wan := inside(r, p.WAN, 2)
	p.GwWAN, p.RtWAN = wan[0], wan[1]
	mgmt := inside(r, p.Mgmt, 2)
	p.MgmtGw, p.MgmtPeer = mgmt[0], mgmt[1]
	for i := range 1 + r.IntN(2) {
		n := private(r, p.V6, &taken)
		a := inside(r, n, 2)
		p.Servers = append(p.Servers, Server{
			Name: fmt.Sprintf("s%d", i), Addr: a[0], Router: a[1], Net: n, Port: fmt.Sprintf("srv%d", i),
		})
	}
}

func (p *Plan) services(r *rand.Rand) {
	pick := func(ports ...uint16) uint16 { return ports[r.IntN(len(ports))] }
	used := map[netip.AddrPort]bool{}
	add := func(name string, port uint16, buffer int) {
		host := r.IntN(len(p.Servers))
		at := netip.AddrPortFrom(p.Servers[host].Addr, port)
		for used[at] {
			port++
			at = netip.AddrPortFrom(p.Servers[host].Addr, port)
		}
		used[at] = true
		p.Services = append(p.Services, Service{Name: name, Server: host, Addr: at, Buffer: buffer})
	}
	add(svcWeb, pick(80, 8080, 8000, uint16(3000+r.IntN(1000))), 0)
	add(svcTLS, pick(443, 8443), 0)
	add(svcDNS, 53, 0)
	add(svcMQTT, 1883, 0)
	add(svcSink, uint16(5000+r.IntN(1000)), 1<<(13+r.IntN(3)))
	add(svcFeed, uint16(7000+r.IntN(1000)), 0)
}

func (p *Plan) works(r *rand.Rand) {
	between := func(lo, hi time.Duration) time.Duration { return lo + time.Duration(r.Int64N(int64(hi-lo))) }
	for c := range p.Clients {
		add := func(w Work) {
			w.Client = c
			w.Name = fmt.Sprintf("c%d.%s", c, w.Kind)
			w.Addr = p.Service(w.Service).Addr
			w.Seed = r.Uint64()
			if w.Timeout == 0 {
				w.Timeout = 5 * time.Second
			}
			p.Works = append(p.Works, w)
		}
		// The first client does everything, so that every fault has somebody to feel it;
		// the others do a part each.
		takes := func() bool { return c == 0 || r.IntN(2) == 0 }
		if takes() {
			add(Work{Kind: workGet, Service: svcWeb, Every: between(300*time.Millisecond, 1200*time.Millisecond), Min: 100, Max: 1 << (10 + r.IntN(8)), Keep: r.IntN(2) == 0})
		}
		if takes() {
			add(Work{Kind: workPost, Service: svcWeb, Every: between(500*time.Millisecond, 2*time.Second), Min: 200, Max: 100_000, Keep: r.IntN(2) == 0})
		}
		if takes() {
			add(Work{Kind: workSecure, Service: svcTLS, Every: between(500*time.Millisecond, 2*time.Second), Min: 100, Max: 20_000, Keep: c > 0 && r.IntN(2) == 0})
		}
		if takes() {
			add(Work{Kind: workLookup, Service: svcDNS, Every: between(300*time.Millisecond, 1500*time.Millisecond), Timeout: 2 * time.Second})
		}
		if takes() {
			add(Work{Kind: workReport, Service: svcMQTT, Every: between(500*time.Millisecond, 2*time.Second), Min: 50, Max: 2000})
		}
		if takes() {
			add(Work{Kind: workPush, Service: svcSink, Every: between(1*time.Second, 3*time.Second), Min: 60_000, Max: 300_000, Timeout: 8 * time.Second})
		}
		if takes() {
			add(Work{Kind: workPull, Service: svcFeed, Every: between(1*time.Second, 3*time.Second), Min: 60_000, Max: 300_000, Timeout: 8 * time.Second, Buffer: 1 << (13 + r.IntN(3))})
		}
	}
}

// Service gives the service of a name; the plan has every one of the svc constants.
func (p *Plan) Service(name string) Service {
	for _, s := range p.Services {
		if s.Name == name {
			return s
		}
	}
	return Service{Name: name}
}

// ServicesOf gives the services of a server.
func (p *Plan) ServicesOf(server int) []Service {
	var out []Service
	for _, s := range p.Services {
		if s.Server == server {
			out = append(out, s)
		}
	}
	return out
}
