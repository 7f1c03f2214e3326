package host

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	etherARP = 0x0806
	arpSize  = 28 // of an ARP packet for Ethernet and IPv4, RFC 826
)

// announce broadcasts who has an IPv4 address, as a station does that defends its own
// (RFC 5227 section 2.3).
func announce(iface, addr string, hw net.HardwareAddr) error {
	a, err := netip.ParseAddr(addr)
	if err != nil || !a.Is4() || len(hw) != 6 {
		return fmt.Errorf("announce %s at %s: not an IPv4 address and a station", addr, hw)
	}
	dev, err := net.InterfaceByName(iface)
	if err != nil {
		return fmt.Errorf("announce %s on %s: %w", addr, iface, err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("announce %s on %s: %w", addr, iface, err)
	}
	defer unix.Close(fd)
	ip := a.As4()
	f := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	f = append(f, hw...)
	f = binary.BigEndian.AppendUint16(f, etherARP)
	f = append(f, 0, 1, 8, 0, 6, 4, 0, 1) // Ethernet, IPv4, request
	f = append(f, hw...)
	f = append(f, ip[:]...)
	f = append(f, 0, 0, 0, 0, 0, 0)
	f = append(f, ip[:]...)
	to := unix.SockaddrLinklayer{Protocol: swap16(etherARP), Ifindex: dev.Index, Halen: 6}
	copy(to.Addr[:], f[:6])
	if err := unix.Sendto(fd, f, 0, &to); err != nil {
		return fmt.Errorf("announce %s on %s: %w", addr, iface, err)
	}
	return nil
}

func swap16(v uint16) uint16 { return v<<8 | v>>8 }

// ear hears ARP on one interface and remembers who claimed which address.
type ear struct {
	file *os.File

	mu    sync.Mutex
	heard map[netip.Addr]map[string]struct{}
}

// maxClaims bounds what an ear remembers.
const maxClaims = 4096

func listenARP(iface string) (*ear, error) {
	dev, err := net.InterfaceByName(iface)
	if err != nil {
		return nil, fmt.Errorf("listen for arp on %s: %w", iface, err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(swap16(etherARP)))
	if err != nil {
		return nil, fmt.Errorf("listen for arp on %s: %w", iface, err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: swap16(etherARP), Ifindex: dev.Index}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("listen for arp on %s: %w", iface, err)
	}
	return &ear{file: os.NewFile(uintptr(fd), "arp:"+iface), heard: map[netip.Addr]map[string]struct{}{}}, nil
}

func (e *ear) close() error { return e.file.Close() }

// run hears until close.
func (e *ear) run() {
	buf := make([]byte, 2048)
	for {
		n, err := e.file.Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // the interface went down and may come back
			continue
		}
		e.hear(buf[:n])
	}
}

func (e *ear) hear(f []byte) {
	if len(f) < 14+arpSize || binary.BigEndian.Uint16(f[12:]) != etherARP {
		return
	}
	arp := f[14:]
	from, _ := netip.AddrFromSlice(arp[14:18])
	if from.IsUnspecified() {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.heard[from] == nil && len(e.heard) < maxClaims {
		e.heard[from] = map[string]struct{}{}
	}
	if len(e.heard[from]) < 16 {
		e.heard[from][net.HardwareAddr(arp[8:14]).String()] = struct{}{}
	}
}

// claims adds what was heard to out: address -> stations.
func (e *ear) claims(out map[string][]string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for a, stations := range e.heard {
		for s := range stations {
			out[a.String()] = append(out[a.String()], s)
		}
	}
}

// counters reads the namespace's own protocol counters, named as the kernel names them
// ("Tcp.RetransSegs", "TcpExt.TCPToZeroWindowAdv", "Icmp6InDestUnreachs").
func counters() (map[string]int64, error) {
	out := map[string]int64{}
	for _, name := range []string{"/proc/self/net/snmp", "/proc/self/net/netstat"} {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read counters: %w", err)
		}
		parsePairs(string(b), out)
	}
	b, err := os.ReadFile("/proc/self/net/snmp6")
	if errors.Is(err, os.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read counters: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) == 2 {
			if v, err := strconv.ParseInt(f[1], 10, 64); err == nil {
				out[f[0]] = v
			}
		}
	}
	return out, nil
}

// parsePairs reads lines that come in pairs, names first, values second.
func parsePairs(text string, out map[string]int64) {
	var names []string
	sc := bufio.NewScanner(strings.NewReader(text))
	for sc.Scan() {
		f := strings.Fields(sc.Text())
		if len(f) < 2 {
			continue
		}
		if len(names) == 0 || names[0] != f[0] {
			names = append(names[:0], f...)
			continue
		}
		for i := 1; i < min(len(f), len(names)); i++ {
			if v, err := strconv.ParseInt(f[i], 10, 64); err == nil {
				out[strings.TrimSuffix(f[0], ":")+"."+names[i]] = v
			}
		}
		names = names[:0]
	}
}
