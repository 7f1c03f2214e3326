// Strata-lab breaks things on purpose and checks what strata says about them. It drives
// the built program; nothing of it runs on a device.
//
//	strata-lab demo     a site of network namespaces, one fault after another
//	strata-lab record   the same, many times, as labelled rows for the model
//	strata-lab smoke    an ARM64 guest with a disk and a CAN bus that fail
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/strata-edge/strata/cmd/strata-lab/internal/guest"
	"github.com/strata-edge/strata/cmd/strata-lab/internal/host"
)

const usage = `usage: strata-lab COMMAND [flags]

  demo     break a site of network namespaces in many ways and see what strata says
  record   play many such runs and write labelled rows for the model
  smoke    boot an ARM64 guest, break its disk and CAN bus and see what strata says

strata-lab COMMAND -h lists the flags.
`

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return 2
	}
	if args[0] == "node" { // a part of a stage; it ends with its standard input
		signal.Ignore(syscall.SIGINT)
		return host.Node(context.Background(), stdin, stdout)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	switch args[0] {
	case "demo":
		return host.Demo(ctx, args[1:], stdout, stderr)
	case "record":
		return host.Record(ctx, args[1:], stdout, stderr)
	case "smoke":
		return guest.Command(ctx, args[1:], stdout, stderr)
	case "help", "-h", "--help":
		fmt.Fprint(stdout, usage)
		return 0
	}
	fmt.Fprintf(stderr, "strata-lab: unknown command %q\n%s", args[0], usage)
	return 2
}
