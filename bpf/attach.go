package bpf

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The ways to attach.
const (
	MethodTCX    = "tcx"    // Linux 6.6
	MethodClsact = "clsact" // any
)

// Attachment says how a port is observed.
type Attachment struct {
	Ifindex  int
	Method   string
	Ethernet bool // false: packets begin with the IP header
}

type attachment struct {
	Attachment
	links   []link.Link
	filters []*netlink.BpfFilter
	qdisc   *netlink.GenericQdisc // ours, nil where one was there
}

// The classifier's place among filters of others, from the end of the range so that it
// sees packets after filters that admins put early.
const (
	filterPriority = 0xc000
	filterHandle   = 0x5354
)

// Attach observes a port in both directions, in the network namespace of the calling
// thread. Ports of other link layers than Ethernet and bare IP are refused.
func (p *Probe) Attach(ifindex int) (Attachment, error) {
	return p.attach(ifindex, MethodTCX)
}

func (p *Probe) attach(ifindex int, first string) (Attachment, error) {
	if p.cfg.Replay {
		return Attachment{}, errors.New("attach: the programs are loaded for replay")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if a := p.attached[ifindex]; a != nil {
		return a.Attachment, nil
	}
	port, err := netlink.LinkByIndex(ifindex)
	if err != nil {
		return Attachment{}, fmt.Errorf("attach to port %d: %w", ifindex, err)
	}
	a := &attachment{Attachment: Attachment{Ifindex: ifindex, Method: first}}
	var ingress, egress *ebpf.Program
	switch encap := port.Attrs().EncapType; encap {
	case "ether", "loopback":
		a.Ethernet = true
		ingress, egress = p.progs.StrataIngress, p.progs.StrataEgress
	case "none", "ppp", "rawip", "raw", "tunnel", "tunnel6", "sit":
		if err := p.loadIP(); err != nil {
			return Attachment{}, fmt.Errorf("attach to %s: %w", port.Attrs().Name, err)
		}
		ingress, egress = p.progs.StrataIngressIp, p.progs.StrataEgressIp
	default:
		return Attachment{}, fmt.Errorf("attach to %s: link layer %q is not handled", port.Attrs().Name, encap)
	}
	if first == MethodTCX {
		err = a.tcx(ifindex, ingress, egress)
		// Kernels without tcx know neither the attach type nor the link: EINVAL, or
		// ErrNotSupported from the library's probe.
		if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EINVAL) {
			a.Method = MethodClsact
		} else if err != nil {
			return Attachment{}, errors.Join(fmt.Errorf("attach to %s by tcx: %w", port.Attrs().Name, err), a.close())
		}
	}
	if a.Method == MethodClsact {
		if err := a.clsact(port, ingress, egress); err != nil {
			return Attachment{}, errors.Join(fmt.Errorf("attach to %s by clsact: %w", port.Attrs().Name, err), a.close())
		}
	}
	p.attached[ifindex] = a
	return a.Attachment, nil
}

func (a *attachment) tcx(ifindex int, ingress, egress *ebpf.Program) error {
	for _, at := range []struct {
		prog *ebpf.Program
		kind ebpf.AttachType
	}{{ingress, ebpf.AttachTCXIngress}, {egress, ebpf.AttachTCXEgress}} {
		l, err := link.AttachTCX(link.TCXOptions{Interface: ifindex, Program: at.prog, Attach: at.kind})
		if err != nil {
			return errors.Join(err, a.close())
		}
		a.links = append(a.links, l)
	}
	return nil
}

func (a *attachment) clsact(port netlink.Link, ingress, egress *ebpf.Program) error {
	qdisc := &netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: port.Attrs().Index,
			Handle:    netlink.MakeHandle(0xffff, 0),
			Parent:    netlink.HANDLE_CLSACT,
		},
		QdiscType: "clsact",
	}
	switch err := netlink.QdiscAdd(qdisc); {
	case err == nil:
		a.qdisc = qdisc
	case !errors.Is(err, os.ErrExist):
		return fmt.Errorf("add the queueing discipline: %w", err)
	}
	for _, at := range []struct {
		prog   *ebpf.Program
		name   string
		parent uint32
	}{{ingress, "strata_ingress", netlink.HANDLE_MIN_INGRESS}, {egress, "strata_egress", netlink.HANDLE_MIN_EGRESS}} {
		f := &netlink.BpfFilter{
			FilterAttrs: netlink.FilterAttrs{
				LinkIndex: port.Attrs().Index, Parent: at.parent,
				Handle: filterHandle, Protocol: unix.ETH_P_ALL, Priority: filterPriority,
			},
			Fd: at.prog.FD(), Name: at.name, DirectAction: true,
		}
		// Replace: a filter of ours may remain from a process that was killed.
		if err := netlink.FilterReplace(f); err != nil {
			return fmt.Errorf("add filter %s: %w", at.name, err)
		}
		a.filters = append(a.filters, f)
	}
	return nil
}

// Detach ends the observation of a port. A port that is gone is no error.
func (p *Probe) Detach(ifindex int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.attached[ifindex]
	if a == nil {
		return nil
	}
	delete(p.attached, ifindex)
	if err := a.close(); err != nil {
		return fmt.Errorf("detach from port %d: %w", ifindex, err)
	}
	return nil
}

func (a *attachment) close() error {
	var errs []error
	for _, l := range a.links {
		errs = append(errs, l.Close())
	}
	for _, f := range a.filters {
		errs = append(errs, gone(netlink.FilterDel(f)))
	}
	// The discipline goes with its last filter: another agent's may have come since.
	if a.qdisc != nil && !a.shared() {
		errs = append(errs, gone(netlink.QdiscDel(a.qdisc)))
	}
	a.links, a.filters, a.qdisc = nil, nil, nil
	return errors.Join(errs...)
}

func (a *attachment) shared() bool {
	port := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: a.Ifindex}}
	for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		if left, err := netlink.FilterList(port, parent); err == nil && len(left) > 0 {
			return true
		}
	}
	return false
}

// gone drops the errors of what has been removed with its port.
func gone(err error) error {
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
