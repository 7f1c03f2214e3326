package mqtt

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/strata-edge/strata/internal/secret"
)

// The defaults and bounds.
const (
	// MaxPayload keeps below the 128 KiB at which the large cloud brokers cut.
	MaxPayload = 120 << 10

	DefaultKeepAlive  = 60 * time.Second
	DefaultMinBackoff = time.Second
	DefaultMaxBackoff = 2 * time.Minute

	connectTimeout = 20 * time.Second
	writeTimeout   = 20 * time.Second
	ackTimeout     = 30 * time.Second
)

// Config of a Client.
type Config struct {
	URL      string // mqtt:// tcp:// (port 1883) or mqtts:// ssl:// tls:// (port 8883); no credentials in it
	Device   string // topic level: no '/', '+', '#' and no control characters
	ClientID string // empty: "strata-" and the device
	Version  string // of the agent, for the birth message

	UsernameFile string // one line, mode 0600
	PasswordFile string // one line, mode 0600

	CAFile     string // PEM; empty: the system's roots
	CertFile   string // PEM, client certificate
	KeyFile    string // PEM, mode 0600
	ServerName string // empty: the URL's host

	// Sequence numbers the connections, growing over restarts; nil counts from 1.
	Sequence func() (uint64, error)

	KeepAlive  time.Duration
	MinBackoff time.Duration
	MaxBackoff time.Duration
	Logger     *slog.Logger
}

// endpoint gives the broker in paho's terms.
func (c *Config) endpoint() (address string, secure bool, host string, err error) {
	u, err := url.Parse(c.URL)
	if err != nil {
		return "", false, "", errors.New("mqtt url: not a URL") // the parse error would repeat a password
	}
	port := "1883"
	switch u.Scheme {
	case "mqtt", "tcp":
	case "mqtts", "ssl", "tls":
		secure, port = true, "8883"
	default:
		return "", false, "", fmt.Errorf("mqtt url: scheme %q is none of mqtt, tcp, mqtts, ssl, tls", u.Scheme)
	}
	if u.User != nil {
		return "", false, "", errors.New("mqtt url: credentials belong into files, not into the URL")
	}
	if u.Hostname() == "" || (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "" {
		return "", false, "", fmt.Errorf("mqtt url %q: want scheme://host[:port]", c.URL)
	}
	if p := u.Port(); p != "" {
		port = p
	}
	scheme := "tcp"
	if secure {
		scheme = "ssl"
	}
	return scheme + "://" + net.JoinHostPort(u.Hostname(), port), secure, u.Hostname(), nil
}

// check finds what is wrong without connecting.
func (c *Config) check() error {
	_, secure, _, err := c.endpoint()
	if err != nil {
		return err
	}
	if c.Device == "" || strings.ContainsAny(c.Device, "/+#") || strings.ContainsFunc(c.Device, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Errorf("mqtt device %q: must be one topic level", c.Device)
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		return errors.New("mqtt: a client certificate and its key belong together")
	}
	if !secure && (c.CAFile != "" || c.CertFile != "") {
		return fmt.Errorf("mqtt url %q: certificates need mqtts://", c.URL)
	}
	if c.PasswordFile != "" && c.UsernameFile == "" {
		return errors.New("mqtt: a password needs a user name (MQTT 3.1.1, 3.1.2.9)")
	}
	if _, _, err := c.credentials(); err != nil {
		return err
	}
	if secure {
		if _, err := c.tls(""); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) credentials() (user, password string, err error) {
	if c.UsernameFile != "" {
		if user, err = secret.Line(c.UsernameFile); err != nil {
			return "", "", fmt.Errorf("mqtt user name: %w", err)
		}
	}
	if c.PasswordFile != "" {
		if password, err = secret.Line(c.PasswordFile); err != nil {
			return "", "", fmt.Errorf("mqtt password: %w", err)
		}
	}
	return user, password, nil
}

// tls reads the certificates anew: they rotate.
func (c *Config) tls(host string) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	if t.ServerName == "" {
		t.ServerName = host
	}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("mqtt ca: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("mqtt ca %s: no certificate in it", c.CAFile)
		}
	}
	if c.CertFile != "" {
		cert, err := os.ReadFile(c.CertFile)
		if err != nil {
			return nil, fmt.Errorf("mqtt certificate: %w", err)
		}
		key, err := secret.Read(c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("mqtt key: %w", err)
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("mqtt certificate %s with key %s: %w", c.CertFile, c.KeyFile, err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}
