package model

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // schema.yaml
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Block says over which scopes of the episode a feature looks, as seen from the
// candidate. Where a block holds several scopes, counts and states are summed and of
// levels the largest is taken.
type Block uint8

// The blocks.
const (
	Self    Block = iota // the candidate scope
	Below                // scopes that depend on the candidate
	Above                // scopes that the candidate depends on
	Sibling              // other scopes of the candidate's kind on the same parent
	Device               // every scope of the episode, the candidate too
	blocks
)

var blockNames = [blocks]string{"self", "below", "above", "sibling", "device"}

// String gives the block as schema.yaml writes it.
func (b Block) String() string { return name(blockNames[:], uint8(b)) }

// Op says how a feature is computed. Transform has the arithmetic, so that the device
// and the trainer cannot differ. A scope has a symptom when a code that is no context
// stands on it with a value above 0.
type Op uint8

// The operations. Their inputs are read from the feature's block.
const (
	Log           Op = iota // LogValue of Code
	Ratio                   // RatioValue of Code and Over
	Flag                    // 1 if Code's value is above 0, else 0
	ShareScopes             // ShareValue of the scopes on which Code is above 0
	Count                   // LogValue of the number of scopes
	SymptomScopes           // LogValue of the number of scopes with a symptom
	LowestLayer             // LayerValue of the lowest layer with a symptom
	OnsetLead               // LeadValue of the earliest symptoms on the candidate and in the block
	Kind                    // 1 if the candidate's kind is the text in Code ("service"), else 0
	LayerFlag               // 1 if a symptom of the layer in Code ("4") stands in the block, else 0
	ops
)

var opNames = [ops]string{
	"log", "ratio", "flag", "share_scopes", "count", "symptom_scopes", "lowest_layer", "onset_lead", "kind", "layer_flag",
}

// String gives the operation as schema.yaml writes it.
func (o Op) String() string { return name(opNames[:], uint8(o)) }

// group says whether the operation compares scopes, which one scope alone cannot give.
func (o Op) group() bool {
	return o == ShareScopes || o == Count || o == SymptomScopes || o == OnsetLead
}

// bare says whether the operation takes no code.
func (o Op) bare() bool {
	return o == Count || o == SymptomScopes || o == LowestLayer || o == OnsetLead
}

// Feature is one column of a row.
type Feature struct {
	Name  string // block.op[.Code[/Over]]: unique, stable, for people
	Block Block
	Op    Op
	Code  string // a code's name; for Kind a scope kind; for LayerFlag a digit 0 to 7; empty where Op takes none
	Over  string // Ratio's denominator, a code's name
}

// Schema is the shape of a row and of a score.
type Schema struct {
	Version  int
	Features []Feature // the columns of a row
	Classes  []string  // ids of the causes that are scored, in the order of the output
	Hash     string    // SHA-256, in hex, of the text that Canonical gives
}

//go:embed schema.yaml
var schemaYAML []byte

// Default gives the schema that this build computes.
func Default() (*Schema, error) {
	s, err := ParseSchema(schemaYAML)
	if err != nil {
		return nil, fmt.Errorf("read built-in feature schema: %w", err)
	}
	return s, nil
}

// schemaFile is schema.yaml.
type schemaFile struct {
	Version  int         `yaml:"version"`
	Classes  []string    `yaml:"classes"`
	Features []groupFile `yaml:"features"`
}

// groupFile is one line of features: every code of one operation in each of the blocks.
type groupFile struct {
	Blocks []string    `yaml:"blocks"`
	Op     string      `yaml:"op"`
	Codes  []string    `yaml:"codes"`
	Pairs  [][2]string `yaml:"pairs"`
}

const maxSchemaFeatures = 512

// ParseSchema reads the YAML form. It rejects unknown keys, blocks and operations,
// doubles, and operations that make no sense for their block.
func ParseSchema(text []byte) (*Schema, error) {
	var f schemaFile
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&f); err != nil {
		return nil, fmt.Errorf("parse schema: %w", err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("parse schema: more than one document")
	}
	if f.Version < 1 {
		return nil, fmt.Errorf("schema: version %d, want 1 or more", f.Version)
	}
	s := &Schema{Version: f.Version, Classes: f.Classes}
	if len(s.Classes) == 0 {
		return nil, errors.New("schema: no classes")
	}
	if err := distinct("class", s.Classes); err != nil {
		return nil, err
	}
	for i, g := range f.Features {
		if err := s.expand(g); err != nil {
			return nil, fmt.Errorf("schema: features[%d]: %w", i, err)
		}
		if len(s.Features) > maxSchemaFeatures {
			return nil, fmt.Errorf("schema: more than %d features", maxSchemaFeatures)
		}
	}
	if len(s.Features) == 0 {
		return nil, errors.New("schema: no features")
	}
	names := make([]string, len(s.Features))
	for i, ft := range s.Features {
		names[i] = ft.Name
	}
	if err := distinct("feature", names); err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(s.Canonical()))
	s.Hash = hex.EncodeToString(sum[:])
	return s, nil
}

// expand appends the features of one line.
func (s *Schema) expand(g groupFile) error {
	op, ok := index(opNames[:], g.Op)
	if !ok {
		return fmt.Errorf("unknown op %q", g.Op)
	}
	o := Op(op)
	if len(g.Blocks) == 0 {
		return fmt.Errorf("op %s: no blocks", o)
	}
	switch {
	case o == Ratio && (len(g.Pairs) == 0 || len(g.Codes) != 0):
		return errors.New("op ratio: takes pairs, not codes")
	case o != Ratio && len(g.Pairs) != 0:
		return fmt.Errorf("op %s: takes no pairs", o)
	case o.bare() && len(g.Codes) != 0:
		return fmt.Errorf("op %s: takes no codes", o)
	case !o.bare() && o != Ratio && len(g.Codes) == 0:
		return fmt.Errorf("op %s: no codes", o)
	}
	for _, bn := range g.Blocks {
		bi, ok := index(blockNames[:], bn)
		if !ok {
			return fmt.Errorf("unknown block %q", bn)
		}
		b := Block(bi)
		if (b == Self && o.group()) || (b != Self && o == Kind) {
			return fmt.Errorf("op %s makes no sense in block %s", o, b)
		}
		prefix := b.String() + "." + o.String()
		switch {
		case o.bare():
			s.Features = append(s.Features, Feature{Name: prefix, Block: b, Op: o})
		case o == Ratio:
			for _, p := range g.Pairs {
				if p[0] == "" || p[1] == "" {
					return errors.New("op ratio: empty code")
				}
				s.Features = append(s.Features, Feature{Name: prefix + "." + p[0] + "/" + p[1], Block: b, Op: o, Code: p[0], Over: p[1]})
			}
		default:
			for _, c := range g.Codes {
				if err := checkOperand(o, c); err != nil {
					return err
				}
				s.Features = append(s.Features, Feature{Name: prefix + "." + c, Block: b, Op: o, Code: c})
			}
		}
	}
	return nil
}

func checkOperand(o Op, code string) error {
	if code == "" {
		return fmt.Errorf("op %s: empty code", o)
	}
	if o == LayerFlag {
		if len(code) != 1 || code < "0" || code > "7" {
			return fmt.Errorf("op %s: layer %q, want 0 to 7", o, code)
		}
	}
	return nil
}

// Canonical gives the expanded schema as text, one line a feature and a class. Its hash
// identifies the schema: equal hashes mean equal rows.
func (s *Schema) Canonical() string {
	var b strings.Builder
	fmt.Fprintf(&b, "strata feature schema %d\ntransform %d\n", s.Version, transformVersion)
	for _, f := range s.Features {
		b.WriteString("feature ")
		b.WriteString(f.Name)
		b.WriteByte('\n')
	}
	for _, c := range s.Classes {
		b.WriteString("class ")
		b.WriteString(c)
		b.WriteByte('\n')
	}
	return b.String()
}

// Width gives the number of columns of a row.
func (s *Schema) Width() int { return len(s.Features) }

// Short gives the first 16 digits of the hash, as findings and logs show it.
func (s *Schema) Short() string { return shorten(s.Hash) }

func shorten(hash string) string { return hash[:min(len(hash), 16)] }

func name(names []string, i uint8) string {
	if int(i) < len(names) {
		return names[i]
	}
	return strconv.Itoa(int(i))
}

func index(names []string, s string) (int, bool) {
	for i, n := range names {
		if n == s {
			return i, true
		}
	}
	return 0, false
}

func distinct(what string, names []string) error {
	seen := make(map[string]bool, len(names))
	for _, n := range names {
		if n == "" || strings.ContainsAny(n, " \n\r\t") {
			return fmt.Errorf("schema: %s name %q", what, n)
		}
		if seen[n] {
			return fmt.Errorf("schema: %s %s stands twice", what, n)
		}
		seen[n] = true
	}
	return nil
}
