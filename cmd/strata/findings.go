package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/strata-edge/strata/buffer"
	"github.com/strata-edge/strata/edge/diag"
)

const findingsAbout = `Prints the findings that the buffer holds, oldest first, and the last ones that were
delivered while the service runs. It asks the service through a socket in the state
folder, or reads the buffer itself when no service runs; it needs the right to read that
folder. With --json one finding is one line.`

func findingsCommand(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	fs := newFlags("findings", "[--json] [--follow] [--state DIR]", findingsAbout, stderr)
	asJSON := fs.Bool("json", false, "one JSON object a line")
	follow := fs.Bool("follow", false, "go on with new findings until interrupted")
	state := fs.String("state", "/var/lib/strata", "the state folder of the service")
	if code, done := parse(fs, args, stdout); done {
		return code
	}
	if fs.NArg() > 0 {
		fmt.Fprintf(stderr, "strata findings: unexpected argument %q\n", fs.Arg(0))
		return exitUsage
	}
	if err := showFindings(ctx, *state, *follow, *asJSON, stdout); err != nil {
		fmt.Fprintf(stderr, "strata findings: %v\n", err)
		return exitFailure
	}
	return exitOK
}

func showFindings(ctx context.Context, dir string, follow, asJSON bool, stdout io.Writer) error {
	if st, err := os.Stat(dir); err != nil {
		return fmt.Errorf("state folder: %w", err)
	} else if !st.IsDir() {
		return fmt.Errorf("state folder %s: not a folder", dir)
	}
	out := bufio.NewWriter(stdout)
	err := buffer.View(ctx, dir, follow, buffer.SelfCheck(), func(it buffer.Item) error {
		if err := showItem(out, it, asJSON); err != nil || !follow {
			return err
		}
		return out.Flush()
	})
	if ferr := out.Flush(); err == nil {
		err = ferr
	}
	return err
}

func showItem(w io.Writer, it buffer.Item, asJSON bool) error {
	var f diag.Finding
	if err := json.Unmarshal(it.Payload, &f); err != nil {
		return fmt.Errorf("decode finding: %w", err)
	}
	redate(&f, it.Shift)
	if asJSON {
		return printJSON(w, &f)
	}
	printText(w, &f)
	return nil
}

// redate moves a finding's wall times by what the clock's late sync has shown.
func redate(f *diag.Finding, shift time.Duration) {
	if shift == 0 {
		return
	}
	for _, t := range []*time.Time{&f.Time, &f.First, &f.Last} {
		if !t.IsZero() {
			*t = t.Add(shift)
		}
	}
	for i := range f.Chain {
		f.Chain[i].Time = f.Chain[i].Time.Add(shift)
	}
}
