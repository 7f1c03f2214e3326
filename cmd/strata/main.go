// Command strata is the diagnostic service of a gateway or T-Box: it says which layer is
// at fault and why, on the device. Run `strata help` for its subcommands.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/strata-edge/strata/buffer"
)

// Exit codes of every subcommand.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// command is one subcommand; it writes results to stdout and errors to stderr.
type command struct {
	name, args, help string
	run              func(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int
}

func commands() []command {
	return []command{
		{"run", "[flags]", "watch this device and report findings", runCommand},
		{"replay", "FILE [flags]", "push a capture through the same programs", replayCommand},
		{"findings", "[flags]", "what the buffer holds", findingsCommand},
		{"smart", "[flags] [DEV…]", "drive health; `smart decode` for raw pages", smartCommand},
		{"can", "[flags] [IF…]", "CAN bus health; `can decode` for error frames", canCommand},
		{"matrix", "lint|map", "check rule files; map JSON records to events", matrixCommand},
		{"model", "info|verify", "the learnt model", modelCommand},
		{"selftest", "[--json]", "what this kernel and device can give", selftestCommand},
		{"version", "[--json]", "version, feature schema, model", versionCommand},
		{"wipe", "--yes", "delete Strata's state on this device", wipeCommand},
	}
}

func main() {
	// The buffer checks its file in a child process, which is this binary again.
	if handled, code := buffer.CheckMain(os.Args[1:]); handled {
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second Ctrl-C ends the program the hard way.
	context.AfterFunc(ctx, stop)
	code := dispatch(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func dispatch(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		usage(stderr)
		return exitUsage
	}
	switch args[0] {
	case "--version":
		return versionCommand(ctx, args[1:], stdin, stdout, stderr)
	case "help", "-h", "-help", "--help":
		if len(args) > 1 {
			return dispatch(ctx, []string{args[1], "--help"}, stdin, stdout, stderr)
		}
		usage(stdout)
		return exitOK
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return c.run(ctx, args[1:], stdin, stdout, stderr)
		}
	}
	fmt.Fprintf(stderr, "strata: unknown command %q; `strata help` lists them\n", args[0])
	return exitUsage
}

func usage(w io.Writer) {
	fmt.Fprint(w, "Strata says which layer of a device's communication is at fault and why.\n\nusage: strata COMMAND [flags]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-9s %-16s %s\n", c.name, c.args, c.help)
	}
	fmt.Fprint(w, "\n`strata COMMAND --help` explains one. Errors go to stderr; exit 2 means wrong usage, 1 a failure.\n")
}
