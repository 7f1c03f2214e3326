package dissect

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"
)

// tlsCase is one handshake between Go's own client and server.
type tlsCase struct {
	version   uint16 // of both; serverMax restricts the server
	serverMin uint16
	reject    bool   // the client does not accept the certificate
	asked     string // the name the client asks for; default device.example
	before    time.Duration
	after     time.Duration // validity around talk's time; default an hour each
	mss       int
}

// tap writes down what a connection sends.
type tap struct {
	net.Conn
	mu   *sync.Mutex
	k    *talk
	side Side
}

func (c tap) Write(b []byte) (int, error) {
	c.mu.Lock()
	c.k.say(c.side, string(b))
	c.mu.Unlock()
	return c.Conn.Write(b)
}

var tlsKey = sync.OnceValue(func() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
})

// tlsTalk runs a handshake, one exchange and a close.
func tlsTalk(t testing.TB, c tlsCase) *talk {
	t.Helper()
	k := newTalk(443)
	if c.mss > 0 {
		k.mss = c.mss
	}
	if c.before == 0 {
		c.before = time.Hour
	}
	if c.after == 0 {
		c.after = time.Hour
	}
	if c.asked == "" {
		c.asked = "device.example"
	}
	now := time.Unix(0, k.now)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "device.example"}, DNSNames: []string{"device.example", "*.fleet.example"},
		NotBefore: now.Add(-c.before), NotAfter: now.Add(c.after),
	}, &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "Test CA"}}, tlsKey().Public(), tlsKey())
	if err != nil {
		t.Fatal(err)
	}
	left, right := net.Pipe()
	var mu sync.Mutex
	client := tls.Client(tap{left, &mu, k, A}, &tls.Config{
		ServerName: c.asked, InsecureSkipVerify: true, MaxVersion: c.version, NextProtos: []string{"mqtt"},
		VerifyPeerCertificate: func([][]byte, [][]*x509.Certificate) error {
			if c.reject {
				return errors.New("not trusted")
			}
			return nil
		},
	})
	server := tls.Server(tap{right, &mu, k, B}, &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: tlsKey()}},
		MaxVersion:   max(c.version, c.serverMin), MinVersion: c.serverMin, NextProtos: []string{"mqtt"},
		SessionTicketsDisabled: true,
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 64)
		if n, err := server.Read(buf); err == nil {
			_, _ = server.Write(buf[:n])
		}
		_, _ = io.Copy(io.Discard, right)
	}()
	if _, err := client.Write([]byte("hello")); err == nil {
		_, _ = client.Read(make([]byte, 64))
	}
	_ = client.Close()
	_ = left.Close()
	<-done
	k.end()
	return k
}

func kinds(all []*Message) map[Kind]*Message {
	m := map[Kind]*Message{}
	for _, x := range all {
		m[x.Kind] = x
	}
	return m
}

func TestTLS(t *testing.T) {
	for name, c := range map[string]struct {
		tlsCase
		want func(t *testing.T, m map[Kind]*Message)
	}{
		"1.2": {tlsCase{version: tls.VersionTLS12}, func(t *testing.T, m map[Kind]*Message) {
			if m[TLSServerHello] == nil || m[TLSServerHello].Status != tls.VersionTLS12 {
				t.Error("no server hello of 1.2")
			}
			if f, _ := m[TLSClientHello].Get("tls.server_name"); f.String() != "device.example" {
				t.Errorf("server name %q", f)
			}
			cert := m[TLSCertificate]
			if cert == nil || cert.Cert.Expired || cert.Cert.NotYetValid || !cert.Cert.NameChecked || cert.Cert.NameMismatch || cert.Cert.SelfSigned {
				t.Errorf("certificate %+v", cert)
			}
			if m[TLSAlert] != nil || m[TLSRejected] != nil {
				t.Error("an alert or a rejection where there is none")
			}
		}},
		"1.2 expired, other name, rejected": {tlsCase{version: tls.VersionTLS12, before: 3 * time.Hour, after: -time.Hour, asked: "other.example", reject: true},
			func(t *testing.T, m map[Kind]*Message) {
				cert := m[TLSCertificate]
				if cert == nil || !cert.Cert.Expired || cert.Cert.NotYetValid || !cert.Cert.NameMismatch {
					t.Errorf("certificate %+v", cert)
				}
				if a := m[TLSAlert]; a == nil || a.Status != 42 || !a.Fatal || a.From != A {
					t.Errorf("alert %+v", a)
				}
			}},
		"1.2 not yet valid": {tlsCase{version: tls.VersionTLS12, before: -time.Hour, after: 3 * time.Hour}, func(t *testing.T, m map[Kind]*Message) {
			if cert := m[TLSCertificate]; cert == nil || cert.Cert.Expired || !cert.Cert.NotYetValid {
				t.Errorf("certificate %+v", cert)
			}
		}},
		"1.3": {tlsCase{version: tls.VersionTLS13}, func(t *testing.T, m map[Kind]*Message) {
			if m[TLSServerHello] == nil || m[TLSServerHello].Status != tls.VersionTLS13 {
				t.Error("no server hello of 1.3")
			}
			if m[TLSCertificate] != nil || m[TLSRejected] != nil || m[TLSAlert] != nil {
				t.Error("told what cannot be seen")
			}
		}},
		"1.3 rejected": {tlsCase{version: tls.VersionTLS13, reject: true}, func(t *testing.T, m map[Kind]*Message) {
			if m[TLSRejected] == nil || m[TLSRejected].From != A {
				t.Error("rejection not told")
			}
		}},
		"no common version": {tlsCase{version: tls.VersionTLS12, serverMin: tls.VersionTLS13}, func(t *testing.T, m map[Kind]*Message) {
			if a := m[TLSAlert]; a == nil || a.Status != 70 || a.From != B {
				t.Errorf("alert %+v", a)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			k := tlsTalk(t, c.tlsCase)
			all := hear(New(Config{}), k.segs)
			m := kinds(all)
			if m[Undecodable] != nil {
				t.Error("undecodable")
			}
			c.want(t, m)
		})
	}
}
