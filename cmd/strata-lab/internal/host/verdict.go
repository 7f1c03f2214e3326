package host

import (
	"slices"
	"time"
)

// Truth is what was done to the site, and when it could be seen first.
type Truth struct {
	Causes  []string      // ids that are right
	Scopes  []string      // scopes that are right
	Onset   time.Time     // the site was changed
	Symptom time.Time     // the first operation or packet that suffered
	Until   time.Time     // the site had recovered: later claims belong to something else
	Limit   time.Duration // from symptom to claim
}

// Outcome grades a diagnosis.
type Outcome string

// The outcomes. Only right is a success.
const (
	Right      Outcome = "right"
	WrongCause Outcome = "WRONG"     // the first claim names another cause
	WrongScope Outcome = "MISPLACED" // the first claim names the cause, on the wrong scope
	Extra      Outcome = "EXTRA"     // the first claim is right; a later one is not
	Late       Outcome = "LATE"
	Missed     Outcome = "MISSED"
	NoEffect   Outcome = "NO EFFECT" // the lab's own failure: the fault was not seen to work
)

// Verdict says what a diagnosis was worth.
type Verdict struct {
	Outcome Outcome
	Claim   Claim         // the one that decides; zero where none came
	Took    time.Duration // from the symptom to the claim
	Repeats []Claim       // later ones that are right, too: the cause on other right scopes
	Extras  []Claim       // later ones that are wrong
	Asides  []Claim       // about Strata itself or undetermined: shown, not graded
	Rules   bool          // what the rules alone say of that scope is right
	Model   bool
}

// Judge grades claims against the truth.
//
// Claims between onset and recovery count. The first one that is not of layer 0 decides:
// its cause and its scope must be right, and it must come within the limit. A later claim
// of another cause or place makes the whole wrong, unless Strata itself has resolved it
// into the finding that decided.
func Judge(t Truth, claims []Claim) Verdict {
	var v Verdict
	v.Outcome = Missed
	for _, c := range claims {
		if c.At.Before(t.Onset) || !t.Until.IsZero() && !c.At.Before(t.Until) {
			continue
		}
		right := slices.Contains(t.Causes, c.Cause)
		here := slices.Contains(t.Scopes, c.Scope)
		switch {
		case c.Layer == 0:
			v.Asides = append(v.Asides, c)
		case v.Outcome == Missed:
			v.Claim = c
			v.Took = max(c.At.Sub(t.Symptom), 0)
			v.Rules = slices.Contains(t.Causes, c.Rules)
			v.Model = slices.Contains(t.Causes, c.Model)
			switch {
			case !right:
				v.Outcome = WrongCause
			case !here:
				v.Outcome = WrongScope
			case v.Took > t.Limit:
				v.Outcome = Late
			default:
				v.Outcome = Right
			}
		case right && here:
			v.Repeats = append(v.Repeats, c)
		case c.Root == "" || c.Root != v.Claim.ID:
			v.Extras = append(v.Extras, c)
			if v.Outcome == Right {
				v.Outcome = Extra
			}
		}
	}
	return v
}

// Phase is one fault of a recorded run.
type Phase struct {
	Scenario  string
	Cause     string
	Scopes    []string  // rows of these scopes get the cause
	Onset     time.Time // the site was changed
	Effect    time.Time // the fault was seen to work; zero: never
	Cleared   time.Time
	Recovered time.Time
}

// The labels beside causes.
const (
	LabelNone   = "none"   // not the root of anything
	LabelIgnore = "ignore" // nobody can tell
)

// Margins around a fault in which rows are ignored. The windows of rows are ten seconds
// long, so what a fault left behind may still be in one for that long and a slide more.
const (
	marginEffect   = 2 * time.Second
	marginRecovery = 15 * time.Second
)

// Label says what a feature row of a scope at a time should have been called, and during
// which scenario. A right scope without a single symptom in its window cannot be told from
// a healthy one.
func Label(phases []Phase, scope string, symptoms int, at time.Time) (label, scenario string) {
	for _, p := range phases {
		if at.Before(p.Onset) || at.After(p.Recovered.Add(marginRecovery)) {
			continue
		}
		switch {
		case p.Effect.IsZero(), at.Before(p.Effect.Add(marginEffect)), at.After(p.Cleared):
			return LabelIgnore, p.Scenario
		case !slices.Contains(p.Scopes, scope):
			return LabelNone, p.Scenario
		case symptoms == 0:
			return LabelIgnore, p.Scenario
		}
		return p.Cause, p.Scenario
	}
	return LabelNone, "healthy"
}
