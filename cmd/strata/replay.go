package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"github.com/strata-edge/strata/bpf"
	"github.com/strata-edge/strata/edge/diag"
	"github.com/strata-edge/strata/edge/dissect"
	"github.com/strata-edge/strata/edge/source/flow"
	"github.com/strata-edge/strata/internal/capture"
)

// pipeline is what turns signals into findings: agent.Pipeline.
type pipeline interface {
	Feed(diag.Signal)
	Advance(now diag.Time, emit func(diag.Finding))
	Close() error
}

const replayAbout = `Pushes a capture (pcap, pcapng) through the kernel programs of the live service, with
the capture's own times, and through the same user space. Prints one JSON object a line;
without a flag the summary. Needs root or CAP_BPF; touches no interface.

Flows are TCP and UDP, in order of their first packet; ICMP errors are counted on the
flow that they are about.`

// replayOptions is what the command line asks for.
type replayOptions struct {
	flows, messages, findings, summary bool
	deep                               bool
}

func replayCommand(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	file, o, code, done := replayArgs(args, stdout, stderr)
	if done {
		return code
	}
	w := bufio.NewWriterSize(stdout, 64<<10)
	err := replayFile(ctx, file, o, w, stderr)
	if errFlush := w.Flush(); err == nil {
		err = errFlush
	}
	if err != nil {
		fmt.Fprintf(stderr, "strata replay: %v\n", err)
		return exitFailure
	}
	return exitOK
}

// replayArgs reads flags before and after the file.
func replayArgs(args []string, stdout, stderr io.Writer) (file string, o replayOptions, code int, done bool) {
	fs := newFlags("replay", "FILE [flags]", replayAbout, stderr)
	fs.BoolVar(&o.flows, "flows", false, "print the flows")
	fs.BoolVar(&o.messages, "messages", false, "print the messages of parsed payload")
	fs.BoolVar(&o.findings, "findings", false, "print the findings as they open, change and resolve")
	fs.BoolVar(&o.summary, "summary", false, "print the totals")
	deep := fs.String("deep", "", "`suspicious` or all: whose payload is parsed (default: all for --messages alone, else suspicious)")
	for rest := args; ; {
		if code, done = parse(fs, rest, stdout); done {
			return "", o, code, true
		}
		if fs.NArg() == 0 {
			break
		}
		if file != "" {
			fmt.Fprintf(stderr, "strata replay: one file at a time, not %q and %q\n", file, fs.Arg(0))
			return "", o, exitUsage, true
		}
		file, rest = fs.Arg(0), fs.Args()[1:]
	}
	if file == "" {
		fmt.Fprintln(stderr, "strata replay: which file? `strata replay --help` explains")
		return "", o, exitUsage, true
	}
	switch *deep {
	case "all":
		o.deep = true
	case "suspicious":
	case "":
		o.deep = o.messages && !o.findings
	default:
		fmt.Fprintf(stderr, "strata replay: --deep %q: want suspicious or all\n", *deep)
		return "", o, exitUsage, true
	}
	if !o.flows && !o.messages && !o.findings {
		o.summary = true
	}
	return file, o, exitOK, false
}

// replayFile replays one capture. A file that breaks off gives what was read and a
// warning; one of which nothing can be read is an error.
func replayFile(ctx context.Context, file string, o replayOptions, w io.Writer, stderr io.Writer) error {
	in, err := capture.Open(file)
	if err != nil {
		return fmt.Errorf("open %s: %w", file, err)
	}
	defer in.Close()
	probe, err := loadReplay()
	if err != nil {
		return err
	}
	defer probe.Close()
	r, err := newReplay(probe, o, w, stderr)
	if err != nil {
		return err
	}
	defer func() { _ = r.close() }() // only reading: nothing is lost
	err = r.read(ctx, in)
	if errEnd := r.finish(); errEnd != nil {
		return errEnd
	}
	for _, line := range r.skipped.lines() {
		fmt.Fprintln(stderr, "strata replay:", line)
	}
	if err == nil {
		return nil
	}
	if r.packets == 0 || ctx.Err() != nil || errors.Is(err, errReplay) {
		return fmt.Errorf("%s: %w", file, err)
	}
	fmt.Fprintf(stderr, "strata replay: %s: stopped after %d packets: %v\n", file, r.packets, err)
	return nil
}

// Sizes of a replay. The tables are those of a device; they are read and trimmed often
// enough that none of them has to evict.
const (
	replayTable   = 16384
	replayTrimAt  = replayTable / 2
	replayTrimTo  = replayTable / 4
	replayHarvest = replayTable / 4 // packets between two harvests at most; a packet makes one flow at most
	replayRing    = 1 << 20
	replayQuiet   = 15               // harvests in a pause of the capture, then time jumps
	replayTail    = 10 * time.Second // findings look this far beyond the last packet: one window
)

// errReplay marks failures that are not the file's.
var errReplay = errors.New("replay failed")

// replay drives the engine with a capture's times.
type replay struct {
	options  replayOptions
	w        io.Writer
	probe    *bpf.Probe
	payloads *bpf.PayloadReader
	recorder *recorder
	engine   *flow.Engine
	pipeline pipeline
	messages messagePrinter
	skipped  skipped

	packets   uint64
	unread    int       // packets since the latest harvest
	next      diag.Time // of the next harvest
	last      diag.Time // largest time so far
	start     bpf.Counters
	ringFull  uint64
	record    bpf.Payload
	segment   flow.Payload
	emit      func(diag.Signal)
	emitFound func(diag.Finding)
	err       error
}

// loadReplay loads the programs for a capture's times.
func loadReplay() (*bpf.Probe, error) {
	p, err := bpf.Load(bpf.Config{Flows: replayTable, HalfOpen: replayTable, Ring: replayRing, Replay: true})
	switch {
	case err != nil && os.Geteuid() != 0:
		return nil, fmt.Errorf("load the kernel programs (needs root or CAP_BPF): %w", err)
	case err != nil:
		return nil, fmt.Errorf("load the kernel programs: %w", err)
	}
	return p, nil
}

// newReplay prepares a probe whose tables are empty. close is the caller's to
// call.
func newReplay(probe *bpf.Probe, o replayOptions, w io.Writer, stderr io.Writer) (*replay, error) {
	r := &replay{options: o, w: w, probe: probe, recorder: newRecorder(probe), emit: func(diag.Signal) {}}
	tuning := bpf.DefaultTuning()
	if o.deep {
		tuning.DeepAll, tuning.FlowPackets, tuning.FlowBytes = 1, 0xffff, 0xffffffff
	}
	err := probe.Tune(tuning)
	if err != nil {
		return nil, fmt.Errorf("tune the kernel programs: %w", err)
	}
	if r.start, err = probe.Counters(); err != nil {
		return nil, fmt.Errorf("read counters: %w", err)
	}
	r.ringFull = r.start.PayloadRingFull
	r.engine, err = flow.NewEngine(flow.Config{
		Tables:   keepEnded{flow.NewTables(r.recorder)},
		Resolver: captureNames{},
		Clock:    captureClock,
		Flows:    2 * replayTable,
		Deep:     o.deep,
	})
	if err != nil {
		return nil, err
	}
	if o.messages {
		r.messages.w = w
		r.engine.Observe(r.messages.print)
	}
	if o.findings {
		if r.pipeline, err = newPipeline(captureClock, stderr); err != nil {
			return nil, err
		}
		r.emit, r.emitFound = r.pipeline.Feed, r.found
	}
	if r.payloads, err = probe.Payloads(); err != nil {
		err = fmt.Errorf("open the payload ring: %w", err)
		if r.pipeline != nil {
			err = errors.Join(err, r.pipeline.Close())
		}
		return nil, err
	}
	return r, nil
}

// close frees what newReplay opened.
func (r *replay) close() error {
	err := r.payloads.Close()
	if r.pipeline != nil {
		err = errors.Join(err, r.pipeline.Close())
	}
	return err
}

func (r *replay) found(f diag.Finding) {
	if err := printJSON(r.w, &f); err != nil && r.err == nil {
		r.err = err
	}
}

// captureClock: a capture's times are wall times.
func captureClock() diag.Clock { return diag.Clock{Synced: true} }

// captureNames is the Resolver of a capture: one port, no routes.
type captureNames struct{}

func (captureNames) Interface(uint32) string { return "capture" }

func (captureNames) NextHop(netip.Addr) (netip.Addr, uint32, bool) { return netip.Addr{}, 0, false }

// keepEnded leaves ended flows in the kernel's table: a straggler belongs to its flow.
type keepEnded struct{ flow.Tables }

func (keepEnded) Forget(*flow.Key) error { return nil }

// read pushes every packet through the programs.
func (r *replay) read(ctx context.Context, in *capture.Reader) error {
	var p capture.Packet
	for {
		if r.packets%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		switch err := in.Next(&p); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		r.packets++
		if p.Skipped {
			r.skipped.add(p.LinkType)
			continue
		}
		if err := r.packet(&p); err != nil {
			return fmt.Errorf("%w: %w", errReplay, err)
		}
	}
}

func (r *replay) packet(p *capture.Packet) error {
	// Zero means "never" throughout.
	ts := max(diag.Time(p.Time), 1)
	if err := r.advance(ts); err != nil {
		return err
	}
	if err := r.probe.Packet(int64(ts), p.Frame, p.OrigLen); err != nil {
		return err
	}
	for {
		more, err := r.payloads.TryReadInto(&r.record)
		if err != nil {
			return fmt.Errorf("read payload: %w", err)
		}
		if !more {
			break
		}
		flow.Segment(&r.record, &r.segment)
		r.engine.Payload(&r.segment)
	}
	return r.messages.err
}

// advance harvests for the time up to ts.
func (r *replay) advance(ts diag.Time) error {
	r.last = max(r.last, ts)
	if r.next == 0 {
		r.next = ts.Add(flow.Interval)
	}
	for n := 0; r.next <= ts; n++ {
		if n == replayQuiet {
			r.next = ts.Add(flow.Interval)
			break
		}
		if err := r.harvest(r.next); err != nil {
			return err
		}
		r.next = r.next.Add(flow.Interval)
	}
	if r.unread++; r.unread >= replayHarvest {
		return r.harvest(r.last)
	}
	return nil
}

func (r *replay) harvest(now diag.Time) error {
	r.unread = 0
	c, err := r.probe.Counters()
	if err != nil {
		return fmt.Errorf("read counters: %w", err)
	}
	if c.PayloadRingFull > r.ringFull {
		r.ringFull = c.PayloadRingFull
		r.engine.PayloadLost(now)
	}
	if err := r.engine.Harvest(now, r.emit); err != nil {
		return err
	}
	if err := r.recorder.trim(replayTrimAt, replayTrimTo); err != nil {
		return err
	}
	if r.pipeline != nil {
		r.pipeline.Advance(now, r.emitFound)
	}
	return r.err
}

// finish takes what is left and prints what is known only now.
func (r *replay) finish() error {
	r.engine.Flush()
	if r.last > 0 {
		if err := r.harvest(r.last); err != nil {
			return err
		}
	}
	if r.pipeline != nil && r.last > 0 {
		for at := r.last.Add(flow.Interval); at <= r.last.Add(replayTail); at = at.Add(flow.Interval) {
			r.pipeline.Advance(at, r.emitFound)
		}
	}
	if r.options.flows {
		if err := r.recorder.print(r.w); err != nil {
			return err
		}
	}
	if r.options.summary {
		if err := r.summary(); err != nil {
			return err
		}
	}
	return errors.Join(r.err, r.messages.err)
}

// messagePrinter writes messages as they are completed.
type messagePrinter struct {
	w   io.Writer
	buf []byte
	err error
}

func (m *messagePrinter) print(msg *dissect.Message) {
	switch msg.Kind {
	case dissect.DNSUnanswered, dissect.TLSRejected, dissect.Undecodable:
		return // conclusions, no messages
	}
	if m.err != nil || msg.Protocol == dissect.Unknown {
		return
	}
	b := append(m.buf[:0], `{"time":"`...)
	b = time.Unix(0, msg.Time).UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","proto":"`...)
	b = append(b, protoName(uint8(msg.Key.Proto))...)
	b = append(b, `","a":"`...)
	b = msg.Key.A.AppendTo(b)
	b = append(b, `","b":"`...)
	b = msg.Key.B.AppendTo(b)
	b = append(b, `","from":"`...)
	b = append(b, msg.From.String()...)
	b = append(b, `","protocol":"`...)
	b = append(b, msg.Protocol.String()...)
	b = append(b, `","fields":`...)
	b = msg.AppendFieldsJSON(b)
	b = append(b, '}', '\n')
	m.buf = b
	_, m.err = m.w.Write(b)
}
