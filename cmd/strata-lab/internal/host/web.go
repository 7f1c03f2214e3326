package host

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// web is an HTTP server, over TLS where it has certificates.
type web struct {
	modes
	addr  string
	certs map[string]tls.Certificate
	tls13 bool
	wg    *sync.WaitGroup

	mu     sync.Mutex
	server *http.Server
}

func newWeb(n *node, s Service, p *pki) (*web, error) {
	w := &web{addr: s.Addr.String(), wg: &n.wg, tls13: n.tls13}
	if p != nil {
		w.certs = map[string]tls.Certificate{}
		for kind, pem := range p.Certs {
			c, err := tls.X509KeyPair(pem.Cert, pem.Key)
			if err != nil {
				return nil, fmt.Errorf("serve https on %s: certificate %s: %w", w.addr, kind, err)
			}
			w.certs[kind] = c
		}
	}
	return w, w.start()
}

func (w *web) start() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.server != nil {
		return nil
	}
	ln, err := listen(w.addr, 0)
	if err != nil {
		return err
	}
	if w.certs != nil {
		ln = tls.NewListener(ln, &tls.Config{GetConfigForClient: w.config, Certificates: []tls.Certificate{w.certs[certGood]}})
	}
	server := &http.Server{
		Handler:           http.HandlerFunc(w.answer),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	w.server = server
	w.wg.Go(func() { _ = server.Serve(ln) })
	return nil
}

func (w *web) stop() error {
	w.mu.Lock()
	server := w.server
	w.server = nil
	w.mu.Unlock()
	if server == nil {
		return nil
	}
	return server.Close()
}

func (w *web) close() error {
	w.put(mode{Fault: faultStop})
	return w.stop()
}

func (w *web) set(m mode) error {
	w.put(m)
	if m.Fault == faultStop {
		return w.stop()
	}
	return w.start()
}

// config picks certificate, versions and suites for one handshake.
func (w *web) config(*tls.ClientHelloInfo) (*tls.Config, error) {
	m, _ := w.get()
	kind := m.Cert
	if kind == "" {
		kind = certGood
	}
	c := &tls.Config{Certificates: []tls.Certificate{w.certs[kind]}, MinVersion: tls.VersionTLS12, SessionTicketsDisabled: true}
	if !w.tls13 {
		c.MaxVersion = tls.VersionTLS12
	}
	switch m.Fault {
	case faultVersion:
		c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	case faultCipher:
		// The key is ECDSA: a suite that authenticates with RSA can never be chosen.
		c.MaxVersion = tls.VersionTLS12
		c.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	}
	return c, nil
}

// answer serves GET /?n=BYTES and POST.
func (w *web) answer(rw http.ResponseWriter, r *http.Request) {
	m, changed := w.get()
	switch m.Fault {
	case faultStall:
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	case faultSlow:
		// The body is read first: it is the answer that is late, not the reading.
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-time.After(m.Delay/2 + rand.N(m.Delay)):
		case <-r.Context().Done():
			return
		}
	case faultStatus:
		_, _ = io.Copy(io.Discard, r.Body)
		if m.Code == http.StatusUnauthorized {
			rw.Header().Set("WWW-Authenticate", `Bearer realm="lab"`)
		}
		http.Error(rw, http.StatusText(m.Code), m.Code)
		return
	}
	if r.Method == http.MethodPost {
		k, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			return
		}
		_, _ = fmt.Fprintf(rw, "%d bytes\n", k)
		return
	}
	size, _ := strconv.Atoi(r.URL.Query().Get("n"))
	size = min(max(size, 0), 1<<20)
	rw.Header().Set("Content-Type", "application/octet-stream")
	rw.Header().Set("Content-Length", strconv.Itoa(size))
	_, _ = rw.Write(make([]byte, size)) // the client says what it got
}

// names is a DNS server that knows every name.
type names struct {
	modes
	addr string

	mu     sync.Mutex
	server *dns.Server
	done   chan struct{}
}

func newNames(s Service) (*names, error) {
	n := &names{addr: s.Addr.String()}
	return n, n.start()
}

func (n *names) start() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.server != nil {
		return nil
	}
	pc, err := net.ListenPacket("udp", n.addr)
	if err != nil {
		return fmt.Errorf("serve dns on %s: %w", n.addr, err)
	}
	n.server = &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(n.answer)}
	n.done = make(chan struct{})
	go func(server *dns.Server, done chan struct{}) {
		defer close(done)
		_ = server.ActivateAndServe()
	}(n.server, n.done)
	return nil
}

func (n *names) close() error {
	n.mu.Lock()
	server, done := n.server, n.done
	n.server = nil
	n.mu.Unlock()
	if server == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := server.ShutdownContext(ctx)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("end dns on %s: %w", n.addr, err)
	}
	<-done
	return nil
}

func (n *names) set(m mode) error {
	n.put(m)
	if m.Fault == faultStop {
		return n.close()
	}
	return n.start()
}

func (n *names) answer(w dns.ResponseWriter, q *dns.Msg) {
	m, _ := n.get()
	if m.Fault == faultSilent {
		return
	}
	a := new(dns.Msg)
	a.SetReply(q)
	a.RecursionAvailable = true
	if m.Fault == faultStatus {
		a.Rcode = m.Code
	} else if len(q.Question) == 1 {
		h := dns.RR_Header{Name: q.Question[0].Name, Rrtype: q.Question[0].Qtype, Class: dns.ClassINET, Ttl: 60}
		switch q.Question[0].Qtype {
		case dns.TypeA:
			a.Answer = []dns.RR{&dns.A{Hdr: h, A: net.IPv4(192, 0, 2, byte(1+len(h.Name)%250))}}
		case dns.TypeAAAA:
			a.Answer = []dns.RR{&dns.AAAA{Hdr: h, AAAA: net.ParseIP("2001:db8::1")}}
		}
	}
	_ = w.WriteMsg(a) // a client that does not get it reports a time-out
}
