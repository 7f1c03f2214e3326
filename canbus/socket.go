package canbus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const dumpTimeout = 2 * time.Second

// Links lists this network namespace's CAN interfaces, sorted as the kernel gives them.
func Links() ([]Link, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	defer unix.Close(fd)
	tv := unix.NsecToTimeval(dumpTimeout.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		return nil, fmt.Errorf("set netlink time-out: %w", err)
	}
	if err := unix.Sendto(fd, dumpRequest(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("ask for links: %w", err)
	}
	var links []Link
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("receive links: %w", err)
		}
		var done bool
		if links, done, err = DecodeDump(buf[:n], links); err != nil {
			return nil, fmt.Errorf("list CAN interfaces: %w", err)
		}
		if done {
			return links, nil
		}
	}
}

// dumpRequest is RTM_GETLINK with NLM_F_REQUEST|NLM_F_DUMP.
func dumpRequest() []byte {
	b := make([]byte, headerLen+infoLen)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], unix.RTM_GETLINK)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	binary.NativeEndian.PutUint32(b[8:], 1)
	return b
}

// Socket receives error frames, and data frames while Frames is on.
type Socket struct {
	fd  int
	buf [FDFrameSize]byte
}

// OpenSocket opens a CAN_RAW socket on an interface with every error class on and data
// frames off. It does not block: wait for Fd with poll.
func OpenSocket(name string) (*Socket, error) {
	iface, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("open CAN socket on %s: %w", name, err)
	}
	fd, err := unix.Socket(unix.AF_CAN, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.CAN_RAW)
	if err != nil {
		return nil, fmt.Errorf("open CAN socket on %s: %w", name, err)
	}
	s := &Socket{fd: fd}
	// An interface without CAN FD refuses the option; it has no such frames either.
	_ = unix.SetsockoptInt(fd, unix.SOL_CAN_RAW, unix.CAN_RAW_FD_FRAMES, 1)
	err = unix.SetsockoptInt(fd, unix.SOL_CAN_RAW, unix.CAN_RAW_ERR_FILTER, errorMask)
	if err == nil {
		err = s.Frames(false)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrCAN{Ifindex: iface.Index})
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("open CAN socket on %s: %w", name, err)
	}
	return s, nil
}

// NewSocket wraps a descriptor that gives one whole frame a read; Close closes it.
func NewSocket(fd int) *Socket { return &Socket{fd: fd} }

// Fd gives the descriptor to wait on.
func (s *Socket) Fd() int { return s.fd }

// Frames switches the reception of data frames on or off. Off, the kernel drops them
// before they cost anything here.
func (s *Socket) Frames(on bool) error {
	var filters []unix.CanFilter
	if on {
		filters = []unix.CanFilter{{Id: 0, Mask: 0}}
	}
	if err := unix.SetsockoptCanRawFilter(s.fd, unix.SOL_CAN_RAW, unix.CAN_RAW_FILTER, filters); err != nil {
		return fmt.Errorf("set CAN filter: %w", err)
	}
	return nil
}

// Read takes one frame. It returns os.ErrDeadlineExceeded where none waits.
func (s *Socket) Read(f *Frame) error {
	for {
		n, err := unix.Read(s.fd, s.buf[:])
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return os.ErrDeadlineExceeded
		case err != nil:
			return fmt.Errorf("read CAN socket: %w", err)
		}
		return DecodeFrame(s.buf[:n], f)
	}
}

// Dropped gives how many frames the kernel dropped because the socket was full.
func (s *Socket) Dropped() (uint32, error) {
	var info [9]uint32 // SK_MEMINFO_VARS words, linux/sock_diag.h
	size := uint32(unsafe.Sizeof(info))
	_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if e != 0 {
		return 0, fmt.Errorf("read CAN socket's drops: %w", e)
	}
	return info[8], nil // SK_MEMINFO_DROPS
}

// Close closes the socket.
func (s *Socket) Close() error { return unix.Close(s.fd) }
