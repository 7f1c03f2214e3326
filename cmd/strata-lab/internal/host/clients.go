package host

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/miekg/dns"
)

// worker does one Work until its context ends.
type worker struct {
	Work
	modes
	rnd    *rand.Rand
	report func(Op)
	once   func(context.Context) error
	end    func()
	cancel context.CancelFunc // set by the node that runs it
}

// work prepares a worker of the kind that the plan names.
func (n *node) work(w Work) (*worker, error) {
	k := &worker{
		Work: w,
		rnd:  rand.New(rand.NewPCG(w.Seed, 1)),
		end:  func() {},
		report: func(o Op) {
			if o.Class != classStopped {
				n.write(note{Op: &o})
			}
		},
	}
	switch w.Kind {
	case workGet, workPost:
		k.overHTTP(nil)
	case workSecure:
		if n.pki == nil {
			return nil, fmt.Errorf("work %s: nobody to trust yet", w.Name)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(n.pki.Root) {
			return nil, fmt.Errorf("work %s: the root certificate does not parse", w.Name)
		}
		k.overHTTP(&tls.Config{RootCAs: roots, ServerName: serverName, MinVersion: tls.VersionTLS12, MaxVersion: w.MaxTLS})
	case workLookup:
		k.once = k.lookup
	case workReport:
		k.overMQTT()
	case workPush:
		k.once = k.push
	case workPull:
		k.once = k.pull
	default:
		return nil, fmt.Errorf("work %s: no such kind %q", w.Name, w.Kind)
	}
	return k, nil
}

func (k *worker) set(m mode) { k.put(m) }

// run works at the plan's pace. Pauses vary by a half each way, so that nothing runs in step.
func (k *worker) run(ctx context.Context) {
	defer k.end()
	pause := time.NewTimer(time.Duration(k.rnd.Int64N(int64(k.Every))))
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		start := time.Now()
		opCtx, cancel := context.WithTimeout(ctx, k.Timeout)
		err := k.once(opCtx)
		late := errors.Is(opCtx.Err(), context.DeadlineExceeded)
		cancel()
		if ctx.Err() != nil {
			return
		}
		op := Op{Start: start, Took: time.Since(start), Work: k.Name, Kind: k.Kind, Service: k.Service, Class: classOf(err)}
		if err != nil {
			op.Detail = err.Error()
		}
		if late && op.Class == classOther {
			op.Class = classTimeout // the connection was closed because the time was up
		}
		k.report(op)
		pause.Reset(k.Every/2 + time.Duration(k.rnd.Int64N(int64(k.Every))))
	}
}

// answered is an operation that got an answer, of the wrong kind.
type answered struct{ class string }

func (a answered) Error() string { return "answered " + a.class }

func classOf(err error) string {
	var a answered
	if errors.As(err, &a) {
		return a.class
	}
	return classify(err)
}

func (k *worker) size() int { return k.Min + k.rnd.IntN(max(k.Max-k.Min, 1)) }

func (k *worker) dialer() *net.Dialer {
	return &net.Dialer{KeepAlive: -1, Control: bufferControl(k.Buffer)}
}

func (k *worker) overHTTP(config *tls.Config) {
	transport := &http.Transport{
		DialContext:         k.dialer().DialContext,
		TLSClientConfig:     config,
		DisableKeepAlives:   !k.Keep,
		MaxIdleConns:        2,
		IdleConnTimeout:     time.Minute,
		DisableCompression:  true,
		MaxConnsPerHost:     4,
		TLSHandshakeTimeout: k.Timeout,
	}
	client := &http.Client{Transport: transport}
	k.end = transport.CloseIdleConnections
	scheme := "http"
	if config != nil {
		scheme = "https"
	}
	k.once = func(ctx context.Context) error {
		url := fmt.Sprintf("%s://%s/api/v1/items/%d?n=%d", scheme, k.Addr, k.rnd.IntN(1000), k.size())
		method, body := http.MethodGet, []byte(nil)
		if k.Kind == workPost {
			url = fmt.Sprintf("%s://%s/api/v1/readings", scheme, k.Addr)
			method, body = http.MethodPost, bytes.Repeat([]byte{'r'}, k.size())
		}
		req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("User-Agent", "lab-client/1")
		res, err := client.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			return err
		}
		if res.StatusCode >= 400 {
			return answered{fmt.Sprintf("http.%d", res.StatusCode)}
		}
		return nil
	}
}

// lookup asks for a name that no cache knows.
func (k *worker) lookup(ctx context.Context) error {
	q := new(dns.Msg)
	kind := dns.TypeA
	if k.rnd.IntN(3) == 0 {
		kind = dns.TypeAAAA
	}
	name := strings.Repeat("a", 1+k.rnd.IntN(12))
	q.SetQuestion(fmt.Sprintf("%s%d.lab.example.", name, k.rnd.IntN(10_000)), kind)
	c := dns.Client{Timeout: k.Timeout}
	a, _, err := c.ExchangeContext(ctx, q, k.Addr.String())
	if err != nil {
		return err
	}
	if a.Rcode != dns.RcodeSuccess {
		return answered{fmt.Sprintf("dns.%d", a.Rcode)}
	}
	return nil
}

// overMQTT keeps a session and publishes; a lost session is opened anew at the next turn.
func (k *worker) overMQTT() {
	var client paho.Client
	k.end = func() {
		if client != nil {
			client.Disconnect(50)
		}
	}
	k.once = func(ctx context.Context) error {
		if client == nil || !client.IsConnectionOpen() {
			opts := paho.NewClientOptions().
				AddBroker("tcp://" + k.Addr.String()).
				SetClientID("station-" + k.Name).
				SetUsername("station").SetPassword("secret").
				SetProtocolVersion(4).
				SetAutoReconnect(false).
				SetConnectRetry(false).
				SetKeepAlive(15 * time.Second).
				SetConnectTimeout(k.Timeout).
				SetWriteTimeout(k.Timeout).
				SetDialer(k.dialer())
			client = paho.NewClient(opts)
			if err := wait(ctx, client.Connect()); err != nil {
				client = nil
				return err
			}
		}
		return wait(ctx, client.Publish("site/"+k.Name, 1, false, bytes.Repeat([]byte{'m'}, k.size())))
	}
}

func wait(ctx context.Context, t paho.Token) error {
	select {
	case <-t.Done():
		return t.Error()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// bulkConn opens a connection whose deadline and end are the context's.
func (k *worker) bulkConn(ctx context.Context, size int) (net.Conn, func(), error) {
	c, err := k.dialer().DialContext(ctx, "tcp", k.Addr.String())
	if err != nil {
		return nil, nil, err
	}
	if d, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(d)
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	var head [8]byte
	binary.BigEndian.PutUint64(head[:], uint64(size))
	if _, err := c.Write(head[:]); err != nil {
		stop()
		_ = c.Close()
		return nil, nil, err
	}
	return c, func() { stop(); _ = c.Close() }, nil
}

// push sends a bulk and waits until the server has all of it.
func (k *worker) push(ctx context.Context) error {
	size := k.size()
	c, end, err := k.bulkConn(ctx, size)
	if err != nil {
		return err
	}
	defer end()
	if _, err := c.Write(bytes.Repeat([]byte{'d'}, size)); err != nil {
		return err
	}
	_, err = io.ReadFull(c, make([]byte, 1))
	return err
}

// pull fetches a bulk. With the fault "stall" it stops reading in the middle and holds the
// connection until its time is up.
func (k *worker) pull(ctx context.Context) error {
	size := k.size()
	c, end, err := k.bulkConn(ctx, size)
	if err != nil {
		return err
	}
	defer end()
	buf := make([]byte, 4096)
	for got := 0; got < size; {
		if m, changed := k.get(); m.Fault == faultStall && got > size/4 {
			select {
			case <-changed:
			case <-ctx.Done():
				return ctx.Err()
			}
			continue
		}
		n, err := c.Read(buf)
		got += n
		if err != nil && got < size {
			return err
		}
	}
	return nil
}
