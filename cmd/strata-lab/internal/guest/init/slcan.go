//go:build linux

package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// lineSLCAN is N_SLCAN of <linux/tty.h>: the line discipline that turns a serial line with
// a CAN adapter behind it into a CAN interface.
const lineSLCAN = 17

// adapter plays the CAN adapter at the far end of a serial line.
type adapter struct {
	master, slave *os.File
}

// openSLCAN makes a pty, turns it into a CAN interface and raises that at 500 kbit/s.
func (m *machine) openSLCAN() (string, error) {
	master, err := os.OpenFile("/dev/pts/ptmx", os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	// The unlock ioctl takes a pointer to zero.
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		master.Close()
		return "", fmt.Errorf("unlock pty: %w", err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		master.Close()
		return "", fmt.Errorf("number of pty: %w", err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		master.Close()
		return "", err
	}
	a := &adapter{master: master, slave: slave}
	name, err := a.attach()
	if err != nil {
		slave.Close()
		master.Close()
		return "", err
	}
	m.adapters[name] = a
	return name, nil
}

func (a *adapter) attach() (string, error) {
	before, err := canLinks()
	if err != nil {
		return "", err
	}
	if err := raw(a.slave); err != nil {
		return "", err
	}
	if err := unix.IoctlSetPointerInt(int(a.slave.Fd()), unix.TIOCSETD, lineSLCAN); err != nil {
		return "", fmt.Errorf("set the slcan line discipline: %w", err)
	}
	after, err := canLinks()
	if err != nil {
		return "", err
	}
	// What the kernel says to its adapter (S6, O, C, frames) must be read, or it stalls.
	go func() {
		b := make([]byte, 256)
		for {
			if _, err := a.master.Read(b); err != nil {
				return
			}
		}
	}()
	for name, l := range after {
		if _, old := before[name]; old {
			continue
		}
		return name, netlink.LinkSetUp(l)
	}
	return "", fmt.Errorf("the line discipline made no CAN interface")
}

// raw turns off what a terminal does with lines and echo.
func raw(f *os.File) error {
	t, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return fmt.Errorf("read terminal settings: %w", err)
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	t.Cflag = unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B115200
	if err := unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, t); err != nil {
		return fmt.Errorf("set terminal settings: %w", err)
	}
	return nil
}

func (a *adapter) send(message string) error {
	if !strings.HasSuffix(message, "\r") {
		message += "\r"
	}
	_, err := a.master.WriteString(message)
	return err
}

func canLinks() (map[string]netlink.Link, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	out := map[string]netlink.Link{}
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Name, "can") {
			out[l.Attrs().Name] = l
		}
	}
	return out, nil
}

// canStates are the names of enum can_state, <linux/can/netlink.h>.
var canStates = []string{"error-active", "error-warning", "error-passive", "bus-off", "stopped", "sleeping"}

func linkState(name string) (string, error) {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return "", err
	}
	s := l.Attrs().Flags.String()
	if c, ok := l.(*netlink.Can); ok && int(c.State) < len(canStates) {
		s += " " + canStates[c.State]
	}
	return s, nil
}
