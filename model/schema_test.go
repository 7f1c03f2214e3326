package model

import (
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func TestDefaultSchemaNamesExist(t *testing.T) {
	s, err := Default()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d features, %d classes, hash %s", s.Width(), len(s.Classes), s.Short())
	codes := map[string]struct {
		Context, Obsolete bool
	}{}
	readYAML(t, "../edge/diag/codes.yaml", &codes)
	kinds := []string{"flow", "proc", "service", "host", "if", "disk", "can", "rail", "radio", "gnss", "serial", "device", "site"}
	for _, f := range s.Features {
		switch f.Op {
		case Kind:
			if !slices.Contains(kinds, f.Code) {
				t.Errorf("%s: no such scope kind", f.Name)
			}
		case LayerFlag:
		default:
			for _, c := range []string{f.Code, f.Over} {
				if info, ok := codes[c]; c != "" && (!ok || info.Obsolete) {
					t.Errorf("%s: code %q is not in codes.yaml, or obsolete", f.Name, c)
				}
			}
		}
	}
}

// The evidence of a trained cause must be visible to the model, on the candidate itself.
func TestDefaultSchemaCoversTrainedCauses(t *testing.T) {
	s, err := Default()
	if err != nil {
		t.Fatal(err)
	}
	var causes []struct {
		ID        string
		Untrained bool
		Evidence  struct {
			Any, All map[string]float64
			None     []string
		}
	}
	readYAML(t, "../edge/diag/causes.yaml", &causes)
	seen := map[string]bool{}
	for _, f := range s.Features {
		if f.Block == Self {
			seen[f.Code] = true
		}
	}
	var trained []string
	for _, c := range causes {
		if c.Untrained {
			continue
		}
		trained = append(trained, c.ID)
		need := slices.Clone(c.Evidence.None)
		for code := range c.Evidence.Any {
			need = append(need, code)
		}
		for code := range c.Evidence.All {
			need = append(need, code)
		}
		for _, code := range need {
			if !seen[code] {
				t.Errorf("%s: no feature of the candidate looks at %s", c.ID, code)
			}
		}
	}
	if !slices.Equal(trained, s.Classes) {
		t.Errorf("classes are %v, causes.yaml trains %v", s.Classes, trained)
	}
}

func TestParseSchemaRejects(t *testing.T) {
	const head = "version: 1\nclasses: [l4.port.refused]\nfeatures:\n"
	for name, text := range map[string]string{
		"no version":       "classes: [a]\nfeatures: [{blocks: [self], op: lowest_layer}]",
		"no classes":       "version: 1\nfeatures: [{blocks: [self], op: lowest_layer}]",
		"no features":      "version: 1\nclasses: [a]",
		"unknown key":      head + "- {blocks: [self], op: lowest_layer, weight: 2}",
		"unknown op":       head + "- {blocks: [self], op: sqrt, codes: [X]}",
		"unknown block":    head + "- {blocks: [beside], op: log, codes: [X]}",
		"no block":         head + "- {op: log, codes: [X]}",
		"double":           head + "- {blocks: [self, self], op: log, codes: [X]}",
		"double class":     "version: 1\nclasses: [a, a]\nfeatures: [{blocks: [self], op: lowest_layer}]",
		"count of self":    head + "- {blocks: [self], op: count}",
		"kind of device":   head + "- {blocks: [device], op: kind, codes: [host]}",
		"pairs with log":   head + "- {blocks: [self], op: log, pairs: [[A, B]]}",
		"codes with ratio": head + "- {blocks: [self], op: ratio, codes: [A]}",
		"half a pair":      head + "- {blocks: [self], op: ratio, pairs: [[A]]}",
		"codes with count": head + "- {blocks: [below], op: count, codes: [A]}",
		"layer 8":          head + "- {blocks: [self], op: layer_flag, codes: [8]}",
		"layer 04":         head + "- {blocks: [self], op: layer_flag, codes: [\"04\"]}",
		"line break":       head + "- {blocks: [self], op: log, codes: [\"A\\nB\"]}",
		"two documents":    head + "- {blocks: [self], op: lowest_layer}\n---\nversion: 2",
	} {
		if s, err := ParseSchema([]byte(text)); err == nil {
			t.Errorf("%s: accepted as %d features", name, s.Width())
		}
	}
}

func TestSchemaHashFollowsMeaning(t *testing.T) {
	const text = "version: 1\nclasses: [a, b]\nfeatures:\n- {blocks: [self], op: log, codes: [X, Y]}\n"
	hash := func(text string) string {
		s, err := ParseSchema([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return s.Hash
	}
	base := hash(text)
	if same := hash("# a comment\n" + text); same != base {
		t.Error("a comment changed the hash")
	}
	if same := hash("version: 1\nclasses: [a, b]\nfeatures:\n- {blocks: [self], op: log, codes: [X]}\n- {blocks: [self], op: log, codes: [Y]}\n"); same != base {
		t.Error("the same features in two entries changed the hash")
	}
	for _, change := range [][2]string{{"version: 1", "version: 2"}, {"[a, b]", "[b, a]"}, {"[X, Y]", "[Y, X]"}, {"self", "device"}, {"op: log", "op: flag"}} {
		if hash(strings.Replace(text, change[0], change[1], 1)) == base {
			t.Errorf("%s to %s: same hash", change[0], change[1])
		}
	}
}

func readYAML(t *testing.T, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
}
