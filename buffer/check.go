package buffer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

const (
	checkArg     = "buffer-check-file"
	checkTimeout = 60 * time.Second // 64 MiB at 1 MiB/s, the slowest flash in use
	checkStack   = 16 << 20         // a page that points at itself must not eat the memory

	exitOK      = 0
	exitFail    = 1
	exitUsage   = 2 // also what a Go panic gives
	exitLocked  = 75
	exitDamaged = 76
)

// SelfCheck is the CheckCommand of a program whose main calls CheckMain.
func SelfCheck() []string { return []string{"/proc/self/exe", checkArg} }

// CheckMain does the child's part of Open when args (os.Args[1:]) ask for it. main calls
// it first of all and exits with code when handled.
func CheckMain(args []string) (handled bool, code int) {
	if len(args) == 0 || args[0] != checkArg {
		return false, 0
	}
	if len(args) != 2 {
		return true, exitUsage
	}
	debug.SetMaxStack(checkStack)
	// Should the check run away, the kernel is to end it and not the agent. Without
	// the right to say so it is only the less likely choice.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)
	held, err := checkHere(args[1])
	switch {
	case err == nil:
		fmt.Println(held.count[Urgent], held.count[Normal], held.bytes[Urgent], held.bytes[Normal])
		return true, exitOK
	case errors.Is(err, errLocked):
		return true, exitLocked
	default:
		fmt.Println(err)
		return true, exitDamaged
	}
}

// census is what a check has found in the file. A damaged page can hide records of which
// nothing but their number is left, in the bookkeeping.
type census struct {
	count [lanes]uint64
	bytes [lanes]int64
}

// checkFile has the file checked, by a child where there is a command for it.
func checkFile(path string, command []string) (held census, err error) {
	if len(command) == 0 {
		return checkHere(path)
	}
	ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], append(command[1:len(command):len(command)], path)...)
	var out bytes.Buffer
	cmd.Stdout = &out
	cmd.WaitDelay = time.Second
	cmd.Env = append(os.Environ(), "GOMEMLIMIT=16MiB", "GOMAXPROCS=1")
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		_, err := fmt.Fscan(&out, &held.count[Urgent], &held.count[Normal], &held.bytes[Urgent], &held.bytes[Normal])
		if err != nil {
			return held, fmt.Errorf("read the check's answer: %w", err)
		}
		return held, nil
	case ctx.Err() != nil:
		return held, fmt.Errorf("%w: the check took more than %s", errDamaged, checkTimeout)
	case !errors.As(err, &exit):
		return checkHere(path) // there is no child to be had
	case exit.ExitCode() == exitLocked:
		return held, errLocked
	case exit.ExitCode() == exitDamaged:
		return held, fmt.Errorf("%w: %s", errDamaged, strings.TrimSpace(out.String()))
	default:
		return held, fmt.Errorf("%w: the check ended with %w", errDamaged, err)
	}
}

// checkHere opens the file read-only and walks its pages and records.
func checkHere(path string) (held census, err error) {
	err = guard(func() error {
		db, err := bbolt.Open(path, 0o600, boltOptions(0, true))
		if errors.Is(err, berrors.ErrTimeout) {
			return errLocked
		}
		if err != nil {
			return err
		}
		err = db.View(func(t *bbolt.Tx) error {
			for err := range t.Check() {
				return err
			}
			held = tx{t}.count()
			return nil
		})
		if cerr := db.Close(); err == nil {
			err = cerr
		}
		return err
	})
	return held, err
}
