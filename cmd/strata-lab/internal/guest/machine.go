package guest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/strata-edge/strata/cmd/strata-lab/internal/guest/wire"
)

// What the emulated drives say of themselves.
const (
	nvmeSerial = "STRATANVME01"
	sataSerial = "STRATASATA01"
	nvmeDevice = "/machine/peripheral/nvme0"
	diskSize   = 64 << 20

	// hostAddress is where QEMU's user network shows the host's loopback to the guest.
	hostAddress = "10.0.2.2"
)

// machine is a running guest.
type machine struct {
	qemu    *exec.Cmd
	ended   chan struct{} // closed once QEMU has gone
	exit    error         // of QEMU, valid once ended is closed
	console string        // path of what the kernel printed
	conn    net.Conn
	lines   *bufio.Scanner
	monitor *monitor
	hello   wire.Hello
}

// boot starts the guest in dir and waits until its init has called.
func boot(ctx context.Context, dir string, im image, memory int) (*machine, error) {
	initramfs := filepath.Join(dir, "initramfs.cpio")
	if err := im.write(ctx, initramfs); err != nil {
		return nil, err
	}
	kernel, err := one(filepath.Join(im.kernel, "boot/vmlinuz-*"))
	if err != nil {
		return nil, err
	}
	for _, disk := range []string{"nvme.img", "sata.img"} {
		path := filepath.Join(dir, disk)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			return nil, err
		}
		if err := os.Truncate(path, diskSize); err != nil {
			return nil, err
		}
	}
	control, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, fmt.Errorf("listen for the guest: %w", err)
	}
	defer control.Close()

	m := &machine{console: filepath.Join(dir, "console.log"), ended: make(chan struct{})}
	socket := filepath.Join(dir, "qmp.sock")
	m.qemu = exec.Command("qemu-system-aarch64",
		"-M", "virt,gic-version=3", "-cpu", "cortex-a57", "-accel", "tcg,thread=multi",
		"-m", fmt.Sprint(memory), "-smp", "2", "-nodefaults", "-nographic", "-no-reboot",
		"-serial", "file:"+m.console, "-qmp", "unix:"+socket+",server=on,wait=off",
		"-kernel", kernel, "-initrd", initramfs,
		"-append", fmt.Sprintf("console=ttyAMA0 loglevel=4 panic=-1 strata.control=%s:%d",
			hostAddress, control.Addr().(*net.TCPAddr).Port),
		"-netdev", "user,id=net0,ipv6=off", "-device", "virtio-net-pci,netdev=net0,romfile=",
		"-drive", "if=none,id=nvme,format=raw,file="+filepath.Join(dir, "nvme.img"),
		"-device", "nvme,id=nvme0,drive=nvme,serial="+nvmeSerial,
		"-drive", "if=none,id=sata,format=raw,file="+filepath.Join(dir, "sata.img"),
		"-device", "ich9-ahci,id=ahci0", "-device", "ide-hd,drive=sata,bus=ahci0.0,serial="+sataSerial,
	)
	m.qemu.Stderr = os.Stderr
	// A guest must not outlive the lab, whatever ends the lab.
	m.qemu.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := m.qemu.Start(); err != nil {
		return nil, fmt.Errorf("start QEMU: %w", err)
	}
	go func() {
		m.exit = m.qemu.Wait()
		close(m.ended)
	}()
	if err := m.accept(ctx, control); err != nil {
		m.kill()
		return nil, fmt.Errorf("%w; the kernel's last lines:\n%s", err, m.lastLines())
	}
	if m.monitor, err = dialMonitor(socket); err != nil {
		m.kill()
		return nil, err
	}
	return m, nil
}

func (m *machine) accept(ctx context.Context, control *net.TCPListener) error {
	limit := 60 * time.Second
	if err := control.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = control.SetDeadline(time.Now()) })
	defer stop()
	gone := make(chan struct{})
	defer close(gone)
	go func() {
		select {
		case <-m.ended:
			_ = control.SetDeadline(time.Now())
		case <-gone:
		}
	}()
	conn, err := control.Accept()
	if err != nil {
		select {
		case <-m.ended:
			return fmt.Errorf("the guest ended before it called: QEMU: %w", errors.Join(m.exit, err))
		default:
			return errors.Join(ctx.Err(), fmt.Errorf("the guest did not call within %v: %w", limit, err))
		}
	}
	m.conn, m.lines = conn, bufio.NewScanner(conn)
	m.lines.Buffer(nil, 4<<20)
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if !m.lines.Scan() {
		return fmt.Errorf("the guest's init says nothing: %w", m.lines.Err())
	}
	if err := json.Unmarshal(m.lines.Bytes(), &m.hello); err != nil {
		return fmt.Errorf("read the guest's hello: %w", err)
	}
	return nil
}

// ask sends one request and waits for its reply.
func (m *machine) ask(ctx context.Context, q wire.Request) (wire.Reply, error) {
	var r wire.Reply
	limit := 10 * time.Second
	if q.Millis > 0 {
		limit = time.Duration(q.Millis) * time.Millisecond
	}
	_ = m.conn.SetDeadline(time.Now().Add(limit + 5*time.Second))
	stop := context.AfterFunc(ctx, func() { _ = m.conn.SetDeadline(time.Now()) })
	defer stop()
	if err := json.NewEncoder(m.conn).Encode(q); err != nil {
		return r, fmt.Errorf("ask the guest to %s: %w", q.Op, err)
	}
	if !m.lines.Scan() {
		return r, fmt.Errorf("no answer of the guest to %s: %w; the kernel's last lines:\n%s",
			q.Op, errors.Join(ctx.Err(), m.lines.Err(), io.ErrUnexpectedEOF), m.lastLines())
	}
	if err := json.Unmarshal(m.lines.Bytes(), &r); err != nil {
		return r, fmt.Errorf("read the guest's answer to %s: %w", q.Op, err)
	}
	if r.Error != "" {
		return r, fmt.Errorf("guest: %s: %s", q.Op, r.Error)
	}
	return r, nil
}

// powerOff asks the guest to end and waits for QEMU; it kills QEMU after a while.
func (m *machine) powerOff() error {
	_ = m.conn.SetDeadline(time.Now().Add(time.Second))
	err := json.NewEncoder(m.conn).Encode(wire.Request{Op: wire.OpPowerOff})
	if err == nil {
		select {
		case <-m.ended:
			err = m.exit
		case <-time.After(15 * time.Second):
			err = errors.New("the guest did not power off within 15 s")
		}
	}
	m.kill()
	return err
}

// kill ends QEMU and what hangs on it. It may be called twice.
func (m *machine) kill() {
	_ = m.qemu.Process.Kill()
	<-m.ended
	if m.conn != nil {
		m.conn.Close()
	}
	if m.monitor != nil {
		_ = m.monitor.close()
	}
}

func (m *machine) lastLines() string {
	b, err := os.ReadFile(m.console)
	if err != nil {
		return err.Error()
	}
	if over := len(b) - 2000; over > 0 {
		b = b[over:]
	}
	return string(b)
}
