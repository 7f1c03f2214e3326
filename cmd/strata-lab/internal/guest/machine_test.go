package guest

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/strata-edge/strata/cmd/strata-lab/internal/guest/wire"
	"github.com/strata-edge/strata/internal/testreq"
)

// TestMachine boots the guest without strata and checks that what the smoke test leans on
// really happens: devices are there, the serial CAN adapter drives the bus's states, the
// guest reaches the host, and power-off is clean.
func TestMachine(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a guest")
	}
	testreq.Tool(t, "qemu", "qemu-system-aarch64")
	cache, err := cacheFolder()
	if err != nil {
		t.Fatal(err)
	}
	kernel := filepath.Join(cache, "guest", "kernel")
	if _, err := one(filepath.Join(kernel, "boot/vmlinuz-*")); err != nil {
		testreq.Missing(t, "qemu", "no guest kernel (scripts/guest fetches it): "+err.Error())
	}
	dir := t.TempDir()
	init := filepath.Join(dir, "init")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", init, "./init")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=arm64")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build init: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	start := time.Now()
	m, err := boot(ctx, dir, image{kernel: kernel, init: init, strata: init}, 1024)
	if err != nil {
		t.Fatal(err)
	}
	defer m.kill()
	t.Logf("kernel %s called after %v", m.hello.Kernel, time.Since(start).Round(time.Millisecond))
	if len(m.hello.Missing) > 0 {
		t.Errorf("set-up of the guest: %s", strings.Join(m.hello.Missing, "; "))
	}
	for _, want := range []string{"nvme0n1", "sda", "eth0"} {
		if !strings.Contains(strings.Join(m.hello.Devices, " "), want) {
			t.Errorf("no %s among %v", want, m.hello.Devices)
		}
	}
	ask := func(q wire.Request) wire.Reply {
		t.Helper()
		r, err := m.ask(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	can := ask(wire.Request{Op: wire.OpSLCAN}).Out
	for _, step := range []struct{ says, want string }{
		{"sw096101", "error-warning"}, {"sp128130", "error-passive"}, {"sb000255", "bus-off"},
	} {
		ask(wire.Request{Op: wire.OpSend, Name: can, Data: step.says})
		got := ""
		for range 20 {
			if got = ask(wire.Request{Op: wire.OpLink, Name: can}).Out; strings.Contains(got, step.want) {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		if !strings.Contains(got, step.want) {
			t.Errorf("after %s: %s is %q, want %s", step.says, can, got, step.want)
		}
	}
	if err := m.monitor.set(nvmeDevice, "smart_critical_warning", 4); err != nil {
		t.Error(err)
	}
	echo := startEcho(t)
	ask(wire.Request{Op: wire.OpTraffic, Data: guestAddress(echo), Count: 3})
	if r := ask(wire.Request{Op: wire.OpExec, Args: []string{"/bin/strata"}}); r.Code != 2 || !strings.Contains(r.Err, "process 1") {
		t.Errorf("init as an ordinary program: %+v", r)
	}
	if err := m.powerOff(); err != nil {
		t.Error(err)
	}
	t.Logf("power-on to power-off %v", time.Since(start).Round(time.Millisecond))
}

func startEcho(t *testing.T) net.Addr {
	e, err := listenEcho()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.close)
	return e.addr()
}

func TestArchive(t *testing.T) {
	var b bytes.Buffer
	a := &archive{w: &b}
	a.folder("etc")
	a.file("etc/name", []byte("guest"))
	a.link("etc/other", "name")
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	if b.Len()%4 != 0 {
		t.Errorf("length %d is no multiple of 4", b.Len())
	}
	cpio := testreq.Tool(t, "qemu", "cpio")
	cmd := exec.CommandContext(t.Context(), cpio, "--list", "--verbose", "--quiet")
	cmd.Stdin = io.Reader(&b)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("cpio: %v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[0], "drwxr-xr-x") ||
		!strings.Contains(lines[1], "5") || !strings.HasSuffix(lines[2], "etc/other -> name") {
		t.Errorf("cpio lists\n%s", out)
	}
}
