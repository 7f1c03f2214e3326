package bpf

import (
	"errors"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/strata-edge/strata/internal/testreq"
)

// TestLoadWithoutKernelBTF loads where /sys/kernel/btf is empty, as on kernels without
// BTF.
func TestLoadWithoutKernelBTF(t *testing.T) {
	testreq.Root(t, "bpf")
	done := make(chan error, 1)
	go func() {
		// The thread has a mount namespace of its own afterwards and ends with the goroutine.
		runtime.LockOSThread()
		done <- func() error {
			if err := errors.Join(unix.Unshare(unix.CLONE_NEWNS),
				unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")); err != nil {
				return err
			}
			if err := unix.Mount("none", "/sys/kernel/btf", "tmpfs", 0, ""); err != nil && !errors.Is(err, unix.ENOENT) {
				return err
			}
			if _, err := os.Stat("/proc/thread-self/root/sys/kernel/btf/vmlinux"); err == nil {
				return errors.New("the kernel's BTF is still visible")
			}
			p, err := Load(Config{Replay: true})
			if err != nil {
				return err
			}
			frame := tcpFrame(false, 10)
			return errors.Join(p.Packet(1e18, frame, len(frame)), p.Close())
		}()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestLiveBareIP observes a TUN device, whose packets begin with the IP header.
func TestLiveBareIP(t *testing.T) {
	w := newWire(t)
	p := load(t, Config{})
	w.in(0, func() {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			testreq.Missing(t, "netns", "tun: "+err.Error())
		}
		defer unix.Close(fd)
		req, err := unix.NewIfreq("strktun")
		w.must(err)
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		w.must(unix.IoctlIfreq(fd, unix.TUNSETIFF, req))
		l, err := netlink.LinkByName("strktun")
		w.must(err)
		w.must(netlink.LinkSetUp(l))
		at, err := p.Attach(l.Attrs().Index)
		w.must(err)
		if at.Ethernet {
			t.Errorf("attached: %+v", at)
		}
		ip := tcpFrame(false, 100)[14:]
		for range 5 {
			if _, err := unix.Write(fd, ip); err != nil {
				t.Fatal(err)
			}
		}
		for k, v := range tcpFlows(t, p) {
			if d := v.Initiator(); d.Packets != 5 || d.Bytes != uint64(5*len(ip)) || k.LoPort+k.HiPort != 40080 || d.MAC != [6]byte{} {
				t.Errorf("%+v: %+v", k, d)
			}
			return
		}
		t.Error("no flow")
	})
}
