package otlp

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/strata-edge/strata/internal/secret"
)

// The defaults.
const (
	DefaultTimeout = 20 * time.Second
	DefaultPeriod  = 60 * time.Second

	defaultPath = "/v1/metrics" // OTLP specification, OTLP/HTTP
	maxResponse = 64 << 10
)

// Config of a Client.
type Config struct {
	URL         string // http:// or https://; an empty path means /v1/metrics
	Device      string // becomes host.id and service.instance.id
	Version     string // becomes service.version
	HeadersFile string // lines of "Name: value", mode 0600
	CAFile      string // PEM; empty: the system's roots
	CertFile    string // PEM, client certificate
	KeyFile     string // PEM, mode 0600
	Timeout     time.Duration
	Period      time.Duration // of Run
	Logger      *slog.Logger
}

func (c *Config) endpoint() (*url.URL, error) {
	u, err := url.Parse(c.URL)
	switch {
	case err != nil:
		return nil, errors.New("otlp url: not a URL") // the parse error would repeat a password
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("otlp url: scheme %q is neither http nor https", u.Scheme)
	case u.User != nil:
		return nil, errors.New("otlp url: credentials belong into the headers file")
	case u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("otlp url %q: want scheme://host[:port][/path]", c.URL)
	case u.Scheme == "http" && (c.CAFile != "" || c.CertFile != ""):
		return nil, fmt.Errorf("otlp url %q: certificates need https://", c.URL)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = defaultPath
	}
	return u, nil
}

func (c *Config) headers() (map[string]string, error) {
	h := map[string]string{}
	if c.HeadersFile == "" {
		return h, nil
	}
	b, err := secret.Read(c.HeadersFile)
	if err != nil {
		return nil, fmt.Errorf("otlp headers: %w", err)
	}
	n := 0
	for line := range bytes.Lines(b) {
		n++
		s := strings.TrimSpace(string(line))
		if s == "" || s[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(s, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !ok || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return nil, fmt.Errorf("otlp headers %s: line %d is not \"Name: value\"", c.HeadersFile, n)
		}
		h[textproto.CanonicalMIMEHeaderKey(name)] = value
	}
	return h, nil
}

func (c *Config) transport() (*http.Transport, error) {
	if (c.CertFile == "") != (c.KeyFile == "") {
		return nil, errors.New("otlp: a client certificate and its key belong together")
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("otlp ca: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("otlp ca %s: no certificate in it", c.CAFile)
		}
	}
	if c.CertFile != "" {
		if _, err := c.pair(nil); err != nil {
			return nil, err
		}
		t.GetClientCertificate = c.pair // read at each handshake: certificates rotate
	}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: t, ForceAttemptHTTP2: true,
		MaxIdleConns: 2, IdleConnTimeout: 2 * DefaultPeriod, TLSHandshakeTimeout: c.Timeout,
	}, nil
}

func (c *Config) pair(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	cert, err := os.ReadFile(c.CertFile)
	if err != nil {
		return nil, fmt.Errorf("otlp certificate: %w", err)
	}
	key, err := secret.Read(c.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("otlp key: %w", err)
	}
	p, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("otlp certificate %s with key %s: %w", c.CertFile, c.KeyFile, err)
	}
	return &p, nil
}
