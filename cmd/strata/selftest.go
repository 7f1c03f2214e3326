package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/strata-edge/strata/edge/agent"
)

const selftestAbout = `Says what this kernel and device can give: kernel programs, buffer, rules, model, drives,
CAN buses, clock. Takes a few seconds and watches nothing. Exits 1 where a part is missing
that Strata cannot do without; an updater asks this before it keeps a new version.`

func selftestCommand(_ context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	fs := newFlags("selftest", "[--json]", selftestAbout, stderr)
	asJSON := fs.Bool("json", false, "as one JSON object a line")
	file := fs.String("c", "", "configuration `file`")
	if code, done := parseBare(fs, args, stdout, stderr); done {
		return code
	}
	cfg, err := readConfig(*file)
	if err != nil {
		fmt.Fprintf(stderr, "strata selftest: %v\n", err)
		return exitUsage
	}
	code := exitOK
	for _, c := range agent.SelfTest(cfg) {
		if !c.OK && c.Needed {
			code = exitFailure
		}
		if *asJSON {
			b, err := json.Marshal(c)
			if err != nil {
				fmt.Fprintf(stderr, "strata selftest: %v\n", err)
				return exitFailure
			}
			fmt.Fprintf(stdout, "%s\n", b)
			continue
		}
		mark := "ok"
		switch {
		case !c.OK && c.Needed:
			mark = "MISSING"
		case !c.OK:
			mark = "absent"
		}
		fmt.Fprintf(stdout, "%-8s %-16s %s\n", mark, c.Name, c.Detail)
	}
	return code
}
