package dissect

import (
	"bytes"
	"crypto/x509"
	"net"
	"strings"
	"time"
)

const maxSANs = 8

// certificate tells what the server's own certificate says. Trust is not judged: no
// roots are at hand, and the peer's alert tells what it thought.
func (t *Table) certificate(f *flow, h *half, der []byte, wall int64) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.drop(DropCertificate)
		return
	}
	facts := Cert{
		NotBefore:  c.NotBefore,
		NotAfter:   c.NotAfter,
		SelfSigned: bytes.Equal(c.RawIssuer, c.RawSubject),
	}
	if wall != 0 {
		now := time.Unix(0, wall)
		facts.Expired = now.After(c.NotAfter)
		facts.NotYetValid = now.Before(c.NotBefore)
	}
	facts.NameChecked, facts.NameMismatch = compareName(c, string(f.tls.serverName))
	b := t.begin(TLSCertificate, TLS, f.key, h.side, h.bufTime, wall)
	b.msg.Cert = &facts
	b.num("tls.handshake.type", typeCertificate)
	b.str("tls.handshake.type.name", "certificate")
	b.str("tls.server.subject", c.Subject.String())
	b.str("tls.server.issuer", c.Issuer.String())
	b.str("tls.server.not_before", c.NotBefore.UTC().Format(time.RFC3339))
	b.str("tls.server.not_after", c.NotAfter.UTC().Format(time.RFC3339))
	for i, name := range c.DNSNames {
		if i == maxSANs {
			break
		}
		b.str("tls.server.san", name)
	}
	t.send()
}

// compareName holds the certificate against the name the client asked for. A certificate
// without alternative names is held against its common name, as older clients do.
func compareName(c *x509.Certificate, name string) (checked, mismatch bool) {
	name = strings.TrimSuffix(name, ".")
	if name == "" || net.ParseIP(name) != nil {
		return false, false
	}
	if len(c.DNSNames) == 0 && len(c.IPAddresses) == 0 {
		if c.Subject.CommonName == "" {
			return false, false
		}
		legacy := x509.Certificate{DNSNames: []string{c.Subject.CommonName}}
		legacy.Extensions = c.Extensions
		return true, legacy.VerifyHostname(name) != nil && !strings.EqualFold(c.Subject.CommonName, name)
	}
	return true, c.VerifyHostname(name) != nil
}
