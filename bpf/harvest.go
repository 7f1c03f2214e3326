package bpf

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"github.com/cilium/ebpf"
)

// batchSize bounds the copy of a map that is in user space at a time.
const batchSize = 256

// batch reads a map in pieces. Its buffers are reused, so a read of a whole map
// allocates little.
type batch[K, V any] struct {
	keys   []K
	values []V
	cursor ebpf.MapBatchCursor
}

func (b *batch[K, V]) each(m *ebpf.Map, fn func(*K, *V) bool) error {
	if b.keys == nil {
		b.keys, b.values = make([]K, batchSize), make([]V, batchSize)
	}
	b.cursor = ebpf.MapBatchCursor{}
	for first := true; ; first = false {
		n, err := m.BatchLookup(&b.cursor, b.keys, b.values, nil)
		if errors.Is(err, ebpf.ErrNotSupported) && first {
			return b.walk(m, fn)
		}
		// A bucket that does not fit the rest of the buffer: more room, then on.
		if errors.Is(err, os.ErrInvalid) || isNoSpace(err) {
			b.keys, b.values = make([]K, 2*len(b.keys)), make([]V, 2*len(b.values))
			continue
		}
		for i := range n {
			if !fn(&b.keys[i], &b.values[i]) {
				return nil
			}
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// walk reads entry by entry, for kernels before 5.6.
func (b *batch[K, V]) walk(m *ebpf.Map, fn func(*K, *V) bool) error {
	it := m.Iterate()
	for it.Next(&b.keys[0], &b.values[0]) {
		if !fn(&b.keys[0], &b.values[0]) {
			return nil
		}
	}
	// Entries that come and go while reading end the walk early; the rest is seen next time.
	if err := it.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return err
	}
	return nil
}

// Flows calls fn for every flow. The pointers are borrowed for the call; false ends it.
func (p *Probe) Flows(fn func(*FlowKey, *FlowValue) bool) error {
	if err := p.flows.each(p.maps.Flows, fn); err != nil {
		return fmt.Errorf("read flows: %w", err)
	}
	return nil
}

// HalfOpen is Flows for connections of which only SYNs have been seen.
func (p *Probe) HalfOpen(fn func(*FlowKey, *FlowValue) bool) error {
	if err := p.halfOpen.each(p.maps.HalfOpen, fn); err != nil {
		return fmt.Errorf("read half-open flows: %w", err)
	}
	return nil
}

// Neighbours calls fn for every address that ARP or neighbour discovery has shown.
func (p *Probe) Neighbours(fn func(*NeighbourKey, *Neighbour) bool) error {
	if err := p.neighbours.each(p.maps.Neighbours, fn); err != nil {
		return fmt.Errorf("read neighbours: %w", err)
	}
	return nil
}

// DeleteFlows removes flows and gives the number that were there.
func (p *Probe) DeleteFlows(keys []FlowKey) (int, error) { return drop(p.maps.Flows, "flow", keys) }

// DeleteHalfOpen removes half-open flows and gives the number that were there.
func (p *Probe) DeleteHalfOpen(keys []FlowKey) (int, error) {
	return drop(p.maps.HalfOpen, "half-open flow", keys)
}

// DeleteNeighbours removes neighbours and gives the number that were there.
func (p *Probe) DeleteNeighbours(keys []NeighbourKey) (int, error) {
	return drop(p.maps.Neighbours, "neighbour", keys)
}

// drop deletes one by one: a batch stops at the first key that has been evicted.
func drop[K any](m *ebpf.Map, what string, keys []K) (int, error) {
	n := 0
	for i := range keys {
		switch err := m.Delete(&keys[i]); {
		case err == nil:
			n++
		case !errors.Is(err, ebpf.ErrKeyNotExist):
			return n, fmt.Errorf("delete a %s: %w", what, err)
		}
	}
	return n, nil
}

// Interfaces calls fn for every port that has seen a packet, summed over CPUs.
func (p *Probe) Interfaces(fn func(ifindex uint32, c *InterfaceCounters) bool) error {
	perCPU := make([]InterfaceCounters, p.cpus)
	var sum InterfaceCounters
	for at := uint32(0); at < p.maps.Ports.MaxEntries(); at++ {
		if err := p.maps.Ports.Lookup(at, perCPU); err != nil {
			return fmt.Errorf("read the counters of port %d: %w", at, err)
		}
		if sum = total(perCPU); sum == (InterfaceCounters{}) {
			continue
		}
		if !fn(at, &sum) {
			return nil
		}
	}
	var ifindex uint32
	it := p.maps.MorePorts.Iterate()
	for it.Next(&ifindex, perCPU) {
		if sum = total(perCPU); !fn(ifindex, &sum) {
			return nil
		}
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("read the counters of ports: %w", err)
	}
	return nil
}

func total(perCPU []InterfaceCounters) (sum InterfaceCounters) {
	for _, c := range perCPU {
		sum.Ingress.add(&c.Ingress)
		sum.Egress.add(&c.Egress)
	}
	return sum
}

func (d *InterfaceDir) add(o *InterfaceDir) {
	d.Packets += o.Packets
	d.Bytes += o.Bytes
	d.Broadcast += o.Broadcast
	d.Multicast += o.Multicast
}

// cpuWords is the size of struct cpu: the totals come first.
const cpuWords = 128

// Counters gives the totals since Load.
func (p *Probe) Counters() (Counters, error) {
	perCPU := make([][cpuWords]uint64, p.cpus)
	if err := p.maps.Totals.Lookup(uint32(0), perCPU); err != nil {
		return Counters{}, fmt.Errorf("read the totals: %w", err)
	}
	var c Counters
	sum := (*[unsafe.Sizeof(c) / 8]uint64)(unsafe.Pointer(&c))
	for _, one := range perCPU {
		for i := range sum {
			sum[i] += one[i]
		}
	}
	return c, nil
}

// MapMemory gives the kernel memory of all maps in bytes, as the kernel accounts it in
// /proc/self/fdinfo (memlock).
func (p *Probe) MapMemory() (int64, error) {
	m := &p.maps
	var sum int64
	for _, one := range []*ebpf.Map{
		m.Admissions, m.Blank, m.Endpoints, m.Flows, m.HalfOpen, m.MorePorts,
		m.Neighbours, m.Payloads, m.Ports, m.Scratch, m.Totals, m.Tunings,
	} {
		n, err := memlock(one.FD())
		if err != nil {
			return 0, fmt.Errorf("read the memory of a map: %w", err)
		}
		sum += n
	}
	return sum, nil
}

func memlock(fd int) (int64, error) {
	f, err := os.Open("/proc/self/fdinfo/" + strconv.Itoa(fd))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if v, ok := strings.CutPrefix(s.Text(), "memlock:"); ok {
			return strconv.ParseInt(strings.TrimSpace(v), 10, 64)
		}
	}
	return 0, errors.New("fdinfo has no memlock line")
}
