package model

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
)

// The files of a bundle.
const (
	ModelFile     = "model.onnx"
	MetadataFile  = "model.json"
	SignatureFile = "model.sig"
	PublicKeyFile = "model.pub" // in the built-in bundle alone: an operator's keys come from his configuration
)

// MaxMetadataSize caps model.json, in bytes.
const MaxMetadataSize = 256 << 10

// Reasons to refuse a bundle that a caller may want to tell apart. Damage and
// strange contents give other errors.
var (
	ErrNoModel   = errors.New("no model")
	ErrUntrusted = errors.New("model is not signed by a trusted key")
	ErrDowngrade = errors.New("model is older than the oldest one allowed")
	ErrSchema    = errors.New("model was trained for another feature schema")
)

// Metadata is model.json: what a bundle says of itself. It is signed with the model.
type Metadata struct {
	Format        int      `json:"format"`  // of this file: 1
	Version       int      `json:"version"` // of the model: rises by 1 with each release
	SchemaVersion int      `json:"schema_version"`
	Schema        string   `json:"schema"` // Schema.Hash
	Inputs        int      `json:"inputs"`
	Classes       []string `json:"classes"`
	ModelSHA256   string   `json:"model_sha256"`
	DataSHA256    string   `json:"data_sha256"` // of the rows' file, as it was read
	Seed          uint64   `json:"seed"`
	Go            string   `json:"go"` // version of the compiler that trained it
	Metrics       Metrics  `json:"metrics"`
	Golden        []Golden `json:"golden"`
}

// Golden is a row with the scores that the model gives for it.
type Golden struct {
	X []float32 `json:"x"`
	Y []float32 `json:"y"`
}

// Metrics is what the trainer measured on rows of held-out runs.
type Metrics struct {
	Rows    int         `json:"rows"` // of all three parts, without ignored ones
	Runs    int         `json:"runs"`
	Test    Evaluation  `json:"test"`              // runs like those trained on
	Shifted *Evaluation `json:"shifted,omitempty"` // runs the lab marked as different in kind
}

// Evaluation sets the model beside two baselines on the same rows.
type Evaluation struct {
	Rows            int            `json:"rows"`
	Runs            int            `json:"runs"`
	Accuracy        float64        `json:"accuracy"` // of rows, "none" among the answers
	MacroF1         float64        `json:"macro_f1"` // over the causes that occur
	ECE             float64        `json:"ece"`      // expected calibration error, 10 bins
	ConfidentWrong  float64        `json:"confident_wrong"`
	RootTop1        float64        `json:"root_top1"` // of runs with a fault: the best-scored candidate is the root, with its cause
	TreeMacroF1     float64        `json:"tree_macro_f1"`
	MajorityMacroF1 float64        `json:"majority_macro_f1"`
	Classes         []ClassMetrics `json:"classes"`
}

// ClassMetrics is the outcome for one cause.
type ClassMetrics struct {
	Cause     string  `json:"cause"`
	Rows      int     `json:"rows"`
	Precision float64 `json:"precision"`
	Recall    float64 `json:"recall"`
	F1        float64 `json:"f1"`
	TreeF1    float64 `json:"tree_f1"`
}

// Policy says which bundles are accepted.
type Policy struct {
	Keys       []ed25519.PublicKey // a bundle must be signed by one of them
	MinVersion int                 // older ones are refused, signed or not
	Schema     *Schema             // that the rows will have
}

// Bundle is a model that passed every check but the runtime's own.
type Bundle struct {
	Meta    Metadata
	ONNX    []byte // the bytes that were signed; hand these to the runtime, not the file
	Network *Network
	Key     ed25519.PublicKey // that signed it
}

// LoadDir reads an operator's bundle from a folder.
func LoadDir(dir string, p Policy) (*Bundle, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open model folder: %w", err)
	}
	defer root.Close() //nolint:errcheck // opened to read
	b, err := Load(root.FS(), p)
	if err != nil {
		return nil, fmt.Errorf("model in %s: %w", dir, err)
	}
	return b, nil
}

// Load reads a bundle's three files once and checks what it read.
func Load(fsys fs.FS, p Policy) (*Bundle, error) {
	sig, err := readCapped(fsys, SignatureFile, maxSignatureSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w (%s is missing)", ErrUntrusted, SignatureFile)
	}
	if err != nil {
		return nil, fmt.Errorf("load bundle: %w", err)
	}
	onnx, err := readCapped(fsys, ModelFile, MaxModelSize)
	if err != nil {
		return nil, fmt.Errorf("load bundle: %w", err)
	}
	meta, err := readCapped(fsys, MetadataFile, MaxMetadataSize)
	if err != nil {
		return nil, fmt.Errorf("load bundle: %w", err)
	}
	return Open(onnx, meta, sig, p)
}

// Open checks a bundle: signature first, so that nothing unsigned is parsed, then
// version, schema, contents and golden rows. It keeps onnx.
func Open(onnx, meta, sig []byte, p Policy) (*Bundle, error) {
	if p.Schema == nil {
		return nil, errors.New("open model: no schema to compare with")
	}
	if len(onnx) > MaxModelSize || len(meta) > MaxMetadataSize {
		return nil, fmt.Errorf("open model: %d and %d bytes, the caps are %d and %d", len(onnx), len(meta), MaxModelSize, MaxMetadataSize)
	}
	key, err := verify(onnx, meta, sig, p.Keys)
	if err != nil {
		return nil, err
	}
	b := &Bundle{ONNX: onnx, Key: key}
	if b.Meta, err = parseMetadata(meta); err != nil {
		return nil, err
	}
	if b.Meta.Version < p.MinVersion {
		return nil, fmt.Errorf("%w: version %d, the oldest allowed is %d", ErrDowngrade, b.Meta.Version, p.MinVersion)
	}
	if b.Meta.Schema != p.Schema.Hash || !slices.Equal(b.Meta.Classes, p.Schema.Classes) {
		return nil, fmt.Errorf("%w: %s with %d classes, this program computes %s with %d",
			ErrSchema, shorten(b.Meta.Schema), len(b.Meta.Classes), p.Schema.Short(), len(p.Schema.Classes))
	}
	if sum := sha256.Sum256(onnx); b.Meta.ModelSHA256 != hex.EncodeToString(sum[:]) {
		return nil, fmt.Errorf("%s does not belong to %s: its SHA-256 differs", MetadataFile, ModelFile)
	}
	if b.Network, err = DecodeONNX(onnx); err != nil {
		return nil, err
	}
	if in, out := b.Network.Inputs(), b.Network.Outputs(); in != p.Schema.Width() || in != b.Meta.Inputs || out != len(p.Schema.Classes) {
		return nil, fmt.Errorf("%w: the network is %d to %d, the schema %d to %d", ErrSchema, in, out, p.Schema.Width(), len(p.Schema.Classes))
	}
	score := func(x []float32, rows int, out []float32) error {
		b.Network.Score(x, out)
		return nil
	}
	if err := b.CheckGolden(score); err != nil {
		return nil, err
	}
	return b, nil
}

// goldenTolerance is far above the difference between two orders of a float32 sum over
// MaxWidth terms and far below what changes a decision.
const goldenTolerance = 1e-5

// CheckGolden runs the golden rows through score, one at a time.
func (b *Bundle) CheckGolden(score func(x []float32, rows int, out []float32) error) error {
	out := make([]float32, len(b.Meta.Classes))
	for i, g := range b.Meta.Golden {
		if err := score(g.X, 1, out); err != nil {
			return fmt.Errorf("golden row %d: %w", i, err)
		}
		for k, y := range out {
			if d := math.Abs(float64(y) - float64(g.Y[k])); !(d <= goldenTolerance) {
				return fmt.Errorf("golden row %d, %s: score %g, want %g", i, b.Meta.Classes[k], y, g.Y[k])
			}
		}
	}
	return nil
}

// Ref names the model as findings carry it: its version and its schema's short hash.
func (b *Bundle) Ref() (version, schema string) {
	return fmt.Sprintf("%d-%s", b.Meta.Version, b.Meta.ModelSHA256[:8]), shorten(b.Meta.Schema)
}

const maxGolden = 64

// parseMetadata reads model.json strictly and checks its shapes.
func parseMetadata(b []byte) (Metadata, error) {
	var m Metadata
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&m); err != nil {
		return m, fmt.Errorf("parse %s: %w", MetadataFile, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return m, fmt.Errorf("parse %s: text behind the object", MetadataFile)
	}
	if m.Format != 1 || m.Version < 1 {
		return m, fmt.Errorf("%s: format %d and version %d, want 1 and at least 1", MetadataFile, m.Format, m.Version)
	}
	if len(m.Golden) == 0 || len(m.Golden) > maxGolden {
		return m, fmt.Errorf("%s: %d golden rows, want 1 to %d", MetadataFile, len(m.Golden), maxGolden)
	}
	for i, g := range m.Golden {
		if len(g.X) != m.Inputs || len(g.Y) != len(m.Classes) {
			return m, fmt.Errorf("%s: golden row %d is %d to %d, want %d to %d", MetadataFile, i, len(g.X), len(g.Y), m.Inputs, len(m.Classes))
		}
	}
	return m, nil
}

// readCapped reads a whole file of at most limit bytes.
func readCapped(fsys fs.FS, name string, limit int) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // opened to read
	b, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(b) > limit {
		return nil, fmt.Errorf("read %s: more than %d bytes", name, limit)
	}
	return b, nil
}
