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
	switch err := checkHere(args[1]); {
	case err == nil:
		return true, exitOK
	case errors.Is(err, errLocked):
		return true, exitLocked
	default:
		fmt.Println(err)
		return true, exitDamaged
	}
}

// checkFile has the file checked, by a child where there is a command for it.
func checkFile(path string, command []string) error {
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
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%w: the check took more than %s", errDamaged, checkTimeout)
	case !errors.As(err, &exit):
		return checkHere(path) // there is no child to be had
	case exit.ExitCode() == exitLocked:
		return errLocked
	case exit.ExitCode() == exitDamaged:
		return fmt.Errorf("%w: %s", errDamaged, strings.TrimSpace(out.String()))
	default:
		return fmt.Errorf("%w: the check ended with %w", errDamaged, err)
	}
}

// checkHere opens the file read-only and walks its pages and records.
func checkHere(path string) error {
	return guard(func() error {
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
			return nil
		})
		if cerr := db.Close(); err == nil {
			err = cerr
		}
		return err
	})
}
