package host

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// How an operation ended, beside "http.STATUS", "dns.RCODE" and "mqtt.CODE".
const (
	classOK          = "ok"
	classTimeout     = "timeout"
	classRefused     = "refused"
	classReset       = "reset"
	classClosed      = "closed"
	classUnreachable = "unreachable"
	classProhibited  = "prohibited"
	classExpired     = "tls.expired"
	classUnknownCA   = "tls.unknown-ca"
	classWrongName   = "tls.wrong-name"
	classTLSVersion  = "tls.version"
	classTLS         = "tls"
	classStopped     = "stopped" // the lab itself ended it
	classOther       = "other"
)

// classify says how an operation with this error ended.
func classify(err error) string {
	if err == nil {
		return classOK
	}
	var (
		invalid  x509.CertificateInvalidError
		unknown  x509.UnknownAuthorityError
		wrong    x509.HostnameError
		alert    tls.AlertError
		record   tls.RecordHeaderError
		netErr   net.Error
		syscalls syscall.Errno
	)
	switch {
	case errors.Is(err, context.Canceled):
		return classStopped
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return classExpired
	case errors.As(err, &unknown):
		return classUnknownCA
	case errors.As(err, &wrong):
		return classWrongName
	case errors.As(err, &alert) && alert == 70: // protocol_version, RFC 8446 section 6.2
		return classTLSVersion
	case errors.As(err, &alert), errors.As(err, &record), errors.As(err, &invalid):
		return classTLS
	case errors.As(err, &syscalls):
		switch syscalls {
		case syscall.ECONNREFUSED:
			return classRefused
		case syscall.ECONNRESET, syscall.EPIPE:
			return classReset
		case syscall.EHOSTUNREACH, syscall.ENETUNREACH:
			return classUnreachable
		case syscall.EACCES, syscall.EPERM:
			return classProhibited
		case syscall.ETIMEDOUT:
			return classTimeout
		}
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return classTimeout
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return classClosed
	case strings.Contains(err.Error(), "protocol version"):
		return classTLSVersion
	case strings.Contains(err.Error(), "remote error: tls:"):
		return classTLS
	}
	for code, e := range packets.ConnErrors {
		if e != nil && code <= packets.ErrRefusedNotAuthorised && errors.Is(err, e) {
			return fmt.Sprintf("mqtt.%d", code)
		}
	}
	return classOther
}
