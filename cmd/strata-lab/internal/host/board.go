package host

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/strata-edge/strata/edge/diag"
)

// sure is the confidence from which a finding counts as said.
const sure = 0.5

// Claim is a cause that a finding named with confidence, at the broker.
type Claim struct {
	ID         string     `json:"id"`
	Cause      string     `json:"cause"`
	Layer      diag.Layer `json:"layer"`
	Scope      string     `json:"scope"`
	Confidence float64    `json:"confidence"`
	At         time.Time  `json:"at"`              // arrival of the message that made the claim
	Over       time.Time  `json:"over,omitzero"`   // arrival of the message that resolved the finding
	Root       string     `json:"root,omitempty"`  // the finding that it was resolved into
	Rules      string     `json:"rules,omitempty"` // what the rules alone say
	Model      string     `json:"model,omitempty"` // what the model alone says
}

// Board keeps what findings said at the broker. It is safe for several goroutines.
type Board struct {
	mu       sync.Mutex
	findings map[string]*Claim // latest state by id
	claims   []*Claim          // in order of arrival
	messages int
	bad      error
}

// message is the part of a finding that the lab judges. The whole contract is
// docs/FINDINGS.md; an update leaves out what did not change.
type message struct {
	ID         string            `json:"id"`
	State      diag.State        `json:"state"`
	Cause      string            `json:"cause"`
	Layer      *diag.Layer       `json:"layer"`
	Scope      diag.ScopeRef     `json:"scope"`
	Confidence *float64          `json:"confidence"`
	Evidence   map[string]string `json:"evidence"`
}

// Receive takes one message of the broker. What is no finding only counts.
func (b *Board) Receive(topic string, payload []byte, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.messages++
	var m message
	if err := json.Unmarshal(payload, &m); err != nil || m.ID == "" || m.State == "" {
		return
	}
	if b.findings == nil {
		b.findings = map[string]*Claim{}
	}
	f := b.findings[m.ID]
	if f == nil {
		if m.State != diag.StateOpen && b.bad == nil {
			b.bad = fmt.Errorf("%s: finding %s begins with state %q", topic, m.ID, m.State)
		}
		f = &Claim{ID: m.ID}
		b.findings[m.ID] = f
	}
	before := f.Cause
	if m.Cause != "" {
		f.Cause = m.Cause
	}
	if m.Layer != nil && m.Cause != "" {
		f.Layer = *m.Layer
	}
	if m.Scope.ID != "" {
		f.Scope = m.Scope.ID
	}
	if m.Confidence != nil {
		f.Confidence = *m.Confidence
	}
	if r, ok := m.Evidence["by.rules"]; ok {
		f.Rules = r
	}
	if r, ok := m.Evidence["by.model"]; ok {
		f.Model = r
	}
	if m.State == diag.StateResolved {
		for _, c := range b.claims {
			if c.ID == m.ID && c.Over.IsZero() {
				c.Over, c.Root = at, m.Evidence["root"]
			}
		}
		f.At = time.Time{} // opened again, it is another claim
		return
	}
	if f.Cause != before {
		f.At = time.Time{} // another cause is another claim
	}
	if f.At.IsZero() && f.Confidence >= sure {
		f.At = at
		c := *f
		b.claims = append(b.claims, &c)
	}
}

// Claims gives what was claimed at from or later, in order of arrival.
func (b *Board) Claims(from time.Time) []Claim {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []Claim
	for _, c := range b.claims {
		if !c.At.Before(from) {
			out = append(out, *c)
		}
	}
	return out
}

// Unsure gives the causes of findings that never came to the confidence of a claim.
func (b *Board) Unsure() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for _, f := range b.findings {
		if !slices.ContainsFunc(b.claims, func(c *Claim) bool { return c.ID == f.ID }) {
			out = append(out, fmt.Sprintf("%s on %s (%.2f)", f.Cause, f.Scope, f.Confidence))
		}
	}
	slices.Sort(out)
	return out
}

// Messages says how many messages came, findings or not.
func (b *Board) Messages() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.messages
}

// Err is a break of the contract that was seen.
func (b *Board) Err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bad
}
