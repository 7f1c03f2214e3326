package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// session is a stage at work with the program under test on its gateway.
type session struct {
	stage  *Stage
	strata *Strata
	board  *Board
	dir    string // logs, state and the truth
	truth  *os.File
}

// openSession brings a plan up, starts strata and, when it has reached the broker, the clients.
func openSession(ctx context.Context, p *Plan, program, dir, rows string) (*session, error) {
	s := &session{board: new(Board), dir: dir}
	var err error
	if s.truth, err = os.Create(filepath.Join(dir, "truth.jsonl")); err != nil {
		return nil, fmt.Errorf("open a session: %w", err)
	}
	nodeLog, err := os.Create(filepath.Join(dir, "nodes.log"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open a session: %w", err), s.truth.Close())
	}
	if s.stage, err = Open(ctx, p, nodeLog, s.board.Receive); err != nil {
		return nil, errors.Join(err, s.truth.Close(), nodeLog.Close())
	}
	if err := s.stage.site.owns(dir); err != nil {
		return nil, errors.Join(err, s.close())
	}
	if s.strata, err = s.stage.RunStrata(ctx, program, dir, rows); err != nil {
		return nil, errors.Join(err, s.close())
	}
	for deadline := time.Now().Add(10 * time.Second); s.board.Messages() == 0; {
		if time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("strata did not reach the broker in 10 s: %s", s.logTail()), s.close())
		}
		if err := s.wait(ctx, 50*time.Millisecond); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	if err := s.stage.Start(); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// close stops strata first, so that the last thing it sees is a site at work.
func (s *session) close() error {
	var err error
	if s.strata != nil {
		err = s.strata.Stop()
	}
	return errors.Join(err, s.stage.Close(), s.truth.Close(), s.board.Err())
}

// wait lets time pass, and fails as soon as the stage or strata breaks.
func (s *session) wait(ctx context.Context, d time.Duration) error {
	var dead <-chan struct{}
	if s.strata != nil {
		dead = s.strata.Dead()
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case err := <-s.stage.Trouble():
		return err
	case <-dead:
		return fmt.Errorf("strata has ended: %s", s.logTail())
	case <-time.After(d):
		return nil
	}
}

// logTail gives the end of what strata printed.
func (s *session) logTail() string {
	b, err := os.ReadFile(filepath.Join(s.dir, "strata.log"))
	if err != nil {
		return err.Error()
	}
	b = b[max(0, len(b)-600):]
	return strings.TrimSpace(string(b))
}

// note appends a line to the truth.
func (s *session) note(what string, fields map[string]any) error {
	fields["time"], fields["what"] = time.Now().UTC(), what
	b, err := json.Marshal(fields)
	if err == nil {
		_, err = s.truth.Write(append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write the truth: %w", err)
	}
	return nil
}

// episode is one fault from injection to recovery.
type episode struct {
	fault     *Fault
	effect    Effect
	shown     time.Time // when the effect was seen to be there; zero: never
	cleared   time.Time
	recovered time.Time
}

// pace says how long a fault is held.
type pace struct {
	limit  time.Duration // for the effect to show, and from symptom to claim
	linger time.Duration // after the claim, for what else is said
	hold   time.Duration // where not 0: so long after the effect has shown, whatever is claimed
}

// run does one scenario: inject, hold, clear, recover.
func (s *session) run(ctx context.Context, sc *Scenario, r *rand.Rand, pc pace) (*episode, error) {
	f, err := sc.Inject(ctx, s.stage, r)
	if err != nil {
		return nil, err
	}
	e := &episode{fault: f}
	if err := s.note("onset", map[string]any{"scenario": sc.Name, "detail": f.Detail, "causes": sc.Causes,
		"scopes": f.Scopes, "onset": f.Onset.UTC()}); err != nil {
		return nil, errors.Join(err, f.Clear(ctx))
	}
	err = s.hold(ctx, e, pc)
	// The fault is undone even where the run is being given up.
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	if err = errors.Join(err, f.Clear(undo)); err != nil {
		return nil, err
	}
	e.cleared = time.Now()
	if err := s.recover(ctx, e, pc.hold == 0); err != nil {
		return nil, err
	}
	return e, s.note("recovered", map[string]any{"scenario": sc.Name, "effect": e.effect.What, "shown": e.shown.UTC(),
		"first": e.effect.First.UTC(), "cleared": e.cleared.UTC(), "recovered": e.recovered.UTC()})
}

// hold waits for the effect and for a claim.
func (s *session) hold(ctx context.Context, e *episode, pc pace) error {
	for {
		eff, err := e.fault.Effect()
		if err != nil {
			return err
		}
		e.effect = eff
		if eff.Shown && e.shown.IsZero() {
			e.shown = time.Now()
		}
		now := time.Now()
		switch {
		case e.shown.IsZero():
			if now.Sub(e.fault.Onset) > pc.limit {
				return nil
			}
		case pc.hold > 0:
			if now.Sub(e.shown) >= pc.hold {
				return nil
			}
		default:
			claims := s.board.Claims(e.fault.Onset)
			if len(claims) > 0 && now.Sub(claims[0].At) >= pc.linger || now.Sub(eff.First) > pc.limit+time.Second {
				return nil
			}
		}
		if err := s.wait(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

// The bounds of a recovery.
const (
	recoverAtLeast = 3 * time.Second
	recoverAtMost  = 30 * time.Second
)

// recover waits until the clients are well again and, where resolved is set, until the
// findings of the fault are resolved.
func (s *session) recover(ctx context.Context, e *episode, resolved bool) error {
	well := false
	for {
		if err := s.wait(ctx, 250*time.Millisecond); err != nil {
			return err
		}
		since := time.Since(e.cleared)
		last := time.Now().Add(-recoverAtLeast)
		bad := s.stage.Log.Ended(last, func(o Op) bool { return o.Class != classOK })
		if !well && len(bad) == 0 && since >= recoverAtLeast {
			well = true
			e.recovered = time.Now()
		}
		open := 0
		for _, c := range s.board.Claims(e.fault.Onset) {
			if c.Over.IsZero() {
				open++
			}
		}
		if well && (open == 0 || !resolved) || since > recoverAtMost {
			if !well {
				return fmt.Errorf("%s: the clients did not recover in %s: %s", e.fault.Scenario.Name, recoverAtMost, summary(last, bad).What)
			}
			return nil
		}
	}
}

// workDir makes the folder of a run, and says how to remove it.
func workDir(keep string) (string, func(), error) {
	if keep != "" {
		if err := os.MkdirAll(keep, 0o755); err != nil {
			return "", nil, fmt.Errorf("make %s: %w", keep, err)
		}
		return keep, func() {}, nil
	}
	dir, err := os.MkdirTemp("", tempPrefix)
	if err != nil {
		return "", nil, fmt.Errorf("make a folder for the run: %w", err)
	}
	return dir, func() { _ = os.RemoveAll(dir) }, nil
}

// findStrata gives the path of the program under test.
func findStrata(flag string) (string, error) {
	list := []string{flag}
	if flag == "" {
		list = []string{filepath.Join("build", "strata")}
		if self, err := os.Executable(); err == nil {
			list = append(list, filepath.Join(filepath.Dir(self), "strata"))
		}
	}
	for _, p := range list {
		if st, err := os.Stat(p); err == nil && !st.IsDir() {
			return filepath.Abs(p)
		}
	}
	return "", fmt.Errorf("no strata at %s: make build makes it, --strata names another", strings.Join(list, " or "))
}

// ready checks what a run needs and removes what a killed one left.
func ready(ctx context.Context, out io.Writer) error {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root")
	}
	n, err := Sweep(ctx)
	if n > 0 {
		fmt.Fprintf(out, "removed %d namespaces that a killed run had left\n", n)
	}
	return err
}
