package flow

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/strata-edge/strata/bpf"
	"github.com/strata-edge/strata/edge/diag"
	"github.com/strata-edge/strata/internal/testreq"
)

// written is what one side of a connection wrote in one call.
type written struct {
	client bool
	data   []byte
}

// recorder notes what is written to a connection.
type recorder struct {
	net.Conn
	client bool
	mu     *sync.Mutex
	all    *[]written
}

func (r *recorder) Write(b []byte) (int, error) {
	r.mu.Lock()
	*r.all = append(*r.all, written{r.client, append([]byte(nil), b...)})
	r.mu.Unlock()
	return r.Conn.Write(b)
}

func certificate(t *testing.T, until time.Time) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	of := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"server.test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: until.Add(-365 * 24 * time.Hour), NotAfter: until,
	}
	der, err := x509.CreateCertificate(rand.Reader, of, of, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// handshake records one TLS 1.3 connection over loopback: the handshake and, where the
// client accepts, a question, an answer and the close_notify.
func handshake(t *testing.T, until time.Time) (all []written, rejected bool) {
	t.Helper()
	cert, pool := certificate(t, until)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var mu sync.Mutex
	served := make(chan struct{})
	go func() {
		defer close(served)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		s := tls.Server(&recorder{c, false, &mu, &all}, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13})
		if _, err := io.ReadFull(s, make([]byte, 8)); err == nil {
			s.Write([]byte("an answer"))
			io.Copy(io.Discard, s)
		}
	}()
	c, err := net.DialTimeout("tcp", l.Addr().String(), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	s := tls.Client(&recorder{c, true, &mu, &all}, &tls.Config{RootCAs: pool, ServerName: "server.test", MinVersion: tls.VersionTLS13})
	c.SetDeadline(time.Now().Add(5 * time.Second))
	rejected = s.Handshake() != nil
	if !rejected {
		s.Write([]byte("question"))
		if _, err := io.ReadFull(s, make([]byte, 9)); err != nil {
			t.Fatal(err)
		}
		s.Close()
	}
	c.Close()
	<-served
	return all, rejected
}

// line pushes frames of TCP through the kernel's programs.
type line struct {
	t        *testing.T
	probe    *bpf.Probe
	payloads *bpf.PayloadReader
	engine   *Engine
	now      diag.Time
	record   bpf.Payload
	segment  Payload
}

func (l *line) frame(from, to netip.AddrPort, flags byte, seq, ack uint32, data []byte) {
	l.t.Helper()
	f := make([]byte, 14+20+20, 14+20+20+len(data))
	f[12] = 8
	ip, tcp := f[14:34], f[34:]
	ip[0], ip[8], ip[9] = 0x45, 64, 6
	binary.BigEndian.PutUint16(ip[2:], uint16(40+len(data)))
	copy(ip[12:], from.Addr().AsSlice())
	copy(ip[16:], to.Addr().AsSlice())
	binary.BigEndian.PutUint16(tcp, from.Port())
	binary.BigEndian.PutUint16(tcp[2:], to.Port())
	binary.BigEndian.PutUint32(tcp[4:], seq)
	binary.BigEndian.PutUint32(tcp[8:], ack)
	tcp[12], tcp[13], tcp[14] = 5<<4, flags, 0xff
	f = append(f, data...)
	l.now = l.now.Add(100 * time.Microsecond)
	if err := l.probe.Packet(int64(l.now), f, len(f)); err != nil {
		l.t.Fatal(err)
	}
	for {
		more, err := l.payloads.TryReadInto(&l.record)
		if err != nil {
			l.t.Fatal(err)
		}
		if !more {
			return
		}
		Segment(&l.record, &l.segment)
		l.engine.Payload(&l.segment)
	}
}

// connection plays what was recorded as a connection of its own.
func (l *line) connection(client, server netip.AddrPort, all []written, last byte) {
	l.t.Helper()
	const mss = 1400
	seq := map[bool]uint32{true: 1000, false: 7000}
	end := func(fromClient bool) (from, to netip.AddrPort) {
		if fromClient {
			return client, server
		}
		return server, client
	}
	l.frame(client, server, headerSYN, 999, 0, nil)
	l.frame(server, client, headerSYN|headerACK, 6999, 1000, nil)
	l.frame(client, server, headerACK, 1000, 7000, nil)
	for _, w := range all {
		from, to := end(w.client)
		for rest := w.data; len(rest) > 0; rest = rest[min(mss, len(rest)):] {
			part := rest[:min(mss, len(rest))]
			l.frame(from, to, headerACK, seq[w.client], seq[!w.client], part)
			seq[w.client] += uint32(len(part))
			l.frame(to, from, headerACK, seq[!w.client], seq[w.client], nil)
		}
	}
	l.frame(client, server, last, seq[true], seq[false], nil)
	l.frame(server, client, headerFIN|headerACK, seq[false], seq[true]+1, nil)
}

// TestRejectedCertificate: a client of TLS 1.3 that rejects the server's certificate says
// so in an encrypted alert only. Nothing else is wrong and nothing was admitted before:
// the first connection admits the service by the alert's length, the next one tells.
func TestRejectedCertificate(t *testing.T) {
	testreq.Root(t, "bpf")
	expired, rejected := handshake(t, time.Now().Add(-24*time.Hour))
	if !rejected {
		t.Fatal("an expired certificate was accepted")
	}
	good, rejected := handshake(t, time.Now().Add(24*time.Hour))
	if rejected {
		t.Fatal("a good certificate was rejected")
	}
	server := netip.MustParseAddrPort("203.0.113.9:8443")
	const service = "service:tcp/203.0.113.9:8443"
	for _, test := range []struct {
		name        string
		play        []written
		last        byte
		admit       bool
		connections uint16
		want        float64
		admitted    uint64
	}{
		{"expired", expired, headerFIN | headerACK, false, 3, 2, 1},
		{"expired, ends by reset", expired, headerRST | headerACK, false, 3, 2, 1},
		{"expired, admitted before", expired, headerFIN | headerACK, true, 1, 1, 0},
		{"good", good, headerFIN | headerACK, false, 3, 0, 0},
		{"good, admitted before", good, headerFIN | headerACK, true, 3, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			probe, err := bpf.Load(bpf.Config{Replay: true})
			if err != nil {
				testreq.Missing(t, "bpf", err.Error())
			}
			defer probe.Close()
			payloads, err := probe.Payloads()
			if err != nil {
				t.Fatal(err)
			}
			defer payloads.Close()
			engine, err := NewEngine(Config{Tables: NewTables(probe), Resolver: fakeRoutes{}})
			if err != nil {
				t.Fatal(err)
			}
			l := &line{t: t, probe: probe, payloads: payloads, engine: engine, now: origin}
			if test.admit {
				if err := probe.AdmitEndpoint(bpf.NewEndpointKey(protoTCP, server), uint64(l.now.Add(time.Minute)), 64<<10); err != nil {
					t.Fatal(err)
				}
			}
			got := 0.0
			for i := range test.connections {
				l.connection(netip.AddrPortFrom(netip.MustParseAddr("10.0.0.2"), 40000+i), server, test.play, test.last)
				l.now = l.now.Add(time.Second)
				if err := engine.Harvest(l.now, func(s diag.Signal) {
					if s.Name != "tls.cert_rejected" {
						return
					}
					got += s.Value
					if s.Scope.String() != service {
						t.Errorf("%s at %s", s.Name, s.Scope)
					}
				}); err != nil {
					t.Fatal(err)
				}
			}
			c, err := probe.Counters()
			if err != nil {
				t.Fatal(err)
			}
			if got != test.want || c.AdmitEndpoints != test.admitted {
				t.Errorf("%v rejections told, want %v; %d endpoints admitted by score, want %d", got, test.want, c.AdmitEndpoints, test.admitted)
			}
		})
	}
}
