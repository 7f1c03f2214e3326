package agent

import (
	"fmt"
	"io"
	"strings"
)

// Watched is one thing that Strata looks at, and how.
type Watched struct {
	What string `json:"what"`
	How  string `json:"how"`
}

// Unwatched is one thing that Strata cannot see, and why. It is unobservable, not fine.
type Unwatched struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

// Status is how the agent stands after New.
type Status struct {
	Version string      `json:"version"`
	Device  string      `json:"device"`
	Watches []Watched   `json:"watches"`
	Cannot  []Unwatched `json:"cannot"`
	Decides string      `json:"decides"`
	Buffer  string      `json:"buffer"`
	Uplinks []string    `json:"uplinks"`
	Budget  string      `json:"budget"`
}

func (s *Status) watch(what, how string) { s.Watches = append(s.Watches, Watched{what, how}) }

func (s *Status) cannot(what string, why error) {
	s.Cannot = append(s.Cannot, Unwatched{what, why.Error()})
}

// Print writes the status in a few lines for a person.
func (s *Status) Print(w io.Writer) {
	fmt.Fprintf(w, "strata %s on %s\n", s.Version, s.Device)
	for _, x := range s.Watches {
		fmt.Fprintf(w, "  watching  %-14s %s\n", x.What, x.How)
	}
	for _, x := range s.Cannot {
		fmt.Fprintf(w, "  cannot    %-14s %s\n", x.What, x.Why)
	}
	fmt.Fprintf(w, "  decides   %s\n  buffer    %s\n", s.Decides, s.Buffer)
	if len(s.Uplinks) == 0 {
		fmt.Fprintf(w, "  uplink    none: findings stay here (`strata findings --state …` lists them)\n")
	} else {
		fmt.Fprintf(w, "  uplink    %s\n", strings.Join(s.Uplinks, ", "))
	}
	fmt.Fprintf(w, "  budget    %s\n", s.Budget)
}
