package diag

import "fmt"

// Layer is an OSI layer, 1 to 7. Layer 0 is about Strata itself and what is undetermined.
type Layer uint8

// Code names one kind of observation, e.g. L4.TCP.RETRANSMIT. Its number is stable for
// ever: it is what records and the wire carry.
type Code uint16

// Kind says how values of a code add up.
type Kind uint8

// The kinds of a code's value.
const (
	KindCount Kind = iota // how many since the last report: values add up
	KindLevel             // a reading: the latest (for features: the largest) counts
	KindState             // 1 while it holds, 0 when it ends
)

// CodeInfo is what codes.yaml says of a code.
type CodeInfo struct {
	Code     Code
	Name     string
	Layer    Layer
	Kind     Kind
	Unit     string // UCUM, as OpenTelemetry writes units
	Title    string
	Context  bool // no symptom, only a denominator
	Decisive bool // one event is enough to look at once
	Obsolete bool
}

// Info gives what codes.yaml says of c; ok is false for a number that was never given.
func (c Code) Info() (info CodeInfo, ok bool) {
	i, ok := codeIndex[c]
	if !ok {
		return CodeInfo{Code: c}, false
	}
	return codeTable[i], true
}

// String gives the code's name, or "code(n)" for a number that was never given.
func (c Code) String() string {
	if i, ok := codeIndex[c]; ok {
		return codeTable[i].Name
	}
	return fmt.Sprintf("code(%d)", uint16(c))
}

// Layer gives the code's layer.
func (c Code) Layer() Layer {
	if i, ok := codeIndex[c]; ok {
		return codeTable[i].Layer
	}
	return 0
}

// ParseCode reads a code's name.
func ParseCode(name string) (Code, error) {
	c, ok := codeByName[name]
	if !ok {
		return 0, fmt.Errorf("unknown code %q (docs/CODES.md has the list)", name)
	}
	return c, nil
}

// Codes gives every code, in the order of codes.yaml. The slice is the caller's.
func Codes() []CodeInfo { return append([]CodeInfo(nil), codeTable[:]...) }

// MarshalText writes the name.
func (c Code) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads the name.
func (c *Code) UnmarshalText(b []byte) error {
	v, err := ParseCode(string(b))
	if err != nil {
		return err
	}
	*c = v
	return nil
}

// CodeMin is a code with the least value at which it counts as evidence.
type CodeMin struct {
	Code Code
	Min  float64
}

// Cause is what causes.yaml says of a root cause.
type Cause struct {
	ID        string // "l3.mtu.blackhole"
	Class     int    // index in the model's output
	Layer     Layer
	Scopes    []ScopeKind
	Title     string
	Advice    string
	Any       []CodeMin // evidence: at least one
	All       []CodeMin // evidence: every one
	None      []Code    // evidence: not on the same scope
	Over      []CodeMin // Min is the share that the first Any code must reach of Code
	Spread    float64   // seconds over which the evidence must have been seen
	Peers     int       // how many dependent scopes must show a symptom
	Explains  []Code    // codes of dependent scopes that this cause accounts for
	Observe   []string  // sources that must be readable
	Untrained bool      // the rule decides alone
}

// CauseByID finds a cause; ok is false for an unknown id.
func CauseByID(id string) (c *Cause, ok bool) {
	i, ok := causeByID[id]
	if !ok {
		return nil, false
	}
	return &causeTable[i], true
}

// Causes gives every cause in the order of causes.yaml. The entries are shared: read only.
func Causes() []*Cause {
	out := make([]*Cause, len(causeTable))
	for i := range causeTable {
		out[i] = &causeTable[i]
	}
	return out
}

// On says whether the cause can sit on a scope of kind k.
func (c *Cause) On(k ScopeKind) bool {
	for _, s := range c.Scopes {
		if s == k {
			return true
		}
	}
	return false
}

// Accounts says whether the cause explains code on a dependent scope.
func (c *Cause) Accounts(code Code) bool {
	for _, e := range c.Explains {
		if e == code {
			return true
		}
	}
	return false
}
