package agent

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/strata-edge/strata/bpf"
)

// ports keeps the kernel programs on the interfaces that are to be watched, also on those
// that appear later. It belongs to one goroutine.
type ports struct {
	probe *bpf.Probe
	want  []string // empty: discover

	on   map[int]string  // ifindex: how
	told map[string]bool // virtual ports that were said to be left out
}

func newPorts(probe *bpf.Probe, want []string) *ports {
	return &ports{probe: probe, want: want, on: map[int]string{}, told: map[string]bool{}}
}

// refresh attaches to what is new and lets go of what is gone. It reports each change and
// each failure.
func (p *ports) refresh(attached func(name, how string), failed func(name string, err error)) {
	links, err := netlink.LinkList()
	if err != nil {
		failed("interfaces", fmt.Errorf("list interfaces: %w", err))
		return
	}
	wanted := p.wanted(links, failed)
	for index := range p.on {
		if _, ok := wanted[index]; !ok {
			// The kernel has dropped the programs with the interface; what is left is ours.
			_ = p.probe.Detach(index)
			delete(p.on, index)
		}
	}
	for index, name := range wanted {
		if _, ok := p.on[index]; ok {
			continue
		}
		a, err := p.probe.Attach(index)
		if err != nil {
			failed(name, err)
			continue
		}
		p.on[index] = a.Method
		attached(name, "packets, both directions, by "+a.Method)
	}
}

// wanted gives the interfaces to watch: the named ones, else the physical ones, else —
// where there is none, as in a container — every other that is up.
func (p *ports) wanted(links []netlink.Link, failed func(string, error)) map[int]string {
	out := map[int]string{}
	if len(p.want) > 0 {
		for _, name := range p.want {
			i := slices.IndexFunc(links, func(l netlink.Link) bool { return l.Attrs().Name == name })
			if i < 0 {
				failed(name, errors.New("no such interface (looking again every few seconds)"))
				continue
			}
			out[links[i].Attrs().Index] = name
		}
		return out
	}
	virtual := map[int]string{}
	for _, l := range links {
		a := l.Attrs()
		if a.Flags&net.FlagLoopback != 0 || a.Flags&net.FlagUp == 0 || a.EncapType == "can" {
			continue
		}
		if a.ParentDev != "" {
			out[a.Index] = a.Name
		} else if l.Type() != "bridge" {
			virtual[a.Index] = a.Name
		}
	}
	if len(out) == 0 {
		return virtual
	}
	for _, name := range virtual {
		if !p.told[name] {
			p.told[name] = true
			failed(name, errors.New("virtual, and there are physical ones; name it with --interfaces to watch it"))
		}
	}
	return out
}
