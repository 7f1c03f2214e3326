package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// counters are those of struct rtnl_link_stats64 that say something of layer 1, and the
// link's own of its carrier. All count since the device was made.
type counters struct {
	crcErrors, frameErrors, rxMissed, txErrors uint64
	collisions, lateCollisions                 uint64
	carrierChanges, carrierDowns               uint64
}

// message is one RTM_NEWLINK or RTM_DELLINK.
type message struct {
	gone     bool
	family   uint8
	index    int32
	kind     uint16 // ARPHRD_…
	flags    uint32 // IFF_…
	name     string
	lower    int32 // the port that this one stands on (VLAN), 0 none
	master   int32 // the bridge or bond that it belongs to, 0 none
	counters counters

	hasCounters bool
	hasChanges  bool // carrierChanges is set
	hasDowns    bool // carrierDowns is set: Linux 4.16
}

func (m *message) up() bool      { return m.flags&unix.IFF_UP != 0 }
func (m *message) carrier() bool { return m.flags&unix.IFF_LOWER_UP != 0 }

var errTruncated = errors.New("truncated")

const (
	headerLen  = unix.SizeofNlMsghdr
	infoLen    = unix.SizeofIfInfomsg
	stats64Len = 23 * 8 // up to tx_compressed, as of Linux 2.6.35
)

// decode hands each link message in b to each; done says that a dump has ended. An error
// that the kernel sends is returned as a unix.Errno.
func decode(b []byte, each func(*message)) (done bool, err error) {
	for len(b) > 0 {
		if len(b) < headerLen {
			return done, fmt.Errorf("netlink header: %d bytes, want %d: %w", len(b), headerLen, errTruncated)
		}
		n := int(binary.NativeEndian.Uint32(b))
		if n < headerLen || n > len(b) {
			return done, fmt.Errorf("netlink message of %d bytes in %d: %w", n, len(b), errTruncated)
		}
		payload := b[headerLen:n]
		switch kind := binary.NativeEndian.Uint16(b[4:]); kind {
		case unix.NLMSG_DONE:
			done = true
		case unix.NLMSG_ERROR:
			if len(payload) < 4 {
				return done, fmt.Errorf("netlink error: %w", errTruncated)
			}
			if code := -int32(binary.NativeEndian.Uint32(payload)); code != 0 {
				return done, fmt.Errorf("netlink request: %w", unix.Errno(code))
			}
		case unix.RTM_NEWLINK, unix.RTM_DELLINK:
			var m message
			if err := m.decode(payload); err != nil {
				return done, fmt.Errorf("link message: %w", err)
			}
			m.gone = kind == unix.RTM_DELLINK
			// A bridge tells of its ports in a family of its own ("gone" means from the
			// bridge), and wireless drivers send messages without a name: not of the link.
			if m.family == unix.AF_UNSPEC && m.name != "" {
				each(&m)
			}
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	return done, nil
}

func (m *message) decode(b []byte) error {
	if len(b) < infoLen {
		return fmt.Errorf("%d bytes, want at least %d: %w", len(b), infoLen, errTruncated)
	}
	m.family = b[0]
	m.kind = binary.NativeEndian.Uint16(b[2:])
	m.index = int32(binary.NativeEndian.Uint32(b[4:]))
	m.flags = binary.NativeEndian.Uint32(b[8:])
	for b = b[infoLen:]; len(b) >= unix.SizeofRtAttr; {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofRtAttr || n > len(b) {
			return fmt.Errorf("attribute of %d bytes in %d: %w", n, len(b), errTruncated)
		}
		if err := m.attribute(binary.NativeEndian.Uint16(b[2:])&^uint16(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[unix.SizeofRtAttr:n]); err != nil {
			return err
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	if len(b) != 0 {
		return fmt.Errorf("%d bytes behind the last attribute: %w", len(b), errTruncated)
	}
	return nil
}

func (m *message) attribute(kind uint16, v []byte) error {
	u32 := func(name string, set func(uint32)) error {
		if len(v) < 4 {
			return fmt.Errorf("%s: %w", name, errTruncated)
		}
		set(binary.NativeEndian.Uint32(v))
		return nil
	}
	switch kind {
	case unix.IFLA_IFNAME:
		m.name = strings.TrimRight(string(v), "\x00")
	case unix.IFLA_LINK:
		return u32("lower link", func(x uint32) { m.lower = int32(x) })
	case unix.IFLA_MASTER:
		return u32("master", func(x uint32) { m.master = int32(x) })
	case unix.IFLA_CARRIER_CHANGES:
		return u32("carrier changes", func(x uint32) { m.counters.carrierChanges, m.hasChanges = uint64(x), true })
	case unix.IFLA_CARRIER_DOWN_COUNT:
		return u32("carrier down count", func(x uint32) { m.counters.carrierDowns, m.hasDowns = uint64(x), true })
	case unix.IFLA_STATS64:
		if len(v) < stats64Len {
			return fmt.Errorf("statistics of %d bytes, want %d: %w", len(v), stats64Len, errTruncated)
		}
		u := func(i int) uint64 { return binary.NativeEndian.Uint64(v[8*i:]) }
		c := &m.counters
		c.txErrors, c.collisions = u(5), u(9)
		c.crcErrors, c.frameErrors, c.rxMissed, c.lateCollisions = u(12), u(13), u(15), u(20)
		m.hasCounters = true
	}
	return nil
}
