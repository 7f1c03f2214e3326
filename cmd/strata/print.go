package main

import (
	"encoding/json"
	"fmt"
	"io"
	"sort"
	"strings"
	"time"

	"github.com/strata-edge/strata/edge/diag"
)

// printJSON writes a finding as one line.
func printJSON(w io.Writer, f *diag.Finding) error {
	b, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("encode finding %s: %w", f.ID, err)
	}
	_, err = fmt.Fprintf(w, "%s\n", b)
	return err
}

// printText writes a finding for a person: what is wrong where, why, and what to do.
func printText(w io.Writer, f *diag.Finding) {
	fmt.Fprintf(w, "%s  %-8s  L%d  %-24s %s  %s\n", f.Time.Local().Format(time.TimeOnly), strings.ToUpper(string(f.State)), f.Layer, f.Cause, f.Scope.ID, percent(f.Confidence))
	if f.State != diag.StateOpen {
		if root := f.Evidence["root"]; root != "" {
			fmt.Fprintf(w, "          it was a symptom of finding %s\n", root)
		}
		return
	}
	if c, ok := diag.CauseByID(f.Cause); ok {
		fmt.Fprintf(w, "          %s %s\n", c.Title, c.Advice)
	}
	var steps []string
	for _, l := range f.Chain {
		steps = append(steps, fmt.Sprintf("%s %g", l.Code, l.Value))
	}
	if len(steps) > 0 {
		fmt.Fprintf(w, "          seen: %s\n", strings.Join(steps, " → "))
	}
	var details []string
	for k, v := range f.Evidence {
		details = append(details, k+"="+v)
	}
	sort.Strings(details)
	for _, a := range f.Alternatives {
		details = append(details, fmt.Sprintf("or %s %s", a.Cause, percent(a.Confidence)))
	}
	if len(details) > 0 {
		fmt.Fprintf(w, "          %s\n", strings.Join(details, ", "))
	}
}

func percent(p float64) string { return fmt.Sprintf("%.0f %%", p*100) }
