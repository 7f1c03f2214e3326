//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/strata-edge/strata/cmd/strata-lab/internal/guest/wire"
)

// keep is how much of each output stream is held for the host.
const keep = 256 << 10

// tail keeps the last bytes written to it.
type tail struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b.Write(p)
	if over := t.b.Len() - keep; over > 0 {
		t.b.Next(over)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

type process struct {
	cmd      *exec.Cmd
	out, err tail
	done     chan struct{} // closed once Wait has returned
	ended    error
}

func (m *machine) do(q wire.Request) wire.Reply {
	var r wire.Reply
	var err error
	limit := time.Duration(q.Millis) * time.Millisecond
	switch q.Op {
	case wire.OpExec:
		r, err = run(q.Args, q.Env, limit)
	case wire.OpStart:
		r.PID, err = m.start(q)
	case wire.OpOutput, wire.OpStop:
		p, ok := m.processes[q.Name]
		if !ok {
			err = fmt.Errorf("no process %q", q.Name)
			break
		}
		if q.Op == wire.OpStop {
			r.Code = p.stop(limit)
			delete(m.processes, q.Name)
		}
		r.Out, r.Err = p.out.String(), p.err.String()
	case wire.OpRead:
		var b []byte
		b, err = os.ReadFile(q.Args[0])
		r.Out = string(b)
	case wire.OpWrite:
		err = os.WriteFile(q.Args[0], []byte(q.Data), 0o600)
	case wire.OpSLCAN:
		r.Out, err = m.openSLCAN()
	case wire.OpSend:
		a, ok := m.adapters[q.Name]
		if !ok {
			err = fmt.Errorf("no slcan adapter %q", q.Name)
			break
		}
		err = a.send(q.Data)
	case wire.OpLink:
		r.Out, err = linkState(q.Name)
	case wire.OpPrograms:
		r.Programs, err = programs()
	case wire.OpTraffic:
		err = traffic(q.Data, q.Count, limit)
	default:
		err = fmt.Errorf("unknown operation %q", q.Op)
	}
	if err != nil {
		r.Error = err.Error()
	}
	return r
}

func run(args, env []string, limit time.Duration) (wire.Reply, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var out, errs tail
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Env = append(os.Environ(), env...)
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	r := wire.Reply{Out: out.String(), Err: errs.String(), Code: cmd.ProcessState.ExitCode()}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return r, fmt.Errorf("%s did not end within %v", args[0], limit)
	case errors.As(err, &exit):
		return r, nil
	}
	return r, err
}

func (m *machine) start(q wire.Request) (int, error) {
	if _, ok := m.processes[q.Name]; ok {
		return 0, fmt.Errorf("process %q runs already", q.Name)
	}
	p := &process{cmd: exec.Command(q.Args[0], q.Args[1:]...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.err
	p.cmd.Env = append(os.Environ(), q.Env...)
	if err := p.cmd.Start(); err != nil {
		return 0, err
	}
	go func() {
		p.ended = p.cmd.Wait()
		close(p.done)
	}()
	m.processes[q.Name] = p
	return p.cmd.Process.Pid, nil
}

// stop ends the process and gives its exit code, -1 when it had to be killed.
func (p *process) stop(limit time.Duration) int {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(limit):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	return p.cmd.ProcessState.ExitCode()
}

// traffic makes count connections, one after another, and writes a little into each.
func traffic(address string, count int, limit time.Duration) error {
	end := time.Now().Add(limit)
	payload := bytes.Repeat([]byte("strata lab "), 10)
	for range count {
		c, err := net.DialTimeout("tcp", address, time.Until(end))
		if err != nil {
			return err
		}
		_ = c.SetDeadline(end)
		_, err = c.Write(payload)
		if err == nil {
			_, err = io.CopyN(io.Discard, c, int64(len(payload)))
		}
		c.Close()
		if err != nil {
			return fmt.Errorf("talk to %s: %w", address, err)
		}
	}
	return nil
}
