package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"text/tabwriter"

	"github.com/strata-edge/strata/model"
)

func main() {
	o, err := parseFlags(os.Args[1:], os.Stderr)
	if err != nil {
		os.Exit(2)
	}
	s, err := model.Default()
	if err == nil {
		err = o.run(s, os.Stdout, os.Stderr)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "train:", err) //nolint:errcheck // nowhere else to say it
		os.Exit(1)
	}
}

// options are the command's flags.
type options struct {
	rows, out, key    string
	check, allowWorse bool
	version           int
	seed              uint64
}

func parseFlags(args []string, stderr io.Writer) (options, error) {
	var o options
	fs := flag.NewFlagSet("train", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&o.rows, "rows", "", "labelled rows, JSON lines or gzip of them")
	fs.StringVar(&o.out, "out", "", "folder of the bundle")
	fs.StringVar(&o.key, "key", "", "ed25519 key to sign with, PKCS #8 in PEM; without: a new one, not kept")
	fs.BoolVar(&o.check, "check", false, "train again and compare with the bundle in -out; writes nothing")
	fs.BoolVar(&o.allowWorse, "allow-worse", false, "write a model that is no better than the learnt tree")
	fs.IntVar(&o.version, "version", 0, "version of the model; 0: one above that of the bundle in -out")
	fs.Uint64Var(&o.seed, "seed", 1, "seed of the training")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if o.rows == "" || o.out == "" || fs.NArg() > 0 || o.version < 0 {
		fs.Usage()
		return o, errors.New("usage")
	}
	return o, nil
}

// run trains and then writes or compares.
func (o options) run(s *model.Schema, stdout, log io.Writer) error {
	d, err := readRows(o.rows, s)
	if err != nil {
		return err
	}
	before, exists, err := readCommitted(o.out)
	if err != nil {
		return err
	}
	version, seed, goVersion := o.version, o.seed, runtime.Version()
	switch {
	case o.check && !exists:
		return fmt.Errorf("check: no bundle in %s", o.out)
	case o.check:
		version, seed, goVersion = before.version, before.seed, before.goVer
	case version == 0 && exists:
		version = before.version + 1
	case version == 0:
		version = 1
	}
	n, m, err := trainAndMeasure(d, defaultRecipe(seed), log)
	if err != nil {
		return err
	}
	if err := report(stdout, d, m); err != nil {
		return err
	}
	b, err := pack(d, n, m, version, seed, goVersion)
	if err != nil {
		return err
	}
	if o.check {
		if err := before.compare(b, s); err != nil {
			return fmt.Errorf("check %s: %w", o.out, err)
		}
		_, err := fmt.Fprintf(stdout, "version %d in %s is what these rows give, byte for byte, and its signature holds\n", version, o.out)
		return err
	}
	if err := worth(m); err != nil && !o.allowWorse {
		return err
	}
	key, err := signingKey(o.key)
	if err != nil {
		return err
	}
	if err := b.write(o.out, key); err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "wrote version %d to %s: %d bytes of model, %d of metadata\n", version, o.out, len(b.onnx), len(b.meta))
	return err
}

// trainAndMeasure gives the network in the device's arithmetic, and what it is worth.
func trainAndMeasure(d *dataset, c recipe, log io.Writer) (*model.Network, model.Metrics, error) {
	if err := d.split(); err != nil {
		return nil, model.Metrics{}, err
	}
	n, err := fit(d, c, log)
	if err != nil {
		return nil, model.Metrics{}, err
	}
	t := bestTree(d)
	classes := d.schema.Classes
	major := majority(d.of(training), len(classes))
	m := model.Metrics{Rows: len(d.rows), Runs: countRuns(d.rows), Test: evaluate(n, t, major, d.of(test), classes)}
	if rows := d.of(shifted); len(rows) > 0 {
		e := evaluate(n, t, major, rows, classes)
		m.Shifted = &e
	}
	return n, m, nil
}

// worth says whether a model may ship: a tree is easier to understand and to check, so
// a network that is no better has no place.
func worth(m model.Metrics) error {
	for _, e := range []*model.Evaluation{&m.Test, m.Shifted} {
		if e != nil && e.MacroF1 <= e.TreeMacroF1 {
			return fmt.Errorf("macro-F1 %.4f is not above the learnt tree's %.4f: not written (-allow-worse writes it)", e.MacroF1, e.TreeMacroF1)
		}
	}
	return nil
}

// report prints the measurements for people.
func report(w io.Writer, d *dataset, m model.Metrics) error {
	count := func(p part) string {
		rows := d.of(p)
		return fmt.Sprintf("%s %d rows of %d runs", p, len(rows), countRuns(rows))
	}
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "schema %s, %d features; %s, %s, %s, %s; %d rows ignored, %d of untrained causes count as none\n", //nolint:errcheck // tw.Flush tells
		d.schema.Short(), d.schema.Width(), count(training), count(validation), count(test), count(shifted), d.ignored, d.untrained)
	for _, e := range []struct {
		name string
		*model.Evaluation
	}{{"test", &m.Test}, {"shifted", m.Shifted}} {
		if e.Evaluation == nil {
			continue
		}
		fmt.Fprintf(tw, "\n%s\trows\tprecision\trecall\tF1\ttree F1\t\n", e.name) //nolint:errcheck // tw.Flush tells
		for _, c := range e.Classes {
			fmt.Fprintf(tw, "%s\t%d\t%.3f\t%.3f\t%.3f\t%.3f\t\n", c.Cause, c.Rows, c.Precision, c.Recall, c.F1, c.TreeF1) //nolint:errcheck // as above
		}
		fmt.Fprintf(tw, "macro-F1\t%d\t\t\t%.3f\t%.3f\t\n", e.Rows, e.MacroF1, e.TreeMacroF1) //nolint:errcheck // as above
		if err := tw.Flush(); err != nil {
			return fmt.Errorf("print report: %w", err)
		}
		_, err := fmt.Fprintf(w, "accuracy %.4f, majority's macro-F1 %.4f, ECE %.4f, confident and wrong %.4f, root top-1 of runs %.4f\n",
			e.Accuracy, e.MajorityMacroF1, e.ECE, e.ConfidentWrong, e.RootTop1)
		if err != nil {
			return fmt.Errorf("print report: %w", err)
		}
	}
	return nil
}
