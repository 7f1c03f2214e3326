package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"github.com/strata-edge/strata/edge/diag"
	"github.com/strata-edge/strata/model"
)

// Labels that are no cause.
const (
	labelNone   = "none"
	labelIgnore = "ignore"
)

// none is the class of a row whose scope is not the root of a trained cause.
const none = -1

const (
	maxLine = 1 << 20
	maxText = 1 << 30 // of all lines, unpacked
)

// rowFile is one line of the rows' file.
type rowFile struct {
	Run      json.RawMessage `json:"run"`
	Scenario string          `json:"scenario"`
	Scope    string          `json:"scope"`
	Label    string          `json:"label"`
	Part     part            `json:"part"`
	Schema   string          `json:"schema"`
	X        []float32       `json:"x"`
}

// row is one candidate.
type row struct {
	run, scenario string
	class         int // index into Schema.Classes, or none
	part          part
	x             []float32
}

// fault names what was wrong while the row was recorded: one scenario of one run.
func (r *row) fault() string { return r.run + "\x00" + r.scenario }

// dataset is everything that one training sees.
type dataset struct {
	schema    *model.Schema
	rows      []row
	sum       string // SHA-256 of the file
	ignored   int    // rows labelled "ignore"
	untrained int    // rows of causes that the schema does not train: they count as none
}

// readRows reads a rows' file.
func readRows(path string, s *model.Schema) (*dataset, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read rows: %w", err)
	}
	d, err := parseRows(raw, s)
	if err != nil {
		return nil, fmt.Errorf("read rows in %s: %w", path, err)
	}
	return d, nil
}

func parseRows(raw []byte, s *model.Schema) (*dataset, error) {
	sum := sha256.Sum256(raw)
	d := &dataset{schema: s, sum: hex.EncodeToString(sum[:])}
	var text io.Reader = bytes.NewReader(raw)
	if bytes.HasPrefix(raw, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(text)
		if err != nil {
			return nil, fmt.Errorf("unpack: %w", err)
		}
		text = z
	}
	limited := &io.LimitedReader{R: text, N: maxText}
	lines := bufio.NewScanner(limited)
	lines.Buffer(nil, maxLine)
	for n := 1; lines.Scan(); n++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		if err := d.add(lines.Bytes()); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read lines: %w", err)
	}
	if limited.N == 0 {
		return nil, fmt.Errorf("more than %d bytes of text", maxText)
	}
	if len(d.rows) == 0 {
		return nil, errors.New("no rows")
	}
	return d, nil
}

func (d *dataset) add(line []byte) error {
	var f rowFile
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return fmt.Errorf("parse row: %w", err)
	}
	if f.Schema != d.schema.Hash && f.Schema != d.schema.Short() {
		return fmt.Errorf("row of schema %q, this trainer has %s: record the rows again", f.Schema, d.schema.Short())
	}
	if len(f.X) != d.schema.Width() {
		return fmt.Errorf("row of %d features, want %d", len(f.X), d.schema.Width())
	}
	for i, v := range f.X {
		if math.IsInf(float64(v), 0) {
			return fmt.Errorf("feature %s is %g", d.schema.Features[i].Name, v)
		}
	}
	if len(f.Run) == 0 || string(f.Run) == "null" {
		return errors.New("row without a run")
	}
	r := row{run: string(f.Run), scenario: f.Scenario, class: none, part: f.Part, x: f.X}
	switch f.Label {
	case labelIgnore:
		d.ignored++
		return nil
	case labelNone:
	default:
		r.class = slices.Index(d.schema.Classes, f.Label)
		if r.class < 0 {
			r.class = none
			if _, known := diag.CauseByID(f.Label); !known {
				return fmt.Errorf("unknown label %q", f.Label)
			}
			d.untrained++
		}
	}
	d.rows = append(d.rows, r)
	return nil
}
