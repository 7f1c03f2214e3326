package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/strata-edge/strata/bpf"
	"github.com/strata-edge/strata/edge/source/flow"
)

// recorder is a flow.Probe that remembers the latest state of every flow, so that flows
// which had to leave the kernel's table are still listed.
type recorder struct {
	*bpf.Probe
	records       map[bpf.FlowKey]*record
	present, half []bpf.FlowKey // in the kernel's tables at the latest walk
}

// record is one flow: the entry as it was last seen, and what earlier entries of the same
// flow had counted.
type record struct {
	key    bpf.FlowKey
	value  bpf.FlowValue
	first  uint64
	before [2]bpf.FlowDir
	marks  bpf.Mark
	flags  bpf.FlowFlag
}

func newRecorder(p *bpf.Probe) *recorder {
	return &recorder{Probe: p, records: make(map[bpf.FlowKey]*record)}
}

func (r *recorder) Flows(fn func(*bpf.FlowKey, *bpf.FlowValue) bool) error {
	r.present = r.present[:0]
	return r.Probe.Flows(func(k *bpf.FlowKey, v *bpf.FlowValue) bool {
		r.present = append(r.present, *k)
		r.note(k, v)
		return fn(k, v)
	})
}

func (r *recorder) HalfOpen(fn func(*bpf.FlowKey, *bpf.FlowValue) bool) error {
	r.half = r.half[:0]
	return r.Probe.HalfOpen(func(k *bpf.FlowKey, v *bpf.FlowValue) bool {
		r.half = append(r.half, *k)
		r.note(k, v)
		return fn(k, v)
	})
}

// note keeps v. Only TCP and UDP have the ports that make a flow here; later fragments
// have none and are counted as fragments.
func (r *recorder) note(k *bpf.FlowKey, v *bpf.FlowValue) {
	if protoName(k.Proto) == "" || k.LoPort == 0 && k.HiPort == 0 && v.Fragments > 0 {
		return
	}
	rec := r.records[*k]
	if rec == nil {
		rec = &record{key: *k, first: v.First}
		r.records[*k] = rec
	} else if rec.value.First != v.First {
		// The entry had been removed and began anew.
		for d := range rec.before {
			addDir(&rec.before[d], &rec.value.Dir[d])
		}
		rec.marks |= rec.value.Marks
		rec.flags |= rec.value.Flags & bpf.FlowAdmitted
	}
	rec.value = *v
}

func addDir(sum, d *bpf.FlowDir) {
	sum.Packets += d.Packets
	sum.Bytes += d.Bytes
	sum.PayloadPackets += d.PayloadPackets
	sum.Retransmits += d.Retransmits
	sum.OutOfOrder += d.OutOfOrder
	sum.Gaps += d.Gaps
	sum.DupAcks += d.DupAcks
	sum.ZeroWindows += d.ZeroWindows
	sum.SYN += d.SYN
	sum.FIN += d.FIN
	sum.RST += d.RST
	sum.Keepalives += d.Keepalives
}

// trim removes the flows that were quiet for longest where a table holds more than at,
// down to so many, before the kernel has to choose for itself.
func (r *recorder) trim(at, to int) error {
	if len(r.present) > at {
		if _, err := r.DeleteFlows(r.oldest(r.present, to)); err != nil {
			return fmt.Errorf("trim flows: %w", err)
		}
	}
	if len(r.half) > at {
		if _, err := r.DeleteHalfOpen(r.oldest(r.half, to)); err != nil {
			return fmt.Errorf("trim half-open flows: %w", err)
		}
	}
	return nil
}

// oldest gives all but the latest keep of keys; those that are no TCP or UDP go first.
func (r *recorder) oldest(keys []bpf.FlowKey, keep int) []bpf.FlowKey {
	last := func(k bpf.FlowKey) uint64 {
		if rec := r.records[k]; rec != nil {
			return rec.value.Last
		}
		return 0
	}
	slices.SortFunc(keys, func(a, b bpf.FlowKey) int { return cmp.Compare(last(a), last(b)) })
	return keys[:len(keys)-keep]
}

// flowDirJSON is one direction of a flow.
type flowDirJSON struct {
	Packets        uint32 `json:"packets"`
	Bytes          uint64 `json:"bytes"`
	PayloadPackets uint32 `json:"payload_packets"`
	Retransmits    uint32 `json:"retransmits"`
	OutOfOrder     uint32 `json:"out_of_order"`
	Gaps           uint32 `json:"gaps"`
	DupAcks        uint32 `json:"dup_acks"`
	ZeroWindow     uint32 `json:"zero_window"`
	Keepalives     uint16 `json:"keepalives"`
	SYN            uint16 `json:"syn"`
	FIN            uint16 `json:"fin"`
	RST            uint16 `json:"rst"`
}

// flowJSON is one line of --flows.
type flowJSON struct {
	Proto    string      `json:"proto"`
	A        string      `json:"a"`
	B        string      `json:"b"`
	VLAN     uint16      `json:"vlan"`
	First    time.Time   `json:"first"`
	Last     time.Time   `json:"last"`
	AB       flowDirJSON `json:"ab"`
	BA       flowDirJSON `json:"ba"`
	RTT      uint32      `json:"rtt_us"`
	Marks    []string    `json:"marks"`
	Admitted bool        `json:"admitted"`
}

// sorted gives the records in order of their first packet.
func (r *recorder) sorted() []*record {
	all := make([]*record, 0, len(r.records))
	for _, rec := range r.records {
		all = append(all, rec)
	}
	slices.SortFunc(all, func(a, b *record) int {
		return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.key.Proto, b.key.Proto), a.key.LoAddr().Compare(b.key.LoAddr()), a.key.HiAddr().Compare(b.key.HiAddr()), cmp.Compare(a.key.VLAN, b.key.VLAN))
	})
	return all
}

func (r *recorder) print(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, rec := range r.sorted() {
		if err := enc.Encode(rec.json()); err != nil {
			return fmt.Errorf("write a flow: %w", err)
		}
	}
	return nil
}

func (rec *record) json() flowJSON {
	var view flow.Flow
	flow.View(&rec.key, &rec.value, &view)
	a, b := 0, 1
	if view.Key.A != rec.key.Lo || view.Key.APort != rec.key.LoPort {
		a, b = 1, 0
	}
	v := &rec.value
	rtt := v.SYNTime + v.ACKTime
	if v.SYNTime == 0 {
		rtt = v.Dir[0].SmoothedRTT + v.Dir[1].SmoothedRTT
	}
	return flowJSON{
		Proto:    protoName(rec.key.Proto),
		A:        netip.AddrPortFrom(netip.AddrFrom16(view.Key.A).Unmap(), view.Key.APort).String(),
		B:        netip.AddrPortFrom(netip.AddrFrom16(view.Key.B).Unmap(), view.Key.BPort).String(),
		VLAN:     rec.key.VLAN,
		First:    time.Unix(0, int64(rec.first)).UTC(),
		Last:     time.Unix(0, int64(v.Last)).UTC(),
		AB:       rec.dir(a),
		BA:       rec.dir(b),
		RTT:      rtt,
		Marks:    markNames(rec.marks | v.Marks),
		Admitted: (rec.flags|v.Flags)&bpf.FlowAdmitted != 0,
	}
}

func (rec *record) dir(i int) flowDirJSON {
	d := rec.before[i]
	addDir(&d, &rec.value.Dir[i])
	return flowDirJSON{
		Packets: d.Packets, Bytes: d.Bytes, PayloadPackets: d.PayloadPackets, Retransmits: d.Retransmits,
		OutOfOrder: d.OutOfOrder, Gaps: d.Gaps, DupAcks: d.DupAcks, ZeroWindow: d.ZeroWindows,
		Keepalives: d.Keepalives, SYN: d.SYN, FIN: d.FIN, RST: d.RST,
	}
}

// protoName names the transports that have ports here; "" for others.
func protoName(p uint8) string {
	switch p {
	case 6:
		return "tcp"
	case 17:
		return "udp"
	}
	return ""
}

var marks = []struct {
	bit  bpf.Mark
	name string
}{
	{bpf.MarkSYNRetry, "syn_retry"}, {bpf.MarkRefused, "refused"}, {bpf.MarkResetMidway, "reset_midway"},
	{bpf.MarkRetransmit, "retransmit"}, {bpf.MarkStuck, "stuck"}, {bpf.MarkZeroWindow, "zero_window"},
	{bpf.MarkICMPError, "icmp_error"}, {bpf.MarkLargeLost, "large_lost"}, {bpf.MarkBadChecksum, "bad_checksum"},
	{bpf.MarkTTLChange, "ttl_change"}, {bpf.MarkFragment, "fragment"}, {bpf.MarkRTTInflation, "rtt_inflation"},
	{bpf.MarkHTTP4xx, "http_4xx"}, {bpf.MarkHTTP5xx, "http_5xx"}, {bpf.MarkTLSAlert, "tls_alert"},
	{bpf.MarkDNSRcode, "dns_rcode"}, {bpf.MarkMQTTRefused, "mqtt_refused"}, {bpf.MarkSIPError, "sip_error"},
	{bpf.MarkModbusException, "modbus_exception"}, {bpf.MarkHTTP2Error, "http2_error"},
}

func markNames(m bpf.Mark) []string {
	names := []string{}
	for _, known := range marks {
		if m&known.bit != 0 {
			names = append(names, known.name)
			m &^= known.bit
		}
	}
	if m != 0 {
		names = append(names, "0x"+strconv.FormatUint(uint64(m), 16))
	}
	return names
}

// summaryJSON is --summary.
type summaryJSON struct {
	Packets         uint64 `json:"packets"`
	Flows           int    `json:"flows"`
	TCPRetransmits  uint64 `json:"tcp_retransmits"`
	TCPOutOfOrder   uint64 `json:"tcp_out_of_order"`
	TCPZeroWindow   uint64 `json:"tcp_zero_window"`
	TCPRST          uint64 `json:"tcp_rst"`
	TCPSYN          uint64 `json:"tcp_syn"`
	ICMPUnreachable uint64 `json:"icmp_unreachable"`
	ICMPFragNeeded  uint64 `json:"icmp_frag_needed"`
	ICMPTTLExceeded uint64 `json:"icmp_ttl_exceeded"`
	ARPDuplicate    uint64 `json:"arp_duplicate"`
	IPFragments     uint64 `json:"ip_fragments"`
	Malformed       uint64 `json:"malformed"`
	Skipped         uint64 `json:"skipped"`
}

func (r *replay) summary() error {
	c, err := r.probe.Counters()
	if err != nil {
		return fmt.Errorf("read counters: %w", err)
	}
	s := &r.start
	return json.NewEncoder(r.w).Encode(summaryJSON{
		Packets:         r.packets,
		Flows:           len(r.recorder.records),
		TCPRetransmits:  c.TCPRetransmits - s.TCPRetransmits,
		TCPOutOfOrder:   c.TCPOutOfOrder - s.TCPOutOfOrder,
		TCPZeroWindow:   c.TCPZeroWindow - s.TCPZeroWindow,
		TCPRST:          c.TCPRST - s.TCPRST,
		TCPSYN:          c.TCPSYN - s.TCPSYN,
		ICMPUnreachable: c.ICMPErrors[bpf.ICMPUnreachable] - s.ICMPErrors[bpf.ICMPUnreachable] + c.ICMPErrors[bpf.ICMPPort] - s.ICMPErrors[bpf.ICMPPort] + c.ICMPErrors[bpf.ICMPProhibited] - s.ICMPErrors[bpf.ICMPProhibited],
		ICMPFragNeeded:  c.ICMPErrors[bpf.ICMPFragNeeded] - s.ICMPErrors[bpf.ICMPFragNeeded],
		ICMPTTLExceeded: c.ICMPErrors[bpf.ICMPTTL] - s.ICMPErrors[bpf.ICMPTTL],
		ARPDuplicate:    c.NeighbourConflicts - s.NeighbourConflicts,
		IPFragments:     c.Fragments - s.Fragments,
		Malformed:       c.BadL2 - s.BadL2 + c.BadL3 - s.BadL3 + c.BadL4 - s.BadL4,
		Skipped:         r.skipped.total,
	})
}

// skipped counts packets of link types that are not handled.
type skipped struct {
	total  uint64
	byType map[int]uint64
}

func (s *skipped) add(linkType int) {
	if s.byType == nil {
		s.byType = make(map[int]uint64)
	}
	s.total++
	s.byType[linkType]++
}

// lines says what was skipped and why, one line in all.
func (s *skipped) lines() []string {
	if s.total == 0 {
		return nil
	}
	line := fmt.Sprintf("skipped %d packets: link type", s.total)
	types := make([]int, 0, len(s.byType))
	for t := range s.byType {
		types = append(types, t)
	}
	slices.Sort(types)
	for _, t := range types {
		line += fmt.Sprintf(" %d (%d)", t, s.byType[t])
	}
	return []string{line + " not handled"}
}
