package diag

import (
	"fmt"
	"strings"
)

// ScopeKind is the kind of thing that a measurement or a finding is about, ordered
// from the narrowest to the widest impact.
type ScopeKind uint8

// The kinds. The order is the order of impact.
const (
	ScopeUnknown ScopeKind = iota
	ScopeFlow
	ScopeProc
	ScopeService
	ScopeHost
	ScopeIf
	ScopeDisk
	ScopeCAN
	ScopeRail
	ScopeRadio
	ScopeGNSS
	ScopeSerial
	ScopeDevice
	ScopeSite
	scopeKinds
)

var scopeNames = [scopeKinds]string{
	"", "flow", "proc", "service", "host", "if", "disk", "can", "rail", "radio", "gnss", "serial", "device", "site",
}

// String gives the kind as it stands before the colon of a scope id.
func (k ScopeKind) String() string {
	if k >= scopeKinds {
		return fmt.Sprintf("kind(%d)", uint8(k))
	}
	return scopeNames[k]
}

// ParseScopeKind reads what String writes.
func ParseScopeKind(s string) (ScopeKind, error) {
	for k := ScopeFlow; k < scopeKinds; k++ {
		if scopeNames[k] == s {
			return k, nil
		}
	}
	return ScopeUnknown, fmt.Errorf("unknown scope kind %q", s)
}

// Scope names one thing. Its ID follows one grammar:
//
//	flow:tcp/IP:port-IP:port@if   service:tcp/IP:port   host:IP   if:eth0
//	disk:SERIAL   can:can0   rail:NAME   radio:wwan0   gnss:NAME   serial:ttyS1
//	proc:NAME/PID   device   site
//
// ID is the part behind the colon; IPv6 addresses with a port stand in brackets.
// A Scope is comparable and serves as a map key.
type Scope struct {
	Kind ScopeKind
	ID   string
}

// Device is the scope of the device that Strata runs on.
var Device = Scope{Kind: ScopeDevice}

// String gives the whole id, e.g. "service:tcp/192.0.2.7:443".
func (s Scope) String() string {
	if s.ID == "" {
		return s.Kind.String()
	}
	return s.Kind.String() + ":" + s.ID
}

// IsZero says whether the scope names nothing.
func (s Scope) IsZero() bool { return s.Kind == ScopeUnknown }

// ParseScope reads what String writes.
func ParseScope(s string) (Scope, error) {
	kind, id, found := strings.Cut(s, ":")
	k, err := ParseScopeKind(kind)
	if err != nil {
		return Scope{}, fmt.Errorf("scope %q: %w", s, err)
	}
	bare := k == ScopeDevice || k == ScopeSite
	if found == (id == "") || (!found && !bare) {
		return Scope{}, fmt.Errorf("scope %q: %s needs a name behind one colon", s, k)
	}
	return Scope{Kind: k, ID: id}, nil
}

// MarshalText writes the whole id.
func (s Scope) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the whole id.
func (s *Scope) UnmarshalText(b []byte) error {
	v, err := ParseScope(string(b))
	if err != nil {
		return err
	}
	*s = v
	return nil
}
