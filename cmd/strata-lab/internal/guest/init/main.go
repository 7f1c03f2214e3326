//go:build linux

// Init is process 1 of the lab's ARM64 guest: it loads the modules, mounts what a small
// gateway image mounts, brings up the network and then does what the lab on the host asks
// for (package wire). It is a static binary and the guest's only program besides strata.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-edge/strata/cmd/strata-lab/internal/guest/wire"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "this is process 1 of the lab's guest; it does nothing elsewhere")
		os.Exit(2)
	}
	if err := serve(); err != nil {
		fmt.Fprintf(os.Stderr, "lab-init: %v\n", err)
	}
	powerOff()
}

func powerOff() {
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// serve sets the guest up and answers the host until it asks for the end.
func serve() error {
	m := newMachine()
	m.setUp()
	address, err := parameter("strata.control")
	if err != nil {
		return err
	}
	conn, err := net.DialTimeout("tcp", address, 20*time.Second)
	if err != nil {
		return fmt.Errorf("dial the lab: %w", err)
	}
	defer conn.Close()
	out := json.NewEncoder(conn)
	if err := out.Encode(m.hello()); err != nil {
		return fmt.Errorf("send hello: %w", err)
	}
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var q wire.Request
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			return fmt.Errorf("read request: %w", err)
		}
		if q.Op == wire.OpPowerOff {
			return nil
		}
		if q.Millis == 0 {
			q.Millis = 10_000
		}
		if err := out.Encode(m.do(q)); err != nil {
			return fmt.Errorf("send reply: %w", err)
		}
	}
	return lines.Err()
}

// parameter gives the value of a word key=value of the kernel's command line.
func parameter(key string) (string, error) {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return "", fmt.Errorf("read the kernel's command line: %w", err)
	}
	for _, word := range strings.Fields(string(line)) {
		if v, ok := strings.CutPrefix(word, key+"="); ok {
			return v, nil
		}
	}
	return "", fmt.Errorf("no %s= on the kernel's command line", key)
}
