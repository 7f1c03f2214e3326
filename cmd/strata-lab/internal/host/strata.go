package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Strata is the program under test, running on the gateway.
type Strata struct {
	cmd  *exec.Cmd
	log  *os.File
	done chan struct{}
	err  error // valid once done is closed
	kill context.CancelFunc
}

// inGateway starts a program with the trace file system that a namespace's own /sys hides.
const inGateway = `mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null; exec "$@"`

// RunStrata starts the program on the stage's gateway. Its state, output and log go to
// dir; its feature rows to rows where that is not empty.
func (st *Stage) RunStrata(ctx context.Context, program, dir, rows string) (*Strata, error) {
	log, err := os.Create(filepath.Join(dir, "strata.log"))
	if err != nil {
		return nil, fmt.Errorf("start strata: %w", err)
	}
	state := filepath.Join(dir, "state")
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, errors.Join(fmt.Errorf("start strata: %w", err), log.Close())
	}
	ctx, kill := context.WithCancel(ctx)
	args := []string{"netns", "exec", st.site.space(roleGateway), "sh", "-c", inGateway, "sh", program, "run",
		"--interfaces", portLAN + "," + portWAN, "--state", state, "--mqtt", st.BrokerURL(), "--device", "lab", "--json"}
	if rows != "" {
		args = append(args, "--rows", rows)
	}
	s := &Strata{cmd: exec.CommandContext(ctx, "ip", args...), log: log, done: make(chan struct{}), kill: kill}
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(syscall.SIGTERM) }
	s.cmd.WaitDelay = 10 * time.Second
	if err := s.cmd.Start(); err != nil {
		kill()
		return nil, errors.Join(fmt.Errorf("start strata: %w", err), log.Close())
	}
	go func() {
		defer close(s.done)
		s.err = s.cmd.Wait()
	}()
	return s, nil
}

// Dead closes when the program has ended.
func (s *Strata) Dead() <-chan struct{} { return s.done }

// Stop asks the program to end and waits for it. It fails where the program had ended
// before or did not end well.
func (s *Strata) Stop() error {
	var early error
	select {
	case <-s.done:
		early = fmt.Errorf("strata ended by itself: %w", errors.Join(s.err, errors.New("see "+s.log.Name())))
	default:
	}
	s.kill()
	<-s.done
	_ = s.log.Close()
	if early != nil {
		return early
	}
	if s.err != nil && s.cmd.ProcessState.ExitCode() != 0 {
		return fmt.Errorf("strata did not end well: %w (see %s)", s.err, s.log.Name())
	}
	return nil
}
