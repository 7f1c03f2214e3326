package host

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	mqtt "github.com/mochi-mqtt/server/v2/packets"
	"golang.org/x/sys/unix"
)

// The faults of servers and works.
const (
	faultStop    = "stop"    // nothing listens any more, open connections are closed
	faultStatus  = "status"  // answer with mode.Code
	faultSlow    = "slow"    // answer after mode.Delay
	faultStall   = "stall"   // take the connection and stop reading
	faultReset   = "reset"   // reset the connection halfway
	faultSilent  = "silent"  // do not answer
	faultVersion = "version" // TLS versions that no client takes
	faultCipher  = "cipher"  // TLS cipher suites that no client can use
)

// modes holds a mode that may change at any time.
type modes struct {
	mu      sync.Mutex
	mode    mode
	changed chan struct{}
}

func (m *modes) put(v mode) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mode = v
	if m.changed != nil {
		close(m.changed)
	}
	m.changed = make(chan struct{})
}

// get gives the mode and a channel that closes when it changes.
func (m *modes) get() (mode, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.changed == nil {
		m.changed = make(chan struct{})
	}
	return m.mode, m.changed
}

// serve starts the service that its name stands for.
func (n *node) serve(s Service) (service, error) {
	switch s.Name {
	case svcWeb:
		return newWeb(n, s, nil)
	case svcTLS:
		return newWeb(n, s, n.pki)
	case svcDNS:
		return newNames(s)
	case svcMQTT:
		return newSessions(n, s)
	case svcSink:
		return newBulk(n, s, takeBulk)
	case svcFeed:
		return newBulk(n, s, giveBulk)
	}
	return nil, fmt.Errorf("serve %s: no such service", s.Name)
}

// listen opens a TCP listener whose connections have a receive buffer of so many bytes.
func listen(addr string, buffer int) (net.Listener, error) {
	lc := net.ListenConfig{KeepAlive: -1, Control: bufferControl(buffer)}
	ln, err := lc.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return ln, nil
}

// bufferControl sets the receive buffer before the handshake, when the window's scale is
// chosen; 0 leaves the kernel's own sizing.
func bufferControl(buffer int) func(string, string, syscall.RawConn) error {
	if buffer == 0 {
		return nil
	}
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, buffer)
		}); e != nil {
			return e
		}
		return err
	}
}

// tcpd accepts connections, can be stopped and started again, and knows who is connected.
type tcpd struct {
	addr   string
	buffer int
	wg     *sync.WaitGroup
	handle func(net.Conn)

	mu    sync.Mutex
	ln    net.Listener
	conns map[net.Conn]struct{}
}

func (t *tcpd) start() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ln != nil {
		return nil
	}
	ln, err := listen(t.addr, t.buffer)
	if err != nil {
		return err
	}
	t.ln = ln
	t.conns = map[net.Conn]struct{}{}
	t.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			t.mu.Lock()
			if t.ln != ln {
				t.mu.Unlock()
				_ = c.Close()
				return
			}
			t.conns[c] = struct{}{}
			t.mu.Unlock()
			t.wg.Go(func() {
				t.handle(c)
				_ = c.Close()
				t.mu.Lock()
				delete(t.conns, c)
				t.mu.Unlock()
			})
		}
	})
	return nil
}

// drop closes every connection, and with it the handlers.
func (t *tcpd) drop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.conns {
		_ = c.Close()
	}
}

func (t *tcpd) stop() error {
	t.mu.Lock()
	ln := t.ln
	t.ln = nil
	t.mu.Unlock()
	if ln == nil {
		return nil
	}
	err := ln.Close()
	t.drop()
	return err
}

// bulk is a plain TCP service: eight bytes of length, then that much data one way.
type bulk struct {
	tcpd
	modes
}

func newBulk(n *node, s Service, talk func(*bulk, *net.TCPConn)) (*bulk, error) {
	b := &bulk{tcpd: tcpd{addr: s.Addr.String(), buffer: s.Buffer, wg: &n.wg}}
	b.handle = func(c net.Conn) {
		if t, ok := c.(*net.TCPConn); ok {
			talk(b, t)
		}
	}
	return b, b.start()
}

func (b *bulk) close() error {
	b.put(mode{Fault: faultStop})
	return b.stop()
}

func (b *bulk) set(m mode) error {
	b.put(m)
	if m.Fault == faultStop {
		return b.stop()
	}
	return b.start()
}

// takeBulk reads what it was promised and answers with one byte.
func takeBulk(b *bulk, c *net.TCPConn) {
	var head [8]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return
	}
	want := int64(binary.BigEndian.Uint64(head[:]))
	buf := make([]byte, 4096)
	for got := int64(0); got < want; {
		m, changed := b.get()
		switch {
		case m.Fault == faultStall:
			<-changed
			continue
		case m.Fault == faultReset && got > want/2:
			_ = c.SetLinger(0)
			return
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		k, err := c.Read(buf)
		got += int64(k)
		if err != nil && !errors.Is(err, context.DeadlineExceeded) && !isTimeout(err) {
			return
		}
	}
	_ = c.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = c.Write([]byte{1}) // a client that has gone away has its own report
}

// giveBulk writes as much as it was asked for.
func giveBulk(b *bulk, c *net.TCPConn) {
	var head [8]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return
	}
	want := int64(binary.BigEndian.Uint64(head[:]))
	buf := make([]byte, 4096)
	for sent := int64(0); sent < want; {
		if m, _ := b.get(); m.Fault == faultReset && sent > want/2 {
			_ = c.SetLinger(0)
			return
		}
		_ = c.SetWriteDeadline(time.Now().Add(20 * time.Second))
		k, err := c.Write(buf[:min(int64(len(buf)), want-sent)])
		sent += int64(k)
		if err != nil {
			return
		}
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// sessions is an MQTT server that can refuse connections with a code of its own.
type sessions struct {
	tcpd
	modes
	server *mochi.Server
}

// admit is the hook that lets everybody publish; who connects is decided before.
type admit struct{ mochi.HookBase }

func (*admit) ID() string           { return "admit" }
func (*admit) Provides(b byte) bool { return b == mochi.OnConnectAuthenticate || b == mochi.OnACLCheck }

func (*admit) OnConnectAuthenticate(*mochi.Client, mqtt.Packet) bool { return true }
func (*admit) OnACLCheck(*mochi.Client, string, bool) bool           { return true }

func newSessions(n *node, s Service) (*sessions, error) {
	server := mochi.New(&mochi.Options{Logger: slog.New(slog.DiscardHandler)})
	if err := server.AddHook(new(admit), nil); err != nil {
		return nil, fmt.Errorf("serve mqtt on %s: %w", s.Addr, err)
	}
	if err := server.Serve(); err != nil {
		return nil, fmt.Errorf("serve mqtt on %s: %w", s.Addr, err)
	}
	q := &sessions{tcpd: tcpd{addr: s.Addr.String(), wg: &n.wg}, server: server}
	q.handle = q.talk
	return q, q.start()
}

func (q *sessions) close() error {
	return errors.Join(q.stop(), q.server.Close())
}

func (q *sessions) set(m mode) error {
	q.put(m)
	if m.Fault == faultStop {
		return q.stop()
	}
	if m.Fault == faultStatus {
		q.drop() // so that clients come back and are refused
	}
	return q.start()
}

func (q *sessions) talk(c net.Conn) {
	if m, _ := q.get(); m.Fault == faultStatus {
		// CONNECT is read as far as one read brings it: its content does not matter.
		_ = c.SetDeadline(time.Now().Add(2 * time.Second))
		if _, err := c.Read(make([]byte, 1024)); err == nil {
			_, _ = c.Write([]byte{0x20, 2, 0, byte(m.Code)}) // CONNACK, MQTT 3.1.1 section 3.2
		}
		return
	}
	_ = q.server.EstablishConnection("lab", c) // ends when the client leaves, which is no error here
}
