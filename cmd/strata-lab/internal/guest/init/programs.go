//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/strata-edge/strata/cmd/strata-lab/internal/guest/wire"
)

// programs lists every BPF program that is loaded, with the interface and hook where one
// hangs on an interface.
func programs() ([]wire.Program, error) {
	at, err := attached()
	if err != nil {
		return nil, err
	}
	var out []wire.Program
	for id := ebpf.ProgramID(0); ; {
		id, err = ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("next program: %w", err)
		}
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue // it went away between the two calls
		}
		info, infoErr := p.Info()
		stats, statsErr := p.Stats()
		p.Close()
		if err := errors.Join(infoErr, statsErr); err != nil {
			return nil, fmt.Errorf("program %d: %w", id, err)
		}
		out = append(out, wire.Program{
			ID: uint32(id), Name: info.Name, Type: info.Type.String(), At: at[id], Runs: stats.RunCount,
		})
	}
}

// attached gives where each program hangs on an interface, by tcx or by a clsact filter.
func attached() (map[ebpf.ProgramID]string, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	at := map[ebpf.ProgramID]string{}
	for _, l := range links {
		for _, hook := range []struct {
			name   string
			tcx    ebpf.AttachType
			parent uint32
		}{
			{"ingress", ebpf.AttachTCXIngress, netlink.HANDLE_MIN_INGRESS},
			{"egress", ebpf.AttachTCXEgress, netlink.HANDLE_MIN_EGRESS},
		} {
			// A kernel before 6.6 has no tcx and says so; then only filters count.
			if q, err := link.QueryPrograms(link.QueryOptions{Target: l.Attrs().Index, Attach: hook.tcx}); err == nil {
				for _, p := range q.Programs {
					at[p.ID] = "tcx/" + hook.name + " " + l.Attrs().Name
				}
			}
			filters, err := netlink.FilterList(l, hook.parent)
			if err != nil {
				continue // no clsact on this interface
			}
			for _, f := range filters {
				if b, ok := f.(*netlink.BpfFilter); ok {
					at[ebpf.ProgramID(b.Id)] = "clsact/" + hook.name + " " + l.Attrs().Name
				}
			}
		}
	}
	return at, nil
}
