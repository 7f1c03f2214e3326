package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/strata-edge/strata/canbus"
)

const canAbout = `What CAN controllers say of their bus: state, error counters, bit timing, statistics.
Without IF, every CAN interface. What a controller does not show is named, since a bus
without reported errors can be one whose reporting is off
(ip link set can0 type can berr-reporting on).

  strata can                       a table of all buses
  strata can --json can0           one JSON object an interface
  strata can decode --json FILE    error frames of a candump log (candump -L can0,#FFFFFFFF);
                                   without FILE or with "-", stdin

Exit code: 0 read, 1 an interface is missing or a line does not parse, 2 usage.`

const canDecodeAbout = `Decodes the error frames of a candump log: lines of the form
"(1436509052.249713) can0 2000008C#0004000000000000". Data frames are passed over.
A line that does not parse is named on stderr, and the exit code is 1.`

// canLink is one interface as --json writes it.
type canLink struct {
	Interface   string         `json:"interface"`
	Kind        string         `json:"kind"`
	Up          bool           `json:"up"`
	State       string         `json:"state,omitempty"`
	TxErrors    *uint16        `json:"tx_errors,omitempty"`
	RxErrors    *uint16        `json:"rx_errors,omitempty"`
	RestartMS   *uint32        `json:"restart_ms,omitempty"`
	Modes       []string       `json:"modes,omitempty"`
	Timing      *canTiming     `json:"bittiming,omitempty"`
	DataTiming  *canTiming     `json:"data_bittiming,omitempty"`
	Clock       uint32         `json:"clock,omitempty"`
	Termination uint16         `json:"termination,omitempty"`
	Counts      *canCounts     `json:"statistics,omitempty"`
	Traffic     canTraffic     `json:"traffic"`
	Verdict     canbus.Verdict `json:"verdict"`
	Reasons     []string       `json:"reasons,omitempty"`
	Unseen      []string       `json:"unseen,omitempty"`
}

type canTiming struct {
	Bitrate     uint32  `json:"bitrate"`
	SamplePoint float64 `json:"sample_point"`
	Quantum     uint32  `json:"tq"`
	PropSeg     uint32  `json:"prop_seg"`
	PhaseSeg1   uint32  `json:"phase_seg1"`
	PhaseSeg2   uint32  `json:"phase_seg2"`
	SJW         uint32  `json:"sjw"`
	Prescaler   uint32  `json:"brp"`
}

type canCounts struct {
	BusErrors       uint32 `json:"bus_error"`
	Warnings        uint32 `json:"error_warning"`
	Passives        uint32 `json:"error_passive"`
	BusOffs         uint32 `json:"bus_off"`
	ArbitrationLost uint32 `json:"arbitration_lost"`
	Restarts        uint32 `json:"restarts"`
}

type canTraffic struct {
	RxPackets uint64 `json:"rx_packets"`
	TxPackets uint64 `json:"tx_packets"`
	RxErrors  uint64 `json:"rx_errors"`
	TxErrors  uint64 `json:"tx_errors"`
	RxDropped uint64 `json:"rx_dropped"`
	RxOver    uint64 `json:"rx_over_errors"`
}

func canCommand(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "decode" {
		return canDecode(ctx, args[1:], stdin, stdout, stderr)
	}
	flags := newFlags("can", "[--json] [IF…] | decode [--json] [FILE]", canAbout, stderr)
	asJSON := flags.Bool("json", false, "one JSON object an interface")
	if code, done := parse(flags, args, stdout); done {
		return code
	}
	links, err := canbus.Links()
	if err != nil {
		fmt.Fprintf(stderr, "strata can: %v\n", err)
		return exitFailure
	}
	code := exitOK
	if flags.NArg() > 0 {
		var picked []canbus.Link
		for _, name := range flags.Args() {
			i := slices.IndexFunc(links, func(l canbus.Link) bool { return l.Name == name })
			if i < 0 {
				fmt.Fprintf(stderr, "strata can: %s: no such CAN interface\n", name)
				code = exitFailure
				continue
			}
			picked = append(picked, links[i])
		}
		links = picked
	}
	if *asJSON {
		out := json.NewEncoder(stdout)
		for i := range links {
			if err := out.Encode(canLinkOf(&links[i])); err != nil {
				fmt.Fprintf(stderr, "strata can: write: %v\n", err)
				return exitFailure
			}
		}
		return code
	}
	if len(links) == 0 {
		if code == exitOK {
			fmt.Fprintln(stdout, "no CAN interfaces found")
		}
		return code
	}
	printLinks(stdout, links)
	return code
}

func canLinkOf(l *canbus.Link) canLink {
	out := canLink{
		Interface: l.Name, Kind: l.Kind, Up: l.Up, Clock: l.Clock, Termination: l.Termination,
		Traffic: canTraffic(l.Traffic), Timing: timingOf(l.Timing), DataTiming: timingOf(l.DataTiming),
	}
	out.Verdict, out.Reasons, out.Unseen = l.Judge()
	if l.HasState {
		out.State = l.State.String()
	}
	if l.HasCounters {
		out.TxErrors, out.RxErrors = &l.Tx, &l.Rx
	}
	if l.HasRestart {
		out.RestartMS = &l.RestartMS
	}
	if l.HasModes {
		out.Modes = l.ModeNames()
	}
	if l.HasCounts {
		c := canCounts(l.Counts)
		out.Counts = &c
	}
	return out
}

func timingOf(t *canbus.BitTiming) *canTiming {
	if t == nil {
		return nil
	}
	return &canTiming{
		t.Bitrate, float64(t.SamplePoint) / 1000, t.Quantum, t.PropSeg, t.PhaseSeg1, t.PhaseSeg2, t.SJW, t.Prescaler,
	}
}

func printLinks(w io.Writer, links []canbus.Link) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "IF\tKIND\tSTATE\tTX\tRX\tBITRATE\tVERDICT\tWHY")
	for i := range links {
		l := &links[i]
		state, tx, rx, rate := "-", "-", "-", "-"
		if l.HasState {
			state = l.State.String()
		}
		if l.HasCounters {
			tx, rx = fmt.Sprint(l.Tx), fmt.Sprint(l.Rx)
		}
		if l.Timing != nil {
			rate = fmt.Sprint(l.Timing.Bitrate)
		}
		verdict, reasons, unseen := l.Judge()
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.Name, orDash(l.Kind), state, tx, rx, rate, verdict,
			strings.Join(slices.Concat(reasons, unseen), "; "))
	}
	_ = t.Flush() // a terminal that is gone needs no report
}

// canError is one error frame as `can decode` writes it.
type canError struct {
	Time        time.Time `json:"time"`
	Interface   string    `json:"interface"`
	Classes     []string  `json:"classes"`
	Controller  []string  `json:"controller"`
	Protocol    []string  `json:"protocol"`
	Location    string    `json:"location"`
	Transceiver string    `json:"transceiver"`
	TxErrors    uint8     `json:"tx_errors"`
	RxErrors    uint8     `json:"rx_errors"`
	Arbitration *uint8    `json:"arbitration_bit,omitempty"`
}

func canErrorOf(l *canbus.Line, e *canbus.ErrorFrame) canError {
	out := canError{
		Time: l.Time, Interface: l.Interface, Classes: e.Class.Names(),
		Controller: e.Controller.Names(), Protocol: e.Protocol.Names(),
		TxErrors: e.TxErrors, RxErrors: e.RxErrors,
	}
	if e.Class&canbus.ClassProtocol != 0 {
		out.Location = e.Location.String()
	}
	if e.Class&canbus.ClassTransceiver != 0 {
		out.Transceiver = e.Transceiver.String()
	}
	if e.Class&canbus.ClassArbitrationLost != 0 {
		out.Arbitration = &e.Arbitration
	}
	return out
}

const maxCandumpLine = 4096

func canDecode(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	flags := newFlags("can decode", "[--json] [FILE]", canDecodeAbout, stderr)
	asJSON := flags.Bool("json", false, "one JSON object an error frame")
	if code, done := parse(flags, args, stdout); done {
		return code
	}
	in := stdin
	switch {
	case flags.NArg() > 1:
		fmt.Fprintf(stderr, "strata can decode: unexpected argument %q\n", flags.Arg(1))
		return exitUsage
	case flags.NArg() == 1 && flags.Arg(0) != "-":
		f, err := os.Open(flags.Arg(0))
		if err != nil {
			fmt.Fprintf(stderr, "strata can decode: %v\n", err)
			return exitFailure
		}
		defer f.Close()
		in = f
	}
	w := bufio.NewWriter(stdout)
	code := decodeCandump(ctx, in, w, *asJSON, stderr)
	if err := w.Flush(); err != nil {
		fmt.Fprintf(stderr, "strata can decode: write: %v\n", err)
		return exitFailure
	}
	return code
}

func decodeCandump(ctx context.Context, in io.Reader, w *bufio.Writer, asJSON bool, stderr io.Writer) int {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 0, maxCandumpLine), maxCandumpLine)
	out := json.NewEncoder(w)
	code, n := exitOK, 0
	for lines.Scan() && ctx.Err() == nil {
		n++
		if strings.TrimSpace(lines.Text()) == "" {
			continue
		}
		l, err := canbus.ParseLine(lines.Text())
		var e canbus.ErrorFrame
		if err == nil {
			e, err = canbus.DecodeError(&l.Frame)
		}
		if errors.Is(err, canbus.ErrNoErrorFrame) {
			continue
		}
		if err != nil {
			fmt.Fprintf(stderr, "strata can decode: line %d: %v\n", n, err)
			code = exitFailure
			continue
		}
		record := canErrorOf(&l, &e)
		if asJSON {
			err = out.Encode(record)
		} else {
			_, err = fmt.Fprintf(w, "%s %s %s controller=%s protocol=%s location=%s transceiver=%s tx=%d rx=%d\n",
				record.Time.Format(time.RFC3339Nano), record.Interface, strings.Join(record.Classes, "+"),
				orDash(strings.Join(record.Controller, "+")), orDash(strings.Join(record.Protocol, "+")),
				orDash(record.Location), orDash(record.Transceiver), record.TxErrors, record.RxErrors)
		}
		if err != nil {
			fmt.Fprintf(stderr, "strata can decode: write: %v\n", err)
			return exitFailure
		}
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintf(stderr, "strata can decode: line %d: %v\n", n+1, err)
		return exitFailure
	}
	return code
}
