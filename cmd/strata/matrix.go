package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/strata-edge/strata/edge/diag"
	"github.com/strata-edge/strata/edge/matrix"
)

const matrixAbout = `Rules map the signals of a source to codes; docs/CODES.md lists the codes.

  strata matrix lint FILE…       checks rule files and says what is wrong, and where
  strata matrix map [-f FILE]    maps JSON records on stdin to events on stdout, by the
                                 built-in rules or by FILE alone; a record is
                                 {"source":"flow","name":"tcp.refused","scope":"service:tcp/192.0.2.7:80",
                                  "value":1,"time":"2026-01-02T03:04:05Z","attrs":{"key":"value"}}`

func matrixCommand(_ context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	fs := newFlags("matrix", "lint FILE… | map [-f FILE]", matrixAbout, stderr)
	if len(args) == 0 {
		fs.Usage()
		return exitUsage
	}
	switch args[0] {
	case "lint":
		if code, done := parse(fs, args[1:], stdout); done {
			return code
		}
		return matrixLint(fs.Args(), stdout, stderr)
	case "map":
		file := fs.String("f", "", "rule `file` to use instead of the built-in rules")
		if code, done := parse(fs, args[1:], stdout); done {
			return code
		}
		if fs.NArg() > 0 {
			fmt.Fprintf(stderr, "strata matrix map: unexpected argument %q\n", fs.Arg(0))
			return exitUsage
		}
		return matrixMap(*file, stdin, stdout, stderr)
	}
	if code, done := parse(fs, args, stdout); done {
		return code
	}
	fmt.Fprintf(stderr, "strata matrix: unknown action %q (lint or map)\n", args[0])
	return exitUsage
}

func matrixLint(files []string, stdout, stderr io.Writer) int {
	if len(files) == 0 {
		fmt.Fprintln(stderr, "strata matrix lint: name at least one rule file")
		return exitUsage
	}
	code := exitOK
	for _, f := range files {
		r, err := rulesFrom(f)
		if err != nil {
			fmt.Fprintf(stderr, "strata matrix lint: %v\n", err)
			code = exitFailure
			continue
		}
		fmt.Fprintf(stdout, "%s: %d rules, no faults\n", f, r.Len())
	}
	return code
}

func rulesFrom(file string) (*matrix.Rules, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read rules: %w", err)
	}
	return matrix.Parse(filepath.Base(file), b)
}

// jsonSignal is a Signal as `matrix map` reads it.
type jsonSignal struct {
	Source string            `json:"source"`
	Name   string            `json:"name"`
	Scope  diag.Scope        `json:"scope"`
	Path   []diag.Scope      `json:"path"`
	Value  float64           `json:"value"`
	Time   time.Time         `json:"time"`
	Attrs  map[string]string `json:"attrs"`
}

// jsonEvent is an Event as `matrix map` writes it.
type jsonEvent struct {
	Time  time.Time         `json:"time,omitzero"`
	Layer diag.Layer        `json:"layer"`
	Code  diag.Code         `json:"code"`
	Scope diag.Scope        `json:"scope"`
	Value float64           `json:"value"`
	Attrs map[string]string `json:"attrs,omitempty"`
}

const maxRecord = 1 << 20

func matrixMap(file string, stdin io.Reader, stdout, stderr io.Writer) int {
	rules, err := matrix.Load("")
	if file != "" {
		rules, err = rulesFrom(file)
	}
	if err != nil {
		fmt.Fprintf(stderr, "strata matrix map: %v\n", err)
		return exitFailure
	}
	in := bufio.NewScanner(stdin)
	in.Buffer(make([]byte, 64<<10), maxRecord)
	out := json.NewEncoder(stdout)
	code, line := exitOK, 0
	for in.Scan() {
		line++
		if len(in.Bytes()) == 0 {
			continue
		}
		var s jsonSignal
		if err := json.Unmarshal(in.Bytes(), &s); err != nil {
			fmt.Fprintf(stderr, "strata matrix map: line %d: %v\n", line, err)
			code = exitFailure
			continue
		}
		if err := mapOne(rules, s, out); err != nil {
			fmt.Fprintf(stderr, "strata matrix map: line %d: %v\n", line, err)
			code = exitFailure
		}
	}
	if err := in.Err(); err != nil {
		fmt.Fprintf(stderr, "strata matrix map: read line %d: %v\n", line+1, err)
		return exitFailure
	}
	return code
}

func mapOne(rules *matrix.Rules, s jsonSignal, out *json.Encoder) error {
	if s.Scope.IsZero() {
		return fmt.Errorf("signal %s/%s has no scope", s.Source, s.Name)
	}
	sig := diag.Signal{Source: s.Source, Name: s.Name, Scope: s.Scope, Path: s.Path, Value: s.Value}
	for k, v := range s.Attrs {
		sig.Attrs = append(sig.Attrs, diag.Attr{Key: k, Value: v})
	}
	var err error
	known := rules.Map(sig, func(e diag.Event) {
		if err == nil {
			err = out.Encode(jsonEvent{Time: s.Time, Layer: e.Code.Layer(), Code: e.Code, Scope: e.Scope, Value: e.Value, Attrs: s.Attrs})
		}
	})
	if err == nil && !known {
		return fmt.Errorf("no rule names the signal %s/%s", s.Source, s.Name)
	}
	return err
}
