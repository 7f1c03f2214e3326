package flow

import (
	"net"
	"net/netip"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Routes is the Resolver of a live device: port names and routes of the network
// namespace that it is called in.
type Routes struct{}

// Interface gives the port's name, or "index-N" for one that is gone.
func (Routes) Interface(index uint32) string {
	ifi, err := net.InterfaceByIndex(int(index))
	if err != nil {
		return "index-" + strconv.FormatUint(uint64(index), 10)
	}
	return ifi.Name
}

// NextHop asks the kernel's routing table.
func (Routes) NextHop(dst netip.Addr) (hop netip.Addr, index uint32, ok bool) {
	routes, err := netlink.RouteGet(dst.AsSlice())
	if err != nil || len(routes) == 0 {
		return netip.Addr{}, 0, false
	}
	r := &routes[0]
	if r.Type != unix.RTN_UNICAST {
		return netip.Addr{}, 0, false // this device itself, or nowhere
	}
	hop = dst
	if r.Gw != nil {
		if gw, valid := netip.AddrFromSlice(r.Gw); valid {
			hop = gw.Unmap()
		}
	} else if via, isVia := r.Via.(*netlink.Via); isVia {
		// An IPv4 route through an IPv6 neighbour (RFC 5549).
		if gw, valid := netip.AddrFromSlice(via.Addr); valid {
			hop = gw.Unmap()
		}
	}
	return hop, uint32(r.LinkIndex), true
}
