package agent

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strata-edge/strata/buffer"
	"github.com/strata-edge/strata/edge/diag"
)

// TestMain lets the test binary be the child process that checks a buffer.
func TestMain(m *testing.M) {
	if handled, code := buffer.CheckMain(os.Args[1:]); handled {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// blind is a configuration that watches nothing but itself: no rights are needed.
func blind(t *testing.T) Config {
	t.Helper()
	c, err := DefaultConfig()
	if err != nil {
		t.Fatal(err)
	}
	c.State = filepath.Join(t.TempDir(), "state")
	c.Device = "test"
	c.Flow.Enabled, c.Disk.Enabled, c.CAN.Enabled, c.Link.Enabled, c.Model.Enabled = false, false, false, false, false
	return c
}

// heard collects what an agent says.
type heard struct {
	mu    sync.Mutex
	all   []diag.Finding
	awake chan struct{}
}

func (h *heard) show(f *diag.Finding) {
	h.mu.Lock()
	h.all = append(h.all, *f)
	h.mu.Unlock()
	select {
	case h.awake <- struct{}{}:
	default:
	}
}

// wait blocks until a finding in that state with that evidence was heard.
func (h *heard) wait(t *testing.T, state diag.State, code diag.Code) {
	t.Helper()
	limit := time.After(time.Minute)
	for {
		h.mu.Lock()
		for i := range h.all {
			if h.all[i].State == state && (h.all[i].Code == code || state != diag.StateOpen) {
				h.mu.Unlock()
				return
			}
		}
		h.mu.Unlock()
		select {
		case <-h.awake:
		case <-limit:
			t.Fatalf("no finding %s %s; heard %+v", state, code, h.all)
		}
	}
}

func start(t *testing.T, c Config) (*heard, func()) {
	t.Helper()
	h := &heard{awake: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	a, err := New(ctx, Options{Config: c, Version: "test", Show: h.show, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	return h, func() {
		t.Helper()
		cancel()
		if err := errors.Join(<-done, a.Close()); err != nil {
			t.Error(err)
		}
	}
}

func TestRulesReloadWhileRunning(t *testing.T) {
	c := blind(t)
	c.Rules = t.TempDir()
	own := filepath.Join(c.Rules, "own.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(own, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("version: 1\nrules: []\n")
	h, stop := start(t, c)
	defer stop()
	write("version: 1\nrules: [{signal: broken}]\n")
	h.wait(t, diag.StateOpen, diag.CodeL0StrataRulesRejected)
	write("version: 1\nrules: []\n# mended\n")
	h.wait(t, diag.StateResolved, 0)
}

func TestMissingModelIsToldAndStored(t *testing.T) {
	c := blind(t)
	c.Model.Enabled = true
	c.Model.Library = filepath.Join(t.TempDir(), "none.so")
	h, stop := start(t, c)
	h.wait(t, diag.StateOpen, diag.CodeL0StrataModelAbsent)
	stop()
	var kept []string
	err := buffer.View(t.Context(), c.State, false, nil, func(it buffer.Item) error {
		kept = append(kept, string(it.Payload))
		return nil
	})
	if err != nil || len(kept) != 1 || !strings.Contains(kept[0], "L0.STRATA.MODEL_ABSENT") {
		t.Errorf("the buffer holds %q (%v), want the one finding", kept, err)
	}
}

func TestDamagedBufferIsPutAsideAndTold(t *testing.T) {
	c := blind(t)
	if err := os.MkdirAll(c.State, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.State, buffer.FileName), []byte(strings.Repeat("no database ", 2000)), 0o600); err != nil {
		t.Fatal(err)
	}
	h, stop := start(t, c)
	defer stop()
	h.wait(t, diag.StateOpen, diag.CodeL0StrataBufferDamaged)
}

func TestNewSaysWhatIsWrong(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		change     func(*Config)
	}{
		{"rules that do not compile", "own.yaml", func(c *Config) {
			c.Rules = t.TempDir()
			if err := os.WriteFile(filepath.Join(c.Rules, "own.yaml"), []byte("version: 3\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{"a rule folder that is not there", "read rules", func(c *Config) { c.Rules = "/nonexistent/rules" }},
		{"a state folder that cannot be", "--state", func(c *Config) { c.State = "/dev/null/state" }},
		{"credentials that others can read", "0600", func(c *Config) {
			f := filepath.Join(t.TempDir(), "password")
			if err := os.WriteFile(f, []byte("secret"), 0o644); err != nil {
				t.Fatal(err)
			}
			c.MQTT.URL, c.MQTT.Username, c.MQTT.Password = "mqtt://127.0.0.1:1", f, f
		}},
	} {
		c := blind(t)
		tc.change(&c)
		a, err := New(t.Context(), Options{Config: c, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want an error with %q", tc.name, err, tc.want)
		}
		if err == nil {
			if err := a.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
