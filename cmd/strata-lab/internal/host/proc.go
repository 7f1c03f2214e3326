package host

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// answerTime bounds how long a node may take for an order.
const answerTime = 10 * time.Second

// proc is a node process as the lab sees it.
type proc struct {
	role string
	cmd  *exec.Cmd
	in   io.WriteCloser
	done chan struct{}

	mu      sync.Mutex
	next    int
	waiting map[int]chan note
	broken  error
}

// startNode starts this binary as a node inside a role's namespace. Operations and
// messages go to hear, from one goroutine.
func (s *site) startNode(role string, stderr io.Writer, hear func(role string, v note)) (*proc, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start node %s: find this program: %w", role, err)
	}
	p := &proc{role: role, done: make(chan struct{}), waiting: map[int]chan note{}}
	p.cmd = exec.Command("ip", "netns", "exec", s.space(role), self, "node")
	p.cmd.Env = append(os.Environ(), nodeEnv+"=1")
	p.cmd.Stderr = stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start node %s: %w", role, err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start node %s: %w", role, err)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start node %s: %w", role, err)
	}
	go func() {
		defer close(p.done)
		err := p.listen(out, hear)
		if e := p.cmd.Wait(); e != nil {
			err = e
		}
		p.fail(err)
	}()
	return p, nil
}

// nodeEnv tells a test binary that it is to be a node.
const nodeEnv = "STRATA_LAB_NODE"

func (p *proc) listen(out io.Reader, hear func(string, note)) error {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var v note
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			return fmt.Errorf("node %s: read what it says: %w", p.role, err)
		}
		if v.ID == 0 {
			hear(p.role, v)
			continue
		}
		p.mu.Lock()
		c := p.waiting[v.ID]
		delete(p.waiting, v.ID)
		p.mu.Unlock()
		if c != nil {
			c <- v
		}
	}
	return lines.Err()
}

func (p *proc) fail(err error) {
	if err == nil {
		err = io.EOF
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = err
	for id, c := range p.waiting {
		c <- note{Err: fmt.Sprintf("node ended: %v", err)}
		delete(p.waiting, id)
	}
}

// do gives an order and waits for the answer.
func (p *proc) do(o order) (note, error) {
	p.mu.Lock()
	if p.broken != nil {
		defer p.mu.Unlock()
		return note{}, fmt.Errorf("node %s: %s: %w", p.role, o.Do, p.broken)
	}
	p.next++
	o.ID = p.next
	c := make(chan note, 1)
	p.waiting[o.ID] = c
	b, err := json.Marshal(o)
	if err == nil {
		_, err = p.in.Write(append(b, '\n'))
	}
	p.mu.Unlock()
	if err != nil {
		return note{}, fmt.Errorf("node %s: %s: %w", p.role, o.Do, err)
	}
	select {
	case v := <-c:
		if v.Err != "" {
			return v, fmt.Errorf("node %s: %s: %w", p.role, o.Do, errors.New(v.Err))
		}
		return v, nil
	case <-time.After(answerTime):
		return note{}, fmt.Errorf("node %s: %s: no answer in %s", p.role, o.Do, answerTime)
	}
}

// stop closes the node's input, which ends it, and waits; a node that does not end is killed.
func (p *proc) stop() {
	_ = p.in.Close()
	select {
	case <-p.done:
	case <-time.After(3 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}
