package host

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lockDir holds one locked file a live lab run: the kernel lets go of the lock when the
// run dies, however it dies, so a run whose lock can be had is a leftover.
const lockDir = "/run/strata-lab"

// netnsDir is where iproute2 keeps named namespaces.
const netnsDir = "/run/netns"

var spaceName = regexp.MustCompile(`^(sl[0-9a-z]{8})-[a-z0-9]+$`)

// tempPrefix begins the names of the folders that runs make for themselves.
const tempPrefix = "strata-lab-"

// owns notes in the lock that the run made a folder, for whoever has to tidy up after it.
func (s *site) owns(dir string) error {
	if _, err := s.lock.WriteString(dir); err != nil {
		return fmt.Errorf("note the folder of %s: %w", s.id, err)
	}
	return nil
}

// forsaken removes the folder of a killed run, if it noted one.
func (s *site) forsaken() error {
	b, err := os.ReadFile(s.lock.Name())
	if err != nil {
		return fmt.Errorf("read the lock of %s: %w", s.id, err)
	}
	dir := string(b)
	if filepath.Dir(dir) != filepath.Clean(os.TempDir()) || !strings.HasPrefix(filepath.Base(dir), tempPrefix) {
		return nil
	}
	return os.RemoveAll(dir)
}

// site is a set of namespaces with one prefix, and the lock that says they are in use.
type site struct {
	id     string
	lock   *os.File
	spaces []string
}

func newSite() (*site, error) {
	if err := os.MkdirAll(lockDir, 0o700); err != nil {
		return nil, fmt.Errorf("make %s: %w", lockDir, err)
	}
	const digits = "0123456789abcdefghijklmnopqrstuvwxyz"
	b := make([]byte, 8)
	if _, err := rand.Read(b); err != nil {
		return nil, fmt.Errorf("draw a run's name: %w", err)
	}
	for i := range b {
		b[i] = digits[int(b[i])%len(digits)]
	}
	id := "sl" + string(b)
	f, err := lock(id)
	if err != nil {
		return nil, err
	}
	return &site{id: id, lock: f}, nil
}

var errHeld = errors.New("held by a live run")

// lock takes the lock of a run; errHeld where the run lives.
func lock(id string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(lockDir, id), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of %s: %w", id, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", id, errHeld)
		}
		return nil, fmt.Errorf("lock %s: %w", id, err)
	}
	return f, nil
}

// add makes a namespace with its loopback up.
func (s *site) add(ctx context.Context, role string) error {
	name := s.space(role)
	if err := command(ctx, "", "ip", "netns", "add", name); err != nil {
		return err
	}
	s.spaces = append(s.spaces, name)
	return command(ctx, "", "ip", "-n", name, "link", "set", "lo", "up")
}

// space gives the name of a role's namespace.
func (s *site) space(role string) string { return s.id + "-" + role }

// ip runs iproute2 commands, one a line, inside a role's namespace.
func (s *site) ip(ctx context.Context, role string, lines ...string) error {
	return command(ctx, strings.Join(lines, "\n")+"\n", "ip", "-n", s.space(role), "-batch", "-")
}

// exec runs a program inside a role's namespace.
func (s *site) exec(ctx context.Context, role, stdin string, args ...string) error {
	return command(ctx, stdin, "ip", append([]string{"netns", "exec", s.space(role)}, args...)...)
}

// close ends what still runs in the namespaces, removes them and lets go of the lock.
func (s *site) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var errs []error
	for _, name := range s.spaces {
		errs = append(errs, removeSpace(ctx, name))
	}
	s.spaces = nil
	errs = append(errs, os.Remove(s.lock.Name()), s.lock.Close())
	return errors.Join(errs...)
}

// removeSpace ends the processes inside a namespace of ours and removes it.
func removeSpace(ctx context.Context, name string) error {
	for range 20 {
		out, err := exec.CommandContext(ctx, "ip", "netns", "pids", name).Output()
		if err != nil || len(strings.Fields(string(out))) == 0 {
			break
		}
		for _, f := range strings.Fields(string(out)) {
			if pid, err := strconv.Atoi(f); err == nil && pid > 1 && pid != os.Getpid() {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	return command(ctx, "", "ip", "netns", "del", name)
}

// Sweep removes the namespaces of lab runs that no longer live and says how many.
func Sweep(ctx context.Context) (int, error) {
	list, err := os.ReadDir(netnsDir)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("list network namespaces: %w", err)
	}
	dead := map[string][]string{}
	for _, e := range list {
		if m := spaceName.FindStringSubmatch(e.Name()); m != nil {
			dead[m[1]] = append(dead[m[1]], e.Name())
		}
	}
	if err := os.MkdirAll(lockDir, 0o700); err != nil {
		return 0, fmt.Errorf("make %s: %w", lockDir, err)
	}
	var n int
	var errs []error
	for id, spaces := range dead {
		f, err := lock(id)
		if errors.Is(err, errHeld) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		n += len(spaces)
		left := &site{id: id, lock: f, spaces: spaces}
		errs = append(errs, left.forsaken(), left.close())
	}
	return n, errors.Join(errs...)
}

// command runs a program to its end and turns a failure into its own words.
func command(ctx context.Context, stdin, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		text := strings.TrimSpace(string(out))
		if text == "" {
			text = err.Error()
		}
		return fmt.Errorf("%s %s: %s", name, strings.Join(args, " "), text)
	}
	return nil
}
