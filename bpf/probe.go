package bpf

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// The default sizes. Flows below 16,384 are refused: a small LRU map evicts live entries
// in batches of up to 128.
const (
	DefaultFlows      = 16384
	DefaultHalfOpen   = 2048
	DefaultNeighbours = 1024
	DefaultEndpoints  = 512
	DefaultRing       = 1 << 20
)

// Config is what is fixed at load. Zero sizes mean the defaults.
type Config struct {
	Flows      uint32 // entries
	HalfOpen   uint32
	Neighbours uint32
	Endpoints  uint32 // also of flow admissions
	Ring       uint32 // bytes, a power of two and at least a page
	Replay     bool   // for Packet: times and lengths come from the caller; Attach is refused
	Tuning     *Tuning
}

// DefaultTuning gives the weights and budgets to start from. A flow is admitted by one
// tell-tale, one refusal or reset, or a few retransmissions within some seconds. Header
// checksums are off: the kernel counts bad ones itself (IpInHdrErrors), and they cost
// some 5 ns a packet here.
func DefaultTuning() Tuning {
	t := Tuning{
		Threshold:       40,
		FlowPackets:     16,
		FlowBytes:       8 << 10,
		FlowSeconds:     30,
		EndpointSeconds: 60,
		EndpointBytes:   64 << 10,
	}
	for mark, weight := range map[Mark]uint32{
		MarkSYNRetry: 25, MarkRefused: 40, MarkResetMidway: 40, MarkRetransmit: 10, MarkStuck: 30,
		MarkZeroWindow: 15, MarkICMPError: 30, MarkLargeLost: 40, MarkBadChecksum: 20,
		MarkTTLChange: 5, MarkFragment: 1, MarkRTTInflation: 10,
		MarkHTTP4xx: 40, MarkHTTP5xx: 40, MarkTLSAlert: 40, MarkDNSRcode: 40, MarkMQTTRefused: 40,
		MarkSIPError: 40, MarkModbusException: 40, MarkHTTP2Error: 40,
	} {
		t.Weights[mark.bit()] = weight
	}
	return t
}

func (m Mark) bit() int {
	n := 0
	for ; m > 1; m >>= 1 {
		n++
	}
	return n
}

// Probe is the loaded programs and their maps.
type Probe struct {
	cfg   Config
	progs strataPrograms
	maps  strataMaps
	cpus  int

	mu       sync.Mutex
	tuning   Tuning
	attached map[int]*attachment

	flows, halfOpen batch[FlowKey, FlowValue]
	neighbours      batch[NeighbourKey, Neighbour]
	input           input
}

// Load loads the programs and creates the maps. It needs CAP_BPF, CAP_NET_ADMIN and
// CAP_PERFMON (before Linux 5.8: CAP_SYS_ADMIN), and lifts the limit on locked memory
// where the kernel charges maps to it.
func Load(cfg Config) (*Probe, error) {
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("lift the memlock limit: %w", err)
	}
	p := &Probe{cfg: cfg, tuning: DefaultTuning(), attached: map[int]*attachment{}}
	if err := p.loadFirst(); err != nil {
		return nil, err
	}
	var err error
	if p.cpus, err = ebpf.PossibleCPU(); err != nil {
		return nil, errors.Join(fmt.Errorf("count the CPUs: %w", err), p.Close())
	}
	if cfg.Tuning != nil {
		p.tuning = *cfg.Tuning
	}
	if err := p.Tune(p.tuning); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// loadFirst creates the maps and loads the programs of Ethernet ports. The verifier
// takes a good part of a second for each program on a small machine, so those of other
// ports wait until one is attached to.
func (p *Probe) loadFirst() error {
	if p.cfg.Replay {
		var objs struct {
			strataMaps
			Ingress *ebpf.Program `ebpf:"strata_ingress"`
		}
		err := p.load(&objs, nil)
		p.maps, p.progs.StrataIngress = objs.strataMaps, objs.Ingress
		return err
	}
	var objs struct {
		strataMaps
		Ingress *ebpf.Program `ebpf:"strata_ingress"`
		Egress  *ebpf.Program `ebpf:"strata_egress"`
	}
	err := p.load(&objs, nil)
	p.maps, p.progs.StrataIngress, p.progs.StrataEgress = objs.strataMaps, objs.Ingress, objs.Egress
	return err
}

// loadIP loads the programs of ports without Ethernet, on the same maps.
func (p *Probe) loadIP() error {
	if p.progs.StrataIngressIp != nil {
		return nil
	}
	var objs struct {
		Ingress *ebpf.Program `ebpf:"strata_ingress_ip"`
		Egress  *ebpf.Program `ebpf:"strata_egress_ip"`
	}
	m := &p.maps
	err := p.load(&objs, map[string]*ebpf.Map{
		strataMapAdmissions: m.Admissions, strataMapBlank: m.Blank, strataMapEndpoints: m.Endpoints,
		strataMapFlows: m.Flows, strataMapHalfOpen: m.HalfOpen, strataMapMorePorts: m.MorePorts,
		strataMapNeighbours: m.Neighbours, strataMapPayloads: m.Payloads, strataMapPorts: m.Ports,
		strataMapScratch: m.Scratch, strataMapTotals: m.Totals, strataMapTunings: m.Tunings,
	})
	p.progs.StrataIngressIp, p.progs.StrataEgressIp = objs.Ingress, objs.Egress
	return err
}

func (p *Probe) load(objs any, maps map[string]*ebpf.Map) error {
	spec, err := loadStrata()
	if err != nil {
		return fmt.Errorf("read the programs: %w", err)
	}
	if err := p.cfg.apply(spec); err != nil {
		return err
	}
	if err := spec.LoadAndAssign(objs, &ebpf.CollectionOptions{MapReplacements: maps}); err != nil {
		return fmt.Errorf("load the programs: %w", err)
	}
	return nil
}

func (cfg *Config) apply(spec *ebpf.CollectionSpec) error {
	size := func(name string, n, usual, least uint32) error {
		if n == 0 {
			n = usual
		}
		if n < least {
			return fmt.Errorf("map %s: %d entries, at least %d are needed", name, n, least)
		}
		spec.Maps[name].MaxEntries = n
		return nil
	}
	ring := cfg.Ring
	if ring == 0 {
		ring = DefaultRing
	}
	page := uint32(unix.Getpagesize())
	if ring&(ring-1) != 0 || ring < page {
		return fmt.Errorf("ring of %d bytes: must be a power of two of at least a page (%d)", ring, page)
	}
	replay := uint32(0)
	if cfg.Replay {
		replay = 1
	}
	return errors.Join(
		size(strataMapFlows, cfg.Flows, DefaultFlows, DefaultFlows),
		size(strataMapHalfOpen, cfg.HalfOpen, DefaultHalfOpen, 256),
		size(strataMapNeighbours, cfg.Neighbours, DefaultNeighbours, 256),
		size(strataMapEndpoints, cfg.Endpoints, DefaultEndpoints, 256),
		size(strataMapAdmissions, cfg.Endpoints, DefaultEndpoints, 256),
		size(strataMapPayloads, ring, ring, page),
		spec.Variables[strataVarRingHalf].Set(ring/2),
		spec.Variables[strataVarReplay].Set(replay),
	)
}

// Close detaches from every port and frees programs and maps. Payload readers must be
// closed before.
func (p *Probe) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for ifindex, a := range p.attached {
		errs = append(errs, a.close())
		delete(p.attached, ifindex)
	}
	return errors.Join(append(errs, p.progs.Close(), p.maps.Close())...)
}

// Tuning gives what Tune set last.
func (p *Probe) Tuning() Tuning {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tuning
}

// Tune replaces weights, threshold and budgets while the programs run.
func (p *Probe) Tune(t Tuning) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	t.generation = p.tuning.generation
	return p.tune(t)
}

func (p *Probe) tune(t Tuning) error {
	if err := p.maps.Tunings.Put(uint32(0), &t); err != nil {
		return fmt.Errorf("write the tuning: %w", err)
	}
	p.tuning = t
	return nil
}

const secondShift = 30 // the programs' second is 2³⁰ ns

// flowAdmission is the twin of struct flow_admission.
type flowAdmission struct {
	Until      uint32
	Generation uint16
	_          uint16
}

// endpointAdmission is the twin of struct endpoint.
type endpointAdmission struct {
	Until, Bytes, SYNs uint32
	Renewed            uint32 // seconds like Until; the programs' own
}

// endpointSYNs is STRATA_SYNS: how many SYNs without payload an admission of an endpoint
// delivers, so that a flood of them costs no more than a busy minute.
const endpointSYNs = 4096

// AdmitFlow admits a flow until the given time (nanoseconds, diag.Time) and gives it a
// fresh budget, from its next packet on.
func (p *Probe) AdmitFlow(key FlowKey, until uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.tuning
	t.generation = (t.generation + 1) & 0xffff
	a := flowAdmission{Until: uint32(until >> secondShift), Generation: uint16(t.generation)}
	if err := p.maps.Admissions.Put(&key, &a); err != nil {
		return fmt.Errorf("admit a flow: %w", err)
	}
	return p.tune(t)
}

// AdmitEndpoint admits the flows of a service until the given time (nanoseconds,
// diag.Time) with a budget of payload bytes that they share: new ones from their first
// packet, existing ones from their next.
func (p *Probe) AdmitEndpoint(key EndpointKey, until uint64, bytes uint32) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := endpointAdmission{Until: uint32(until >> secondShift), Bytes: bytes, SYNs: endpointSYNs}
	if err := p.maps.Endpoints.Put(&key, &e); err != nil {
		return fmt.Errorf("admit an endpoint: %w", err)
	}
	t := p.tuning
	t.generation = (t.generation + 1) & 0xffff
	return p.tune(t)
}

// Now is the time of the programs: nanoseconds on CLOCK_BOOTTIME.
func Now() uint64 {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0
	}
	return uint64(ts.Nano())
}
