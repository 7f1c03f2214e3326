package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// Bounds of a test run's data: the kernel wants an Ethernet header and, by EtherType, an
// IP header, and copies at most what fits a page less its own structures.
const (
	testRunLeast = 14 + 40
	testRunMost  = 3500
)

// skbContext is the kernel's struct __sk_buff as a test run takes it; all other fields
// must be zero.
type skbContext struct {
	_      [12]uint32 // len to tc_index
	CB     [5]uint32
	_      [21]uint32 // hash to data_meta, flow_keys
	Tstamp uint64
	_      [8]uint32 // wire_len, gso_segs, sk, gso_size, tstamp_type, hwtstamp
}

// input is the reused memory of Packet.
type input struct {
	ctx  skbContext
	opts ebpf.RunOptions
	pad  [testRunLeast]byte
}

// Packet pushes one captured Ethernet frame through the programs, as ingress. ts is the
// capture's time in nanoseconds; frame holds the captured bytes; origLen is the frame's
// true length. Of frames longer than the kernel takes the head is passed, the true
// length still counts.
func (p *Probe) Packet(ts int64, frame []byte, origLen int) error {
	if !p.cfg.Replay {
		return errors.New("replay a packet: the programs are loaded for live traffic")
	}
	in := &p.input
	data := frame
	if len(data) > testRunMost {
		data = data[:testRunMost]
	}
	in.ctx.Tstamp = uint64(ts)
	in.ctx.CB[0] = uint32(len(data))
	in.ctx.CB[1] = uint32(max(origLen, len(frame)))
	if len(data) < testRunLeast {
		clear(in.pad[copy(in.pad[:], data):])
		data = in.pad[:]
	}
	in.opts.Data, in.opts.Context = data, &in.ctx
	if _, err := p.progs.StrataIngress.Run(&in.opts); err != nil {
		return fmt.Errorf("replay a packet of %d bytes: %w", len(frame), err)
	}
	return nil
}
