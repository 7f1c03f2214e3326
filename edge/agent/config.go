package agent

import (
	"bytes"
	_ "embed" // strata.yaml
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// ExampleConfig is the commented configuration file: every key with its default.
//
//go:embed strata.yaml
var ExampleConfig []byte

// Config is the agent's configuration; strata.yaml explains each key.
type Config struct {
	Device     string     `yaml:"device"`
	State      string     `yaml:"state"`
	Interfaces []string   `yaml:"interfaces"`
	Rules      string     `yaml:"rules"`
	Limits     Limits     `yaml:"limits"`
	Flow       FlowConfig `yaml:"flow"`
	Disk       PollConfig `yaml:"disk"`
	CAN        CANConfig  `yaml:"can"`
	Link       PollConfig `yaml:"link"`
	Model      ModelPaths `yaml:"model"`
	Buffer     BufferSize `yaml:"buffer"`
	MQTT       MQTTConfig `yaml:"mqtt"`
	OTLP       OTLPConfig `yaml:"otlp"`
}

// Limits caps the process.
type Limits struct {
	Memory Size `yaml:"memory"`
	CPUs   int  `yaml:"cpus"`
	Flows  int  `yaml:"flows"`
}

// FlowConfig is about packets.
type FlowConfig struct {
	Enabled bool          `yaml:"enabled"`
	Deep    string        `yaml:"deep"`
	Harvest time.Duration `yaml:"harvest"`
	Ring    Size          `yaml:"ring"`
}

// PollConfig is about a source that is read at intervals.
type PollConfig struct {
	Enabled bool          `yaml:"enabled"`
	Poll    time.Duration `yaml:"poll"`
}

// CANConfig is about CAN buses.
type CANConfig struct {
	Enabled    bool          `yaml:"enabled"`
	Poll       time.Duration `yaml:"poll"`
	Interfaces []string      `yaml:"interfaces"`
}

// ModelPaths says where the model and its runtime are.
type ModelPaths struct {
	Enabled bool     `yaml:"enabled"`
	Library string   `yaml:"library"`
	Dir     string   `yaml:"dir"`
	Keys    []string `yaml:"keys"`
}

// BufferSize caps the buffer.
type BufferSize struct {
	Size Size          `yaml:"size"`
	Age  time.Duration `yaml:"age"`
}

// MQTTConfig is about the MQTT uplink; an empty URL means none.
type MQTTConfig struct {
	URL      string `yaml:"url"`
	CA       string `yaml:"ca"`
	Cert     string `yaml:"cert"`
	Key      string `yaml:"key"`
	Username string `yaml:"username"`
	Password string `yaml:"password"`
}

// OTLPConfig is about the OTLP uplink; an empty URL means none.
type OTLPConfig struct {
	URL      string        `yaml:"url"`
	CA       string        `yaml:"ca"`
	Headers  string        `yaml:"headers"`
	Interval time.Duration `yaml:"interval"`
}

// Size is a number of bytes, written like 64MiB.
type Size int64

var sizeForm = regexp.MustCompile(`^([0-9]+)\s*(|B|KiB|MiB|GiB)$`)

// UnmarshalYAML reads a size.
func (s *Size) UnmarshalYAML(n *yaml.Node) error {
	m := sizeForm.FindStringSubmatch(strings.TrimSpace(n.Value))
	if n.Kind != yaml.ScalarNode || m == nil {
		return fmt.Errorf("line %d: %q is no size (want a number with B, KiB, MiB or GiB)", n.Line, n.Value)
	}
	v, err := strconv.ParseInt(m[1], 10, 64)
	shift := map[string]uint{"": 0, "B": 0, "KiB": 10, "MiB": 20, "GiB": 30}[m[2]]
	if err != nil || v > math.MaxInt64>>shift {
		return fmt.Errorf("line %d: size %q is too large", n.Line, n.Value)
	}
	*s = Size(v << shift)
	return nil
}

// String writes the size with the largest unit that divides it.
func (s Size) String() string {
	for _, u := range []struct {
		name  string
		shift uint
	}{{"GiB", 30}, {"MiB", 20}, {"KiB", 10}} {
		if s != 0 && s%(1<<u.shift) == 0 {
			return strconv.FormatInt(int64(s>>u.shift), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// DefaultConfig is what strata.yaml says with nothing changed.
func DefaultConfig() (Config, error) {
	var c Config
	if err := decode(ExampleConfig, &c); err != nil {
		return c, fmt.Errorf("read the built-in configuration: %w", err)
	}
	return c, nil
}

// LoadConfig reads a configuration file over the defaults. Unknown keys, wrong types and
// values out of range are errors that name the file and the key.
func LoadConfig(path string) (Config, error) {
	c, err := DefaultConfig()
	if err != nil {
		return c, err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return c, fmt.Errorf("read configuration: %w", err)
	}
	if err := decode(b, &c); err != nil {
		return c, fmt.Errorf("read configuration %s: %w", path, err)
	}
	if err := c.Check(); err != nil {
		return c, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, nil
}

func decode(b []byte, c *Config) error {
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return errors.New("more than one document")
	}
	return nil
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// Check says what is out of range.
func (c *Config) Check() error {
	if c.Device != "" && !nameForm.MatchString(c.Device) {
		return fmt.Errorf("device: %q: want up to 64 letters, digits, dots, dashes or underscores", c.Device)
	}
	if c.State == "" {
		return errors.New("state: a folder is needed")
	}
	if c.Limits.Memory < 24<<20 {
		return fmt.Errorf("limits.memory: %s is below the least that works (24MiB)", c.Limits.Memory)
	}
	if c.Limits.CPUs < 1 {
		return fmt.Errorf("limits.cpus: %d: want 1 or more", c.Limits.CPUs)
	}
	if c.Limits.Flows < 1024 || c.Limits.Flows > 1<<20 {
		return fmt.Errorf("limits.flows: %d: want 1,024 to 1,048,576", c.Limits.Flows)
	}
	if c.Flow.Deep != "suspicious" && c.Flow.Deep != "all" {
		return fmt.Errorf("flow.deep: %q: want suspicious or all", c.Flow.Deep)
	}
	if c.Flow.Ring < 64<<10 || c.Flow.Ring > 64<<20 || c.Flow.Ring&(c.Flow.Ring-1) != 0 {
		return fmt.Errorf("flow.ring: %s: want a power of two, 64KiB to 64MiB", c.Flow.Ring)
	}
	for _, name := range c.Interfaces {
		if name == "" {
			return errors.New("interfaces: an empty name")
		}
	}
	for _, d := range []struct {
		key string
		v   time.Duration
		min time.Duration
	}{
		{"flow.harvest", c.Flow.Harvest, 500 * time.Millisecond}, {"disk.poll", c.Disk.Poll, time.Second},
		{"can.poll", c.CAN.Poll, 200 * time.Millisecond}, {"link.poll", c.Link.Poll, 500 * time.Millisecond},
		{"buffer.age", c.Buffer.Age, time.Hour}, {"otlp.interval", c.OTLP.Interval, time.Second},
	} {
		if d.v < d.min {
			return fmt.Errorf("%s: %s is below the least that works (%s)", d.key, d.v, d.min)
		}
	}
	if c.Buffer.Size < 1<<20 {
		return fmt.Errorf("buffer.size: %s is below the least that works (1MiB)", c.Buffer.Size)
	}
	for _, u := range []struct{ key, url, schemes string }{
		{"mqtt.url", c.MQTT.URL, "mqtt mqtts tcp ssl"}, {"otlp.url", c.OTLP.URL, "http https"},
	} {
		if u.url == "" {
			continue
		}
		p, err := url.Parse(u.url)
		if err != nil || p.Host == "" || !strings.Contains(" "+u.schemes+" ", " "+p.Scheme+" ") {
			return fmt.Errorf("%s: %q: want SCHEME://HOST[:PORT] with SCHEME one of %s", u.key, u.url, u.schemes)
		}
		if p.User != nil {
			return fmt.Errorf("%s: credentials belong in a file of mode 0600, not in the address", u.key)
		}
	}
	return nil
}
