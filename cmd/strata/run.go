package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/strata-edge/strata/edge/agent"
	"github.com/strata-edge/strata/edge/cause"
	"github.com/strata-edge/strata/edge/diag"
)

const defaultConfig = "/etc/strata/strata.yaml"

const runAbout = `Watches this device until it is stopped: packets on its ports, links, drives and CAN
buses. Prints what it watches and what it cannot, then each finding as it opens, changes
and resolves: for a person on a terminal, as JSON lines otherwise.

Without -c it reads ` + defaultConfig + ` if that exists, else it takes the defaults:
every physical interface, every drive, every CAN bus; findings stay in the state folder.
--print-config shows a commented file with every key and its default. Flags win over the
file. Credentials are read only from files of mode 0600 that the file names.

Needs root, or CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN for packets, CAP_SYS_RAWIO and
CAP_SYS_ADMIN for drives; it goes on without what it may not see, and says so.`

func runCommand(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	fs := newFlags("run", "[flags]", runAbout, stderr)
	file := fs.String("c", "", "configuration `file` (default "+defaultConfig+" if it exists)")
	show := fs.Bool("print-config", false, "print a commented configuration with the defaults, and end")
	interfaces := fs.String("interfaces", "", "comma-separated `names` of the interfaces to watch (default: all physical ones)")
	state := fs.String("state", "", "`folder` for the buffer and other state")
	device := fs.String("device", "", "`name` of this device in findings and topics (default: host name)")
	mqtt := fs.String("mqtt", "", "`URL` of an MQTT broker, mqtt://HOST[:PORT] or mqtts://…")
	otlp := fs.String("otlp", "", "`URL` of an OTLP/HTTP endpoint, http://HOST:4318 or https://…")
	asJSON := fs.Bool("json", false, "findings as JSON lines even on a terminal")
	rows := fs.String("rows", "", "append the feature row of every weighed candidate to `file` (training data)")
	verbose := fs.Bool("v", false, "log what the agent does")
	if code, done := parseBare(fs, args, stdout, stderr); done {
		return code
	}
	if *show {
		_, _ = stdout.Write(agent.ExampleConfig)
		return exitOK
	}
	cfg, err := readConfig(*file)
	if err != nil {
		fmt.Fprintf(stderr, "strata run: %v\n", err)
		return exitUsage
	}
	for _, o := range []struct {
		from string
		to   *string
	}{{*state, &cfg.State}, {*device, &cfg.Device}, {*mqtt, &cfg.MQTT.URL}, {*otlp, &cfg.OTLP.URL}} {
		if o.from != "" {
			*o.to = o.from
		}
	}
	if *interfaces != "" {
		cfg.Interfaces = nil
		for _, name := range strings.Split(*interfaces, ",") {
			cfg.Interfaces = append(cfg.Interfaces, strings.TrimSpace(name))
		}
	}
	if err := cfg.Check(); err != nil {
		fmt.Fprintf(stderr, "strata run: %v\n", err)
		return exitUsage
	}
	r := runner{stdout: stdout, stderr: stderr, json: *asJSON || !isTerminal(stdout)}
	if err := r.run(ctx, cfg, *rows, *verbose); err != nil {
		fmt.Fprintf(stderr, "strata run: %v\n", err)
		return exitFailure
	}
	return exitOK
}

func readConfig(file string) (agent.Config, error) {
	if file != "" {
		return agent.LoadConfig(file)
	}
	if _, err := os.Stat(defaultConfig); !errors.Is(err, fs.ErrNotExist) {
		return agent.LoadConfig(defaultConfig)
	}
	return agent.DefaultConfig()
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// runner prints what an agent says.
type runner struct {
	stdout, stderr io.Writer
	json           bool
}

func (r *runner) run(ctx context.Context, cfg agent.Config, rowsFile string, verbose bool) (err error) {
	level := slog.LevelWarn
	if verbose {
		level = slog.LevelDebug
	}
	opt := agent.Options{
		Config: cfg, Version: version, Show: r.show,
		Log: slog.New(slog.NewTextHandler(r.stderr, &slog.HandlerOptions{Level: level})),
	}
	if rowsFile != "" {
		w, failed := openRows(rowsFile)
		if failed != nil {
			return failed
		}
		defer func() { err = errors.Join(err, w.Close()) }()
		opt.Rows = w.add
	}
	a, err := agent.New(ctx, opt)
	if err != nil {
		return err
	}
	st := a.Status()
	// The state is for the person who starts it; the findings alone are the output.
	st.Print(r.stderr)
	err = a.Run(ctx)
	return errors.Join(err, a.Close())
}

func (r *runner) show(f *diag.Finding) {
	if !r.json {
		printText(r.stdout, f)
		return
	}
	if err := printJSON(r.stdout, f); err != nil {
		fmt.Fprintf(r.stderr, "strata run: print a finding: %v\n", err)
	}
}

// rowWriter writes candidate rows as JSON lines.
type rowWriter struct {
	mu   sync.Mutex
	file *os.File
	buf  *bufio.Writer
	err  error
}

func openRows(path string) (*rowWriter, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("record rows: %w", err)
	}
	return &rowWriter{file: f, buf: bufio.NewWriter(f)}, nil
}

// jsonRow is one line: see docs/MODEL.md.
type jsonRow struct {
	Time     time.Time          `json:"time"`
	Episode  uint64             `json:"episode"`
	Scope    diag.Scope         `json:"scope"`
	Kind     string             `json:"kind"`
	Symptoms int                `json:"symptoms"`
	Schema   string             `json:"schema"`
	X        []float32          `json:"x"`
	Rules    map[string]float64 `json:"rules,omitempty"`
	Model    map[string]float64 `json:"model,omitempty"`
}

func (w *rowWriter) add(r cause.Row) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b, err := json.Marshal(jsonRow{
		Time: r.Time, Episode: r.Episode, Scope: r.Scope, Kind: r.Scope.Kind.String(), Symptoms: r.Symptoms,
		Schema: r.Schema, X: r.X, Rules: r.Rules, Model: r.Model,
	})
	if err == nil {
		_, err = w.buf.Write(append(b, '\n'))
	}
	if err == nil {
		// Whoever reads along sees whole lines at once.
		err = w.buf.Flush()
	}
	if w.err == nil {
		w.err = err
	}
}

// Close ends the file and gives the first failure.
func (w *rowWriter) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := errors.Join(w.err, w.buf.Flush(), w.file.Close()); err != nil {
		return fmt.Errorf("record rows: %w", err)
	}
	return nil
}
