package host

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"
)

// serverName is the name that the TLS clients ask for.
const serverName = "telemetry.lab.example"

// The certificates that the TLS service can show.
const (
	certGood    = "good"
	certExpired = "expired"
	certOther   = "other-ca"
	certName    = "wrong-name"
)

// pair is a certificate chain and its key, both PEM.
type pair struct {
	Cert []byte `json:"cert"`
	Key  []byte `json:"key"`
}

// pki is one authority and the certificates of the TLS service, good and bad.
type pki struct {
	Root  []byte          `json:"root"` // PEM
	Certs map[string]pair `json:"certs"`
}

func newPKI(now time.Time) (*pki, error) {
	root, rootKey, err := authority("Lab Root", now)
	if err != nil {
		return nil, err
	}
	other, otherKey, err := authority("Other Root", now)
	if err != nil {
		return nil, err
	}
	out := &pki{
		Root:  pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw}),
		Certs: map[string]pair{},
	}
	year := 365 * 24 * time.Hour
	for _, c := range []struct {
		kind, name string
		from, to   time.Time
		by         *x509.Certificate
		key        *ecdsa.PrivateKey
	}{
		{certGood, serverName, now.Add(-24 * time.Hour), now.Add(year), root, rootKey},
		{certExpired, serverName, now.Add(-year), now.Add(-48 * time.Hour), root, rootKey},
		{certOther, serverName, now.Add(-24 * time.Hour), now.Add(year), other, otherKey},
		{certName, "elsewhere.example", now.Add(-24 * time.Hour), now.Add(year), root, rootKey},
	} {
		p, err := leaf(c.name, c.from, c.to, c.by, c.key)
		if err != nil {
			return nil, fmt.Errorf("certificate %s: %w", c.kind, err)
		}
		out.Certs[c.kind] = p
	}
	return out, nil
}

func authority(name string, now time.Time) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("key of %s: %w", name, err)
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-2 * 365 * 24 * time.Hour),
		NotAfter:     now.Add(10 * 365 * 24 * time.Hour),
		IsCA:         true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate of %s: %w", name, err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate of %s: %w", name, err)
	}
	return c, key, nil
}

func leaf(name string, from, to time.Time, by *x509.Certificate, byKey *ecdsa.PrivateKey) (pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair{}, err
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(to.UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		DNSNames:     []string{name},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:    from, NotAfter: to,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, by, &key.PublicKey, byKey)
	if err != nil {
		return pair{}, err
	}
	kb, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return pair{}, err
	}
	return pair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: kb}),
	}, nil
}
