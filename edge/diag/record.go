package diag

import "time"

// Time is event time in nanoseconds on CLOCK_BOOTTIME (it goes on through suspend). In a
// replay it is the capture's own time in nanoseconds since the Unix epoch.
type Time int64

// Add gives the time d later.
func (t Time) Add(d time.Duration) Time { return t + Time(d) }

// Sub gives the duration from u to t.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }

// Clock turns event time into wall time: Wall = boot time + Offset. Synced says whether
// the wall clock is known to be right (NTP, GNSS); findings carry it so that a console
// can re-date them. Boot is the kernel's boot id.
type Clock struct {
	Offset time.Duration
	Synced bool
	Boot   string
}

// Wall gives t as wall time, to the millisecond: more is paid by the byte and says nothing.
func (c Clock) Wall(t Time) time.Time {
	return time.Unix(0, int64(t)).Add(c.Offset).UTC().Truncate(time.Millisecond)
}

// Attr is one detail that travels as evidence. Key follows OpenTelemetry's semantic
// conventions where they have a name ("http.response.status_code").
type Attr struct {
	Key, Value string
}

// Signal is one raw measurement of one source about one scope.
type Signal struct {
	Time   Time
	Source string  // "flow", "link", "disk", "can", …
	Name   string  // the source's own name: "tcp.retransmits", "nvme.media_errors"
	Scope  Scope   // what it is about
	Path   []Scope // what the scope depends on, nearest first (service: host, next hop, if); nil where nothing
	Value  float64
	Hold   time.Duration // how long a level or state stands without a new report; 0: a level one window, a state until its end
	Attrs  []Attr
}

// Event is a measurement in the one vocabulary: a Signal that the matrix has mapped.
type Event struct {
	Time  Time
	Code  Code
	Scope Scope
	Path  []Scope
	Value float64
	Hold  time.Duration
	Attrs []Attr
}

// Observation is what one code showed on one scope within an episode's window.
type Observation struct {
	Code        Code
	Value       float64 // count: sum; level: largest; state: latest
	First, Last Time    // of non-zero values; First reaches back to the onset where it is older than the window
	Attrs       []Attr  // of the latest event that had any
}

// Symptom says whether the observation is a sign of trouble: above zero and of a code
// that is no mere denominator.
func (o *Observation) Symptom() bool {
	i, ok := codeIndex[o.Code]
	return ok && o.Value > 0 && !codeTable[i].Context
}

// Node is one scope of an episode: what was seen on it and what it depends on.
type Node struct {
	Scope        Scope
	Path         []Scope
	Observations []Observation // sorted by code
}

// Value gives what the node shows of code; 0 where nothing was seen.
func (n *Node) Value(code Code) float64 {
	if o := n.Observation(code); o != nil {
		return o.Value
	}
	return 0
}

// Observation gives what the node shows of code, or nil.
func (n *Node) Observation(code Code) *Observation {
	for i := range n.Observations {
		if n.Observations[i].Code == code {
			return &n.Observations[i]
		}
	}
	return nil
}

// Onset gives the time of the node's earliest symptom; ok is false where it has none.
func (n *Node) Onset() (t Time, ok bool) {
	for i := range n.Observations {
		if o := &n.Observations[i]; o.Symptom() && (!ok || o.First < t) {
			t, ok = o.First, true
		}
	}
	return t, ok
}

// Episode is a window of event time over the scopes that belong together.
type Episode struct {
	ID         uint64
	Start, End Time
	Nodes      []Node // sorted by scope, so that the same events give the same episode
}

// State is where a finding is in its life.
type State string

// The states.
const (
	StateOpen     State = "open"
	StateUpdate   State = "update"
	StateResolved State = "resolved"
)

// Severity grades what a finding means for the device.
type Severity string

// The severities.
const (
	SeverityInfo     Severity = "info"
	SeverityWarning  Severity = "warning"
	SeverityError    Severity = "error"
	SeverityCritical Severity = "critical"
)

// Link is one step of a finding's chain.
type Link struct {
	Layer Layer     `json:"layer"`
	Code  Code      `json:"code"`
	Scope Scope     `json:"scope"`
	Time  time.Time `json:"time"`
	Value float64   `json:"value"`
}

// Alternative is a cause that was considered and not chosen.
type Alternative struct {
	Cause      string  `json:"cause"`
	Confidence float64 `json:"confidence"`
}

// ScopeRef is a scope as findings carry it.
type ScopeRef struct {
	Kind string `json:"kind"`
	ID   string `json:"id"`
}

// Ref gives s as findings carry it: the kind and the whole id.
func (s Scope) Ref() ScopeRef { return ScopeRef{Kind: s.Kind.String(), ID: s.String()} }

// ModelRef names the model that took part in a decision; empty without one.
type ModelRef struct {
	Version string `json:"version,omitempty"`
	Schema  string `json:"schema,omitempty"`
}

// Finding is the verdict that leaves the device. docs/FINDINGS.md is its contract.
// An update carries only id, time, last, state, severity, confidence and what changed.
type Finding struct {
	ID           string            `json:"id"`
	Device       string            `json:"device,omitempty"`
	Time         time.Time         `json:"time"`
	First        time.Time         `json:"first,omitzero"`
	Last         time.Time         `json:"last,omitzero"`
	Layer        Layer             `json:"layer"`
	Cause        string            `json:"cause"`
	Code         Code              `json:"code,omitzero"`
	Scope        ScopeRef          `json:"scope"`
	Severity     Severity          `json:"severity,omitempty"`
	Confidence   float64           `json:"confidence"`
	State        State             `json:"state"`
	Chain        []Link            `json:"chain,omitempty"`
	Alternatives []Alternative     `json:"alternatives,omitempty"`
	Adjusted     string            `json:"adjusted,omitempty"`
	Evidence     map[string]string `json:"evidence,omitempty"`
	Model        *ModelRef         `json:"model,omitempty"`
}
