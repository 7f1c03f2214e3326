package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
)

// part is what a row is used for.
type part uint8

// The parts. A row that names none is dealt one with its run.
const (
	unassigned part = iota
	training
	validation
	test
	shifted
	parts
)

var partNames = [parts]string{"", "train", "validation", "test", "shifted"}

func (p part) String() string { return partNames[p] }

// UnmarshalText reads a part's name.
func (p *part) UnmarshalText(b []byte) error {
	i := slices.Index(partNames[:], string(b))
	if i < 0 {
		return fmt.Errorf("unknown part %q", b)
	}
	*p = part(i)
	return nil
}

// deal is the order in which runs of one stratum are dealt: 60 % training, 20 %
// validation, 20 % test, and a stratum of three runs has one of each.
var deal = [...]part{training, validation, test, training, training, training, test, training, validation, training}

// fewRuns is the size below which a stratum could not be in all three parts.
const fewRuns = 3

// split deals every run a part. Runs of the same scenarios form a stratum, dealt in the
// order of a hash of their names, so that every scenario is in every part and adding a
// run does not depend on the order of the file. Runs whose scenarios hardly any other
// shares (drawn at random) are one stratum together.
func (d *dataset) split() error {
	type run struct {
		name      string
		hash      [32]byte
		scenarios []string
		part      part
	}
	runs := map[string]*run{}
	for _, r := range d.rows {
		e := runs[r.run]
		if e == nil {
			e = &run{name: r.run, hash: sha256.Sum256([]byte(r.run)), part: r.part}
			runs[r.run] = e
		}
		if e.part != r.part {
			return fmt.Errorf("run %s has rows in two parts", r.run)
		}
		if !slices.Contains(e.scenarios, r.scenario) {
			e.scenarios = append(e.scenarios, r.scenario)
		}
	}
	strata := map[string][]*run{}
	for _, e := range runs {
		if e.part == unassigned {
			slices.Sort(e.scenarios)
			key := strings.Join(e.scenarios, "\x00")
			strata[key] = append(strata[key], e)
		}
	}
	for key, rs := range strata {
		if key != "" && len(rs) < fewRuns {
			strata[""] = append(strata[""], rs...)
			delete(strata, key)
		}
	}
	for _, rs := range strata {
		slices.SortFunc(rs, func(a, b *run) int {
			return cmp.Or(bytes.Compare(a.hash[:], b.hash[:]), cmp.Compare(a.name, b.name))
		})
		for i, e := range rs {
			e.part = deal[i%len(deal)]
		}
	}
	for i := range d.rows {
		d.rows[i].part = runs[d.rows[i].run].part
	}
	for _, p := range []part{training, validation, test} {
		if len(d.of(p)) == 0 {
			return fmt.Errorf("no rows for %s: too few runs", p)
		}
	}
	return nil
}

// of gives the rows of a part.
func (d *dataset) of(p part) []row {
	var out []row
	for _, r := range d.rows {
		if r.part == p {
			out = append(out, r)
		}
	}
	return out
}

// countRuns gives the number of distinct runs.
func countRuns(rows []row) int {
	seen := map[string]bool{}
	for _, r := range rows {
		seen[r.run] = true
	}
	return len(seen)
}
