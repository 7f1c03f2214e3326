package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func load(t *testing.T, text string) (Config, error) {
	t.Helper()
	f := filepath.Join(t.TempDir(), "strata.yaml")
	if err := os.WriteFile(f, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return LoadConfig(f)
}

func TestDefaultsAreInRange(t *testing.T) {
	c, err := DefaultConfig()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(); err != nil {
		t.Error(err)
	}
	if c.Limits.Memory != 48<<20 || c.Flow.Harvest != 2*time.Second || !c.Disk.Enabled {
		t.Errorf("defaults: %+v", c)
	}
}

func TestEveryKeyIsOptional(t *testing.T) {
	c, err := load(t, "mqtt:\n  url: mqtts://fleet.example:8883\n")
	if err != nil {
		t.Fatal(err)
	}
	if c.MQTT.URL == "" || c.Flow.Deep != "suspicious" || c.Buffer.Age != 720*time.Hour {
		t.Errorf("%+v", c)
	}
	if _, err := load(t, ""); err != nil {
		t.Errorf("an empty file: %v", err)
	}
}

func TestConfigErrorsNameTheKey(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"intefaces: [eth0]\n", "intefaces"},
		{"limits: {memory: 64MB}\n", "64MB"},
		{"limits: {memory: 1MiB}\n", "limits.memory"},
		{"limits: {memory: 99999999999GiB}\n", "too large"},
		{"flow: {deep: some}\n", "flow.deep"},
		{"flow: {ring: 100000}\n", "flow.ring"},
		{"disk: {poll: 1ms}\n", "disk.poll"},
		{"mqtt: {url: \"http://x\"}\n", "mqtt.url"},
		{"mqtt: {url: \"mqtt://user:secret@x\"}\n", "mqtt.url"},
		{"device: \"a/b\"\n", "device"},
		{"a: 1\n---\nb: 2\n", "a"},
	} {
		_, err := load(t, tc.text)
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "strata.yaml") {
			t.Errorf("%q: %v, want an error with %q and the file", tc.text, err, tc.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the error repeats a credential: %v", tc.text, err)
		}
	}
}

func FuzzConfig(f *testing.F) {
	f.Add(ExampleConfig)
	f.Add([]byte("limits: {memory: 64MiB}\n"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		var c Config
		if decode(b, &c) == nil {
			_ = c.Check()
		}
	})
}
