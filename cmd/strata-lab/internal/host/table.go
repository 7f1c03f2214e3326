package host

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// table writes the demonstration for a person, line by line as it goes.
type table struct{ out io.Writer }

func newTable(out io.Writer) *table { return &table{out: out} }

func (t *table) healthy(d time.Duration, ops int, claims []Claim) {
	fmt.Fprintf(t.out, "healthy for %s: %d operations, none failed; ", d, ops)
	if len(claims) == 0 {
		fmt.Fprint(t.out, "no finding\n")
	} else {
		fmt.Fprint(t.out, "findings:\n")
	}
	for _, c := range claims {
		mark := "FALSE ALARM"
		if c.Layer == 0 {
			mark = "about strata itself"
		}
		fmt.Fprintf(t.out, "    L%d %s on %s (%.2f)  %s\n", c.Layer, c.Cause, c.Scope, c.Confidence, mark)
	}
	fmt.Fprintf(t.out, "\n%-3s%-18s %-28s %5s %8s  %-9s %-6s %s\n", "", "fault", "finding", "conf.", "after", "", "rules", "model")
}

func (t *table) fault(g graded) {
	f, v := g.episode.fault, g.verdict
	finding, conf, after := "-", "-", "-"
	if v.Claim.ID != "" {
		finding = v.Claim.Cause
		conf = fmt.Sprintf("%.2f", v.Claim.Confidence)
		after = fmt.Sprintf("%.1f s", v.Took.Seconds())
	}
	fmt.Fprintf(t.out, "L%d %-18s %-28s %5s %8s  %-9s %-6s %s\n", f.Scenario.Layer, f.Scenario.Name, finding, conf, after,
		v.Outcome, alone(v.Claim.Rules, v.Rules), alone(v.Claim.Model, v.Model))
	fmt.Fprintf(t.out, "     %s; %s\n", f.Detail, g.episode.effect.What)
	if v.Outcome != Right {
		fmt.Fprintf(t.out, "     expected %s on %s\n", strings.Join(f.Scenario.Causes, " or "), few(f.Scopes))
	}
	if v.Claim.ID != "" {
		fmt.Fprintf(t.out, "     on %s%s\n", v.Claim.Scope, stillOpen(v.Claim))
	}
	for _, c := range v.Extras {
		fmt.Fprintf(t.out, "     WRONG, too: %s on %s (%.2f) after %.1f s%s\n", c.Cause, c.Scope, c.Confidence, c.At.Sub(g.episode.effect.First).Seconds(), stillOpen(c))
	}
	for _, c := range v.Repeats {
		fmt.Fprintf(t.out, "     the same on %s (%.2f)%s\n", c.Scope, c.Confidence, stillOpen(c))
	}
	for _, c := range v.Asides {
		fmt.Fprintf(t.out, "     not graded: %s on %s (%.2f)\n", c.Cause, c.Scope, c.Confidence)
	}
}

// few writes a list, cut where it is long.
func few(list []string) string {
	if n := len(list); n > 2 {
		return fmt.Sprintf("%s or one of %d more", list[n-1], n-1)
	}
	return strings.Join(list, " or ")
}

// alone says what one judge made of it by itself.
func alone(said string, right bool) string {
	switch {
	case said == "":
		return "-"
	case right:
		return "right"
	case said == LabelNone:
		return "none"
	}
	return "wrong"
}

func stillOpen(c Claim) string {
	if c.Over.IsZero() {
		return ", NOT RESOLVED"
	}
	return ""
}

// summary ends the table and says whether everything was right.
func (t *table) summary(well bool, done []graded, b *Board) bool {
	count := map[Outcome]int{}
	var took []time.Duration
	rules, model, modelled, open := 0, 0, 0, 0
	for _, g := range done {
		v := g.verdict
		count[v.Outcome]++
		if v.Outcome == Right || v.Outcome == Late || v.Outcome == Extra {
			took = append(took, v.Took)
		}
		if v.Rules {
			rules++
		}
		if v.Claim.Model != "" {
			modelled++
		}
		if v.Model {
			model++
		}
		for _, c := range slices.Concat([]Claim{v.Claim}, v.Repeats, v.Extras) {
			if c.ID != "" && c.Over.IsZero() {
				open++
			}
		}
	}
	fmt.Fprintf(t.out, "\n%d of %d right", count[Right], len(done))
	for _, o := range []Outcome{WrongCause, WrongScope, Extra, Late, Missed, NoEffect} {
		if count[o] > 0 {
			fmt.Fprintf(t.out, ", %d %s", count[o], o)
		}
	}
	fmt.Fprintf(t.out, "; rules alone %d of %d", rules, len(done))
	if modelled > 0 {
		fmt.Fprintf(t.out, ", model alone %d of %d", model, len(done))
	} else {
		fmt.Fprint(t.out, ", no model took part")
	}
	if len(took) > 0 {
		slices.Sort(took)
		fmt.Fprintf(t.out, "; symptom to finding: median %.1f s, slowest %.1f s", took[len(took)/2].Seconds(), took[len(took)-1].Seconds())
	}
	if open > 0 {
		fmt.Fprintf(t.out, "; %d findings not resolved %s after the fault", open, recoverAtMost)
	}
	if !well {
		fmt.Fprint(t.out, "; the healthy site got a finding")
	}
	fmt.Fprintln(t.out)
	if u := b.Unsure(); len(u) > 0 {
		fmt.Fprintf(t.out, "never sure: %s\n", strings.Join(u, "; "))
	}
	return well && count[Right] == len(done)
}
