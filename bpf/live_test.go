package bpf

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/strata-edge/strata/internal/testreq"
)

// wire is two network namespaces of the test's own, joined by a veth pair.
type wire struct {
	tb       testing.TB
	home     netns.NsHandle
	ns       [2]netns.NsHandle
	ifindex  [2]int
	addr     [2]netip.Addr
	listener net.Listener
}

func newWire(tb testing.TB) *wire {
	tb.Helper()
	testreq.Root(tb, "netns")
	w := &wire{tb: tb, addr: [2]netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.2")}}
	runtime.LockOSThread()
	tb.Cleanup(runtime.UnlockOSThread)
	var err error
	if w.home, err = netns.Get(); err != nil {
		testreq.Missing(tb, "netns", err.Error())
	}
	for i := range w.ns {
		if w.ns[i], err = netns.New(); err != nil {
			testreq.Missing(tb, "netns", err.Error())
		}
	}
	tb.Cleanup(func() {
		netns.Set(w.home)
		for _, ns := range append(w.ns[:], w.home) {
			ns.Close()
		}
	})
	// The thread is in the second namespace now.
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "strk1"
	w.must(netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "strk0", PeerNamespace: netlink.NsFd(w.ns[0])}))
	for i, name := range []string{"strk0", "strk1"} {
		w.in(i, func() {
			l, err := netlink.LinkByName(name)
			w.must(err)
			w.ifindex[i] = l.Attrs().Index
			// No IPv6, so that router solicitations do not mix with what is counted.
			w.must(os.WriteFile("/proc/thread-self/root/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0))
			w.must(netlink.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{IP: w.addr[i].AsSlice(), Mask: net.CIDRMask(24, 32)}}))
			w.must(netlink.LinkSetUp(l))
		})
	}
	return w
}

func (w *wire) must(err error) {
	w.tb.Helper()
	if err != nil {
		w.tb.Fatal(err)
	}
}

// in runs fn in one of the namespaces.
func (w *wire) in(i int, fn func()) {
	w.tb.Helper()
	w.must(netns.Set(w.ns[i]))
	defer netns.Set(w.home)
	fn()
}

// offload switches segmentation and receive offloads of both ends.
func (w *wire) offload(on bool) {
	w.tb.Helper()
	for i, name := range []string{"strk0", "strk1"} {
		w.in(i, func() {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			w.must(err)
			defer unix.Close(fd)
			for _, cmd := range []uint32{unix.ETHTOOL_STSO, unix.ETHTOOL_SGSO, unix.ETHTOOL_SGRO, unix.ETHTOOL_STXCSUM} {
				value := struct{ cmd, data uint32 }{cmd, 0}
				if on {
					value.data = 1
				}
				var req struct {
					name [unix.IFNAMSIZ]byte
					data unsafe.Pointer
					_    [16]byte
				}
				copy(req.name[:], name)
				req.data = unsafe.Pointer(&value)
				if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req))); errno != 0 {
					w.tb.Logf("ethtool command %#x on %s: %v", cmd, name, errno)
				}
			}
		})
	}
}

// tcp opens a connection from end 0 to a listener at end 1 and gives both sockets.
func (w *wire) tcp() (client, server net.Conn) {
	w.tb.Helper()
	var err error
	if w.listener == nil {
		w.in(1, func() { w.listener, err = net.Listen("tcp4", netip.AddrPortFrom(w.addr[1], 8080).String()) })
		w.must(err)
		w.tb.Cleanup(func() { w.listener.Close() })
	}
	type result struct {
		conn net.Conn
		err  error
	}
	accepted := make(chan result, 1)
	go func() {
		c, err := w.listener.Accept()
		accepted <- result{c, err}
	}()
	w.in(0, func() { client, err = dial(w.addr[1], 8080) })
	w.must(err)
	r := <-accepted
	w.must(r.err)
	for _, c := range []net.Conn{client, r.conn} {
		w.must(c.SetDeadline(time.Now().Add(20 * time.Second)))
	}
	return client, r.conn
}

// dial connects on this very thread: net.Dial may use another one, in another namespace.
func dial(to netip.Addr, port int) (net.Conn, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "client")
	defer f.Close()
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: to.As4()}); err != nil {
		return nil, err
	}
	return net.FileConn(f)
}

// tap is a packet socket on a port: what a capture would hold.
type tap struct{ fd int }

func (w *wire) tap(i int) *tap {
	w.tb.Helper()
	t := &tap{}
	w.in(i, func() {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		w.must(err)
		w.must(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20))
		w.must(unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: 0x0300, Ifindex: w.ifindex[i]}))
		t.fd = fd
	})
	w.tb.Cleanup(func() { unix.Close(t.fd) })
	return t
}

func (t *tap) frames() (all [][]byte) {
	buf := make([]byte, 1<<17)
	for {
		n, _, err := unix.Recvfrom(t.fd, buf, 0)
		if err != nil {
			return all
		}
		all = append(all, slices.Clone(buf[:n]))
	}
}

// exchange sends n bytes from end 0, waits for them at end 1, and closes both. It gives
// how many segments the sender's kernel sent again.
func (w *wire) exchange(n int) (again uint32) {
	w.tb.Helper()
	client, server := w.tcp()
	done := make(chan error, 1)
	go func() {
		got, err := io.Copy(io.Discard, server)
		if err == nil && got != int64(n) {
			err = errors.New("bytes are missing")
		}
		done <- errors.Join(err, server.Close())
	}()
	_, err := client.Write(make([]byte, n))
	w.must(errors.Join(err, client.(*net.TCPConn).CloseWrite()))
	w.must(<-done)
	// The last acks.
	io.Copy(io.Discard, client)
	raw, err := client.(*net.TCPConn).SyscallConn()
	w.must(err)
	w.must(raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		w.must(err)
		again = info.Total_retrans
	}))
	client.Close()
	time.Sleep(50 * time.Millisecond)
	return again
}

func tcpFlows(tb testing.TB, p *Probe) map[FlowKey]FlowValue {
	tb.Helper()
	all := map[FlowKey]FlowValue{}
	if err := p.Flows(func(k *FlowKey, v *FlowValue) bool {
		if k.Proto == 6 {
			all[*k] = *v
		}
		return true
	}); err != nil {
		tb.Fatal(err)
	}
	return all
}

// TestLiveCounts sends known traffic over a veth and holds the programs to it: without
// offloads, packet by packet to a capture of the same port that is replayed; with them,
// to the headers that each segment has on a wire.
func TestLiveCounts(t *testing.T) {
	for _, method := range []string{MethodTCX, MethodClsact} {
		for _, offload := range []bool{false, true} {
			name := method + "/offload off"
			if offload {
				name = method + "/offload on"
			}
			t.Run(name, func(t *testing.T) {
				w := newWire(t)
				w.offload(offload)
				p := load(t, Config{})
				var at Attachment
				var err error
				w.in(0, func() { at, err = p.attach(w.ifindex[0], method) })
				w.must(err)
				if !at.Ethernet || method == MethodClsact && at.Method != MethodClsact {
					t.Errorf("attached: %+v", at)
				}
				tap := w.tap(0)
				const sent = 3 << 20
				// A busy machine may be so late with an ack that the sender probes for it.
				for range 5 {
					clearFlows(t, p)
					tap.frames()
					if w.exchange(sent) == 0 {
						break
					}
				}

				flows := tcpFlows(t, p)
				if len(flows) != 1 {
					t.Fatalf("%d flows", len(flows))
				}
				for k, v := range flows {
					out, in := v.Initiator(), v.Responder()
					// Ethernet, IPv4, TCP with timestamps; a SYN has 8 bytes more.
					headers := uint64(14 + 20 + 32)
					if want := sent + headers*uint64(out.Packets) + 8; out.Bytes != want {
						t.Errorf("bytes sent %d, want %d with %d packets", out.Bytes, want, out.Packets)
					}
					// Acks may carry SACK blocks.
					if least := headers*uint64(in.Packets) + 8; in.Bytes < least || (in.Bytes-least)%4 != 0 {
						t.Errorf("bytes received %d, at least %d with %d packets", in.Bytes, least, in.Packets)
					}
					if least := uint32(sent / 1448); out.PayloadPackets < least {
						t.Errorf("%d packets with payload, at least %d were on the wire", out.PayloadPackets, least)
					}
					if v.Flags&(FlowEstablished|FlowClosed|FlowInitiatorKnown|FlowFirstEgress) != FlowEstablished|FlowClosed|FlowInitiatorKnown|FlowFirstEgress {
						t.Errorf("flags %b", v.Flags)
					}
					if v.SYNTime == 0 || out.SmoothedRTT == 0 || out.Retransmits != 0 {
						t.Errorf("handshake %d us, RTT %d us, retransmits %d", v.SYNTime, out.SmoothedRTT, out.Retransmits)
					}
					if !offload {
						parity(t, tap.frames(), k, v)
					}
				}
				w.in(0, func() { err = p.Detach(w.ifindex[0]) })
				w.must(err)
				w.in(0, func() {
					if left, err := netlink.QdiscList(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: w.ifindex[0]}}); err == nil {
						for _, q := range left {
							if q.Type() == "clsact" {
								t.Error("the queueing discipline is still there")
							}
						}
					}
				})
			})
		}
	}
}

// parity replays a capture and expects the counts of the live flow.
func parity(t *testing.T, frames [][]byte, k FlowKey, live FlowValue) {
	t.Helper()
	p := load(t, Config{Replay: true})
	for i, f := range frames {
		if err := p.Packet(1e18+int64(i)*1e5, f, len(f)); err != nil {
			t.Fatal(err)
		}
	}
	for rk, rv := range tcpFlows(t, p) {
		rk.Ifindex = k.Ifindex
		if rk != k {
			t.Errorf("replayed flow %+v, live %+v", rk, k)
		}
		for i := range rv.Dir {
			l, r := &live.Dir[i], &rv.Dir[i]
			if l.Packets != r.Packets || l.Bytes != r.Bytes || l.PayloadPackets != r.PayloadPackets || l.NextSeq != r.NextSeq {
				t.Errorf("direction %d: live %+v, replayed %+v", i, l, r)
			}
		}
		return
	}
	t.Error("no flow in the replay")
}

// TestLivePayload admits an endpoint and expects what is sent to it, byte for byte; then
// the answer's tell-tale marks and admits by itself.
func TestLivePayload(t *testing.T) {
	w := newWire(t)
	p := load(t, Config{})
	var err error
	w.in(0, func() { _, err = p.Attach(w.ifindex[0]) })
	w.must(err)
	r, err := p.Payloads()
	w.must(err)
	defer r.Close()

	talk := func(request, answer string) {
		client, server := w.tcp()
		defer client.Close()
		defer server.Close()
		_, err := client.Write([]byte(request))
		w.must(err)
		_, err = io.ReadFull(server, make([]byte, len(request)))
		w.must(err)
		_, err = server.Write([]byte(answer))
		w.must(err)
		_, err = io.ReadFull(client, make([]byte, len(answer)))
		w.must(err)
	}
	drain := func() (text []string) {
		var rec Payload
		r.SetDeadline(time.Now().Add(50 * time.Millisecond))
		for {
			err := r.ReadInto(&rec)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return text
			}
			w.must(err)
			if len(rec.Data) > 0 {
				text = append(text, string(rec.Data))
			}
		}
	}

	talk("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n")
	if got := drain(); len(got) != 0 {
		t.Errorf("clean traffic delivered: %q", got)
	}
	// The fault's own packet, then the next connection to the endpoint from its beginning.
	talk("GET /a HTTP/1.1\r\n\r\n", "HTTP/1.1 503 Service Unavailable\r\n\r\n")
	if got := drain(); !slices.Equal(got, []string{"HTTP/1.1 503 Service Unavailable\r\n\r\n"}) {
		t.Errorf("delivered %q", got)
	}
	talk("GET /b HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n")
	if got := drain(); !slices.Equal(got, []string{"GET /b HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"}) {
		t.Errorf("delivered %q", got)
	}
	marked := 0
	for _, v := range tcpFlows(t, p) {
		if v.Marks&MarkHTTP5xx != 0 {
			marked++
		}
		if v.Responses != 1 || v.ResponseLast == 0 {
			t.Errorf("responses %d, %d us", v.Responses, v.ResponseLast)
		}
	}
	if marked != 1 {
		t.Errorf("%d flows marked", marked)
	}
	if err := p.AdmitEndpoint(NewEndpointKey(6, netip.AddrPortFrom(w.addr[1], 8080)), Now()+uint64(time.Minute), 10); err != nil {
		t.Fatal(err)
	}
	talk("0123456789abcdef", "x")
	if got := drain(); !slices.Equal(got, []string{"0123456789"}) {
		t.Errorf("budget of 10 bytes delivered %q", got)
	}
}

// TestLivePayloadOfLargeRuns expects what a segmentation-offloaded transfer carried,
// put together again from the records of its 64 KiB packets.
func TestLivePayloadOfLargeRuns(t *testing.T) {
	w := newWire(t)
	w.offload(true)
	tuning := DefaultTuning()
	tuning.DeepAll, tuning.FlowPackets, tuning.FlowBytes = 1, 1<<16, 1<<32-1
	p := load(t, Config{Tuning: &tuning})
	var err error
	w.in(0, func() { _, err = p.Attach(w.ifindex[0]) })
	w.must(err)
	r, err := p.Payloads()
	w.must(err)
	defer r.Close()
	sent := make([]byte, 400<<10)
	for i := range sent {
		sent[i] = byte(i * 7 >> 3)
	}
	client, server := w.tcp()
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, server)
		done <- errors.Join(err, server.Close())
	}()
	_, err = client.Write(sent)
	w.must(errors.Join(err, client.Close(), <-done))

	got, first, largest := make([]byte, len(sent)), uint32(0), uint32(0)
	r.SetDeadline(time.Now().Add(50 * time.Millisecond))
	var rec Payload
	for n := 0; ; n++ {
		if err := r.ReadInto(&rec); errors.Is(err, os.ErrDeadlineExceeded) {
			break
		} else {
			w.must(err)
		}
		if n == 0 {
			first = rec.Seq + 1 // of the SYN
		}
		if at := rec.Seq - first; rec.FromInitiator() && int(at)+len(rec.Data) <= len(got) {
			copy(got[at:], rec.Data)
		}
		largest = max(largest, rec.PayloadLen)
	}
	c, err := p.Counters()
	w.must(err)
	if !slices.Equal(got, sent) || c.PayloadRingFull+c.PayloadFails != 0 {
		t.Errorf("payload differs; lost %d, failed %d", c.PayloadRingFull, c.PayloadFails)
	}
	t.Logf("largest packet %d bytes, %d records", largest, c.PayloadRecords)
}
