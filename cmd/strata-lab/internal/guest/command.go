package guest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/strata-edge/strata/cmd/strata-lab/internal/broker"
)

const about = `usage: strata-lab smoke [flags]

Boots an ARM64 gateway under QEMU with Debian's kernel, runs strata in it and makes its
hardware fail: an NVMe drive's critical warning, CAN controllers that go error-passive and
bus-off. Checks what strata reads and what a broker on this machine receives.
Exit 1 when any check is missed. make lab-smoke builds and fetches what it needs.
`

// Command is the subcommand smoke. It gives the exit code.
func Command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("strata-lab smoke", flag.ContinueOnError)
	fs.SetOutput(stderr)
	var im image
	fs.StringVar(&im.strata, "strata", "build/arm64/strata", "the ARM64 `binary` under test")
	fs.StringVar(&im.init, "init", "build/arm64/lab-init", "the guest's init `binary`, static ARM64")
	fs.StringVar(&im.ort, "ort", "build/lib/arm64/libonnxruntime.so.1", "ONNX Runtime for ARM64, a `file`; left out where it is missing")
	fs.StringVar(&im.kernel, "kernel", "", "`folder` with boot/ and lib/modules/ (default: what scripts/guest fetched)")
	fs.StringVar(&im.libs, "libs", "", "`folder` with the C libraries and smartctl (default: what scripts/guest fetched)")
	memory := fs.Int("memory", 1024, "the guest's memory in `MiB`")
	limit := fs.Duration("timeout", 8*time.Minute, "give up after this `time`")
	keep := fs.String("keep", "", "leave images and the console's log in this `folder`")
	fs.Usage = func() {
		fmt.Fprint(fs.Output(), about, "\n")
		fs.PrintDefaults()
	}
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil || fs.NArg() > 0 {
		return 2
	}
	ctx, cancel := context.WithTimeout(ctx, *limit)
	defer cancel()
	code, err := smoke(ctx, im, *memory, *keep, stdout)
	if err != nil {
		fmt.Fprintf(stderr, "strata-lab smoke: %v\n", err)
		return 1
	}
	return code
}

// smoke fills in the defaults, boots and checks.
func smoke(ctx context.Context, im image, memory int, dir string, out io.Writer) (int, error) {
	cache, err := cacheFolder()
	if err != nil {
		return 1, err
	}
	if im.kernel == "" {
		im.kernel = filepath.Join(cache, "guest", "kernel")
	}
	if im.libs == "" {
		im.libs = filepath.Join(cache, "guest", "libs")
	}
	if _, err := os.Stat(im.ort); err != nil {
		fmt.Fprintf(out, "without ONNX Runtime (%v): strata runs on its rules\n", err)
		im.ort = ""
	}
	if dir == "" {
		if dir, err = os.MkdirTemp("", "strata-smoke-"); err != nil {
			return 1, fmt.Errorf("make a folder for the guest: %w", err)
		}
		defer os.RemoveAll(dir)
	}
	b, err := broker.Start("127.0.0.1:0")
	if err != nil {
		return 1, err
	}
	defer b.Close()
	in := newInbox()
	listening, stopListening := context.WithCancel(ctx)
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		if err := broker.Subscribe(listening, b.URL(), "#", in.receive); err != nil && listening.Err() == nil {
			in.fault(fmt.Sprintf("the subscription ended: %v", err))
		}
	}()
	defer func() {
		stopListening()
		<-heard
	}()
	e, err := listenEcho()
	if err != nil {
		return 1, err
	}
	defer e.close()

	r := &report{out: out, start: time.Now()}
	m, err := boot(ctx, dir, im, memory)
	if err != nil {
		return 1, err
	}
	defer m.kill() // before e.close, which waits for the guest's connections
	s := &stage{m: m, in: in, r: r, broker: b.Addr(), echo: guestAddress(e.addr())}
	s.run(ctx)
	r.check(ctx, "power off", func(context.Context) (string, error) { return "", m.powerOff() })
	if bad := in.faults(); len(bad) > 0 {
		r.check(ctx, "messages arrive and are findings", func(context.Context) (string, error) { return "", errors.New(bad[0]) })
	}
	return r.end(), nil
}
