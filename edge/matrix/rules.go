package matrix

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/strata-edge/strata/edge/diag"
)

// Limits on a rule file, so that a damaged one cannot exhaust memory.
const (
	maxFile  = 1 << 20
	maxRules = 4096
)

//go:embed rules/*.yaml
var builtin embed.FS

type fileForm struct {
	Version int        `yaml:"version"`
	Rules   []ruleForm `yaml:"rules"`
}

type ruleForm struct {
	Signal string            `yaml:"signal"`
	Code   string            `yaml:"code"`
	Min    *float64          `yaml:"min"`
	Max    *float64          `yaml:"max"`
	Scale  *float64          `yaml:"scale"`
	Value  *float64          `yaml:"value"`
	Where  map[string]string `yaml:"where"`
}

type match struct {
	key   string
	oneOf []string
}

type rule struct {
	code     diag.Code
	min, max float64
	scale    float64
	value    float64
	fixed    bool
	where    []match
}

type signalName struct{ source, name string }

// Rules is a compiled set of rule files.
type Rules struct {
	by    map[signalName][]rule
	count int
}

// Len gives the number of rules.
func (r *Rules) Len() int { return r.count }

// Parse compiles one rule file. The error names the file, the rule's number and the fault.
func Parse(name string, data []byte) (*Rules, error) {
	r := &Rules{by: map[signalName][]rule{}}
	if err := r.add(name, data); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *Rules) add(name string, data []byte) error {
	if len(data) > maxFile {
		return fmt.Errorf("%s: %d bytes is more than a rule file may have (%d)", name, len(data), maxFile)
	}
	var f fileForm
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(&f); err != nil {
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%s: empty", name)
		}
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: more than one document", name)
	}
	if f.Version != 1 {
		return fmt.Errorf("%s: version %d is not known (want 1)", name, f.Version)
	}
	if r.count+len(f.Rules) > maxRules {
		return fmt.Errorf("%s: more than %d rules in all", name, maxRules)
	}
	for i, rf := range f.Rules {
		if err := r.addRule(rf); err != nil {
			return fmt.Errorf("%s: rule %d (%s): %w", name, i+1, rf.Signal, err)
		}
	}
	return nil
}

func (r *Rules) addRule(rf ruleForm) error {
	source, name, ok := strings.Cut(rf.Signal, "/")
	if !ok || source == "" || name == "" {
		return errors.New("signal must be source/name")
	}
	code, err := diag.ParseCode(rf.Code)
	if err != nil {
		return err
	}
	if info, _ := code.Info(); info.Obsolete {
		return fmt.Errorf("code %s is obsolete", rf.Code)
	}
	c := rule{code: code, min: math.Inf(-1), max: math.Inf(1), scale: 1}
	for _, f := range []struct {
		name string
		from *float64
		to   *float64
	}{{"min", rf.Min, &c.min}, {"max", rf.Max, &c.max}, {"scale", rf.Scale, &c.scale}, {"value", rf.Value, &c.value}} {
		if f.from == nil {
			continue
		}
		if math.IsNaN(*f.from) || math.IsInf(*f.from, 0) {
			return fmt.Errorf("%s is not a finite number", f.name)
		}
		*f.to = *f.from
	}
	c.fixed = rf.Value != nil
	if c.min > c.max {
		return fmt.Errorf("min %g is above max %g", c.min, c.max)
	}
	if info, _ := code.Info(); info.Kind == diag.KindState && (c.min > 0 || c.max < 0 || c.fixed && c.value != 0) {
		return errors.New("a state ends by the value 0: min, max and value must let it pass")
	}
	keys := make([]string, 0, len(rf.Where))
	for k := range rf.Where {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		c.where = append(c.where, match{key: k, oneOf: strings.Split(rf.Where[k], "|")})
	}
	key := signalName{source, name}
	r.by[key] = append(r.by[key], c)
	r.count++
	return nil
}

// Load compiles the built-in rules, with the files of dir over them: a file of the same
// name replaces the built-in one, another adds to them. An empty dir means built-in only.
func Load(dir string) (*Rules, error) {
	files, err := read(dir)
	if err != nil {
		return nil, err
	}
	return compile(files)
}

func compile(files map[string][]byte) (*Rules, error) {
	names := make([]string, 0, len(files))
	for n := range files {
		names = append(names, n)
	}
	sort.Strings(names)
	r := &Rules{by: map[signalName][]rule{}}
	for _, n := range names {
		if err := r.add(n, files[n]); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func read(dir string) (map[string][]byte, error) {
	files := map[string][]byte{}
	entries, err := builtin.ReadDir("rules")
	if err != nil {
		return nil, fmt.Errorf("read built-in rules: %w", err)
	}
	for _, e := range entries {
		b, err := builtin.ReadFile("rules/" + e.Name())
		if err != nil {
			return nil, fmt.Errorf("read built-in rules: %w", err)
		}
		files[e.Name()] = b
	}
	if dir == "" {
		return files, nil
	}
	own, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, fmt.Errorf("read rules in %s: %w", dir, err)
	}
	if _, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("read rules: %w", err)
	}
	for _, path := range own {
		b, err := readCapped(path)
		if err != nil {
			return nil, fmt.Errorf("read rules: %w", err)
		}
		files[filepath.Base(path)] = b
	}
	return files, nil
}

func readCapped(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile+1))
}
