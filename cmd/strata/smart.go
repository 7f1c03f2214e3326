package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/strata-edge/strata/smart"
)

const smartAbout = `What drives say of their own health: ATA SMART, the NVMe health log, the wear of eMMC
and UFS. Without DEV, every drive of this device. A drive that sleeps is left asleep.
SATA needs CAP_SYS_RAWIO, NVMe CAP_SYS_ADMIN; eMMC needs no privilege.

The verdict is healthy, watch (look at it), failing (replace it), failed (the drive says
so itself) or unknown (could not be judged, which is not good news).

  strata smart                          a table of all drives
  strata smart --json /dev/nvme0        one JSON object a drive, with smartctl -j's keys
  strata smart decode --json --nvme-health log02.bin
                                        raw pages from files; "-" reads stdin

Exit code: 0 read, 1 a drive could not be read or a page is damaged, 2 usage.`

const smartDecodeAbout = `Decodes raw pages that a tool saved. A page of a wrong length or with a wrong checksum
gives an object with "error" and exit code 1. "-" reads a page from stdin.`

// smartGiveUp bounds the wait for drives that hang; ioctls have time-outs of their own.
const smartGiveUp = 30 * time.Second

func smartCommand(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "decode" {
		return smartDecode(args[1:], stdin, stdout, stderr)
	}
	flags := newFlags("smart", "[--json] [DEV…] | decode --json [FLAGS]", smartAbout, stderr)
	asJSON := flags.Bool("json", false, "one JSON object a drive")
	if code, done := parse(flags, args, stdout); done {
		return code
	}
	devices, err := smart.Discover(os.DirFS("/sys"))
	if err != nil {
		fmt.Fprintf(stderr, "strata smart: %v\n", err)
		return exitFailure
	}
	named := flags.NArg() > 0
	code := exitOK
	if named {
		if devices, err = pickDrives(devices, flags.Args()); err != nil {
			fmt.Fprintf(stderr, "strata smart: %v\n", err)
			return exitFailure
		}
	}
	healths, errs := readDrives(ctx, devices)
	for i, err := range errs {
		// A drive that cannot say anything is a failure only for whoever asked for it.
		if err != nil && !smart.IsAsleep(err) && (named || devices[i].Blind == "") {
			fmt.Fprintf(stderr, "strata smart: %v\n", err)
			code = exitFailure
		}
	}
	if *asJSON {
		out := json.NewEncoder(stdout)
		for i := range healths {
			if err := out.Encode(healths[i].Report()); err != nil {
				fmt.Fprintf(stderr, "strata smart: write: %v\n", err)
				return exitFailure
			}
		}
		return code
	}
	if len(healths) == 0 {
		fmt.Fprintln(stdout, "no drives found")
		return code
	}
	printDrives(stdout, healths)
	return code
}

// pickDrives finds the drives that the arguments name: "/dev/sda", "sda", a namespace
// ("/dev/nvme0n1") or a link to one of them.
func pickDrives(all []smart.Device, names []string) ([]smart.Device, error) {
	var out []smart.Device
	for _, n := range names {
		if p, err := filepath.EvalSymlinks(n); err == nil {
			n = p
		}
		n = filepath.Base(n)
		i := slices.IndexFunc(all, func(d smart.Device) bool { return d.Name == n || slices.Contains(d.Blocks, n) })
		if i < 0 {
			return nil, fmt.Errorf("%s: no such drive", n)
		}
		out = append(out, all[i])
	}
	return out, nil
}

// readDrives reads all drives side by side, so that one that hangs holds up no other.
func readDrives(ctx context.Context, devices []smart.Device) ([]smart.Health, []error) {
	type result struct {
		i      int
		health smart.Health
		err    error
	}
	healths, errs := make([]smart.Health, len(devices)), make([]error, len(devices))
	results := make(chan result, len(devices))
	reader := smart.NewReader()
	for i, d := range devices {
		healths[i] = smart.Health{Device: d, Model: d.Model, Serial: d.Serial, Verdict: smart.Unknown}
		errs[i] = fmt.Errorf("%s: no answer after %s", d.Name, smartGiveUp)
		go func() {
			h, err := reader.Read(d)
			results <- result{i, h, err}
		}()
	}
	ctx, cancel := context.WithTimeout(ctx, smartGiveUp)
	defer cancel()
	for range devices {
		select {
		case r := <-results:
			healths[r.i], errs[r.i] = r.health, r.err
		case <-ctx.Done():
			return healths, errs
		}
	}
	return healths, errs
}

func printDrives(w io.Writer, healths []smart.Health) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "DRIVE\tMODEL\tSERIAL\tVERDICT\tTEMP\tHOURS\tUSED\tWHY")
	for i := range healths {
		h := &healths[i]
		temp, hours, used := "-", "-", "-"
		if v, ok := h.Temperature(); ok {
			temp = fmt.Sprintf("%d °C", v)
		}
		if v, ok := h.PowerOnHours(); ok {
			hours = fmt.Sprint(v)
		}
		if v, ok := h.Used(); ok {
			used = fmt.Sprintf("%d %%", v)
		}
		var why []string
		for _, r := range slices.Concat(h.Reasons, h.Unseen) {
			why = append(why, r.Text)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", h.Device.Name, orDash(h.Model), orDash(h.Serial), h.Verdict,
			temp, hours, used, strings.Join(why, "; "))
	}
	_ = t.Flush() // a terminal that is gone needs no report
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func smartDecode(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	flags := newFlags("smart decode", "[--json] FLAGS", smartDecodeAbout, stderr)
	asJSON := flags.Bool("json", false, "one JSON object with smartctl -j's keys")
	var p smart.Pages
	var errs []error
	for _, f := range [...]struct {
		name, help string
		into       *[]byte
	}{
		{"identify", "ATA IDENTIFY DEVICE `file`, 512 bytes", &p.Identify},
		{"data", "ATA SMART READ DATA `file`, 512 bytes", &p.Data},
		{"thresholds", "ATA SMART READ THRESHOLDS `file`, 512 bytes", &p.Thresholds},
		{"nvme-identify", "NVMe Identify Controller `file`, 4096 bytes", &p.NVMeIdentify},
		{"nvme-health", "NVMe log page 02h `file`, 512 bytes", &p.NVMeHealth},
		{"nvme-errors", "NVMe log page 01h `file`, whole entries of 64 bytes", &p.NVMeErrs},
	} {
		flags.Func(f.name, f.help, func(name string) error {
			b, err := readPage(name, stdin)
			if err != nil {
				errs = append(errs, fmt.Errorf("read %s page: %w", f.name, err))
			}
			*f.into = b
			return nil
		})
	}
	if code, done := parse(flags, args, stdout); done {
		return code
	}
	pages := 0
	flags.Visit(func(f *flag.Flag) {
		if f.Name != "json" {
			pages++
		}
	})
	if pages == 0 || flags.NArg() > 0 {
		fmt.Fprintln(stderr, "strata smart decode: name at least one page, each by its flag; see --help")
		return exitUsage
	}
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintf(stderr, "strata smart decode: %v\n", err)
		return exitFailure
	}
	report, err := p.Decode()
	var bad *smart.PageError
	switch {
	case errors.As(err, &bad) && *asJSON:
		err = json.NewEncoder(stdout).Encode(struct {
			Error string `json:"error"`
			Page  string `json:"page"`
			Fault string `json:"fault"`
		}{bad.Error(), bad.Page, bad.Fault})
		if err != nil {
			fmt.Fprintf(stderr, "strata smart decode: write: %v\n", err)
		}
		return exitFailure
	case err != nil:
		fmt.Fprintf(stderr, "strata smart decode: %v\n", err)
		return exitFailure
	}
	out := json.NewEncoder(stdout)
	if !*asJSON {
		out.SetIndent("", "  ")
	}
	if err := out.Encode(report); err != nil {
		fmt.Fprintf(stderr, "strata smart decode: write: %v\n", err)
		return exitFailure
	}
	return exitOK
}

// maxPage is more than any page has, so that a wrong length is seen and named.
const maxPage = 1 << 20

func readPage(name string, stdin io.Reader) ([]byte, error) {
	in := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if st, err := f.Stat(); err == nil && st.IsDir() {
			return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("is a folder")}
		}
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxPage))
	if b == nil {
		b = []byte{}
	}
	return b, err
}
