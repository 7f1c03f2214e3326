package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/strata-edge/strata/model"
	"github.com/strata-edge/strata/model/ort"
)

const modelAbout = `The learnt model turns a candidate's features into a probability for each cause.

  strata model info [DIR]      what the model says of itself, once its signature was checked
  strata model verify [DIR]    checks everything that the service checks, and runs the model's
                               golden rows, in ONNX Runtime too where its library is found

Without DIR both look at the built-in model. A DIR holds model.onnx, model.json and model.sig;
it is trusted only if one of the --key signed it.`

func modelCommand(_ context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	fs := newFlags("model", "info|verify [flags] [DIR]", modelAbout, stderr)
	var c modelFlags
	c.register(fs)
	action := ""
	if len(args) > 0 {
		action = args[0]
	}
	run, ok := map[string]func(modelFlags, io.Writer) error{"info": modelInfo, "verify": modelVerify}[action]
	if !ok {
		if code, done := parse(fs, args, stdout); done {
			return code
		}
		fmt.Fprintf(stderr, "strata model: unknown action %q (info or verify)\n", action)
		return exitUsage
	}
	if code, done := parse(fs, args[1:], stdout); done {
		return code
	}
	if fs.NArg() > 1 {
		fmt.Fprintf(stderr, "strata model %s: unexpected argument %q\n", action, fs.Arg(1))
		return exitUsage
	}
	c.dir = fs.Arg(0)
	if err := run(c, stdout); err != nil {
		fmt.Fprintf(stderr, "strata model %s: %v\n", action, err)
		return exitFailure
	}
	return exitOK
}

// modelFlags are the flags and the argument of both actions.
type modelFlags struct {
	json    bool
	keys    []ed25519.PublicKey
	oldest  int
	library string
	dir     string
}

func (c *modelFlags) register(fs *flag.FlagSet) {
	fs.BoolVar(&c.json, "json", false, "write one JSON object")
	fs.Func("key", "`file` of a trusted public key, in the form of model.pub; may be given again", func(s string) error {
		k, err := model.ReadKeys([]string{s})
		c.keys = append(c.keys, k...)
		return err
	})
	fs.IntVar(&c.oldest, "min-version", 1, "refuse models below this `version`")
	fs.StringVar(&c.library, "ort", "", "`file` of the ONNX Runtime library; without: $"+ort.EnvLibrary+" or the usual places")
}

// load opens the bundle under the policy that the flags give.
func (c modelFlags) load() (*model.Bundle, error) {
	if c.dir == "" {
		return model.Builtin()
	}
	s, err := model.Default()
	if err != nil {
		return nil, err
	}
	return model.LoadDir(c.dir, model.Policy{Keys: c.keys, MinVersion: c.oldest, Schema: s})
}

// modelDescription is what `model info --json` writes.
type modelDescription struct {
	Builtin       bool          `json:"builtin"`
	Version       int           `json:"version"`
	Name          string        `json:"name"` // as findings carry it
	Schema        string        `json:"schema"`
	SchemaVersion int           `json:"schema_version"`
	Inputs        int           `json:"inputs"`
	Classes       []string      `json:"classes"`
	Bytes         int           `json:"bytes"`
	ModelSHA256   string        `json:"model_sha256"`
	DataSHA256    string        `json:"data_sha256"`
	Go            string        `json:"go"`
	SignedBy      string        `json:"signed_by"`
	Metrics       model.Metrics `json:"metrics"`
}

func modelInfo(c modelFlags, stdout io.Writer) error {
	b, err := c.load()
	if err != nil {
		return err
	}
	name, schema := b.Ref()
	d := modelDescription{
		Builtin: c.dir == "", Version: b.Meta.Version, Name: name, Schema: schema, SchemaVersion: b.Meta.SchemaVersion,
		Inputs: b.Meta.Inputs, Classes: b.Meta.Classes, Bytes: len(b.ONNX), ModelSHA256: b.Meta.ModelSHA256,
		DataSHA256: b.Meta.DataSHA256, Go: b.Meta.Go, SignedBy: model.Fingerprint(b.Key), Metrics: b.Meta.Metrics,
	}
	if c.json {
		return json.NewEncoder(stdout).Encode(d)
	}
	fmt.Fprintf(stdout, "model %s: version %d, schema %s, %d features to %d causes, %d bytes, signed by %s\n",
		name, d.Version, d.Schema, d.Inputs, len(d.Classes), d.Bytes, d.SignedBy)
	fmt.Fprintf(stdout, "trained with %s on %d rows of %d runs\n", d.Go, d.Metrics.Rows, d.Metrics.Runs)
	printEvaluation(stdout, "held-out runs", &d.Metrics.Test)
	printEvaluation(stdout, "shifted runs", d.Metrics.Shifted)
	return nil
}

// printEvaluation writes what was measured on one kind of runs; nil prints nothing.
func printEvaluation(w io.Writer, name string, e *model.Evaluation) {
	if e == nil {
		return
	}
	fmt.Fprintf(w, "\n%s: %d rows of %d runs, macro-F1 %.3f (learnt tree %.3f, majority %.3f), root top-1 %.3f, ECE %.3f, confident and wrong %.3f\n",
		name, e.Rows, e.Runs, e.MacroF1, e.TreeMacroF1, e.MajorityMacroF1, e.RootTop1, e.ECE, e.ConfidentWrong)
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, k := range e.Classes {
		fmt.Fprintf(tw, "  %s\t%d rows\tprecision %.3f\trecall %.3f\tF1 %.3f\n", k.Cause, k.Rows, k.Precision, k.Recall, k.F1)
	}
	// Where the reader has gone, so has the reason to print.
	_ = tw.Flush()
}

// modelVerdict is what `model verify --json` writes.
type modelVerdict struct {
	OK      bool   `json:"ok"`
	Version int    `json:"version"`
	Schema  string `json:"schema"`
	Golden  int    `json:"golden"`            // rows that were run
	Runtime string `json:"runtime,omitempty"` // release of ONNX Runtime that ran them; empty where none did
	Note    string `json:"note,omitempty"`    // why none did
}

func modelVerify(c modelFlags, stdout io.Writer) error {
	b, err := c.load() // runs the golden rows in plain Go
	if err != nil {
		return err
	}
	_, schema := b.Ref()
	v := modelVerdict{OK: true, Version: b.Meta.Version, Schema: schema, Golden: len(b.Meta.Golden)}
	switch v.Runtime, err = verifyRuntime(b, c.library); {
	case errors.Is(err, ort.ErrNoLibrary) && c.library == "", errors.Is(err, ort.ErrUnavailable):
		v.Note = err.Error()
	case err != nil:
		return err
	}
	if c.json {
		return json.NewEncoder(stdout).Encode(v)
	}
	fmt.Fprintf(stdout, "model version %d: signature, schema, graph and %d golden rows hold\n", v.Version, v.Golden)
	if v.Note != "" {
		fmt.Fprintf(stdout, "not run in ONNX Runtime: %s\n", v.Note)
	} else {
		fmt.Fprintf(stdout, "ONNX Runtime %s gives the same scores\n", v.Runtime)
	}
	return nil
}

// verifyRuntime opens the model in ONNX Runtime, which runs the golden rows there.
func verifyRuntime(b *model.Bundle, library string) (version string, err error) {
	path, err := ort.Find(ort.Candidates(library))
	if err != nil {
		return "", err
	}
	s, err := ort.Open(path, b)
	if err != nil {
		return "", err
	}
	return s.Version(), s.Close()
}
