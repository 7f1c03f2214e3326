package model

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

const smallSchema = "version: 1\nclasses: [a, b]\nfeatures:\n- {blocks: [self], op: log, codes: [X, Y, Z]}\n"

// parts is a bundle under construction: network of random weights, no diagnosis.
type parts struct {
	schema *Schema
	net    *Network
	meta   Metadata
	key    ed25519.PrivateKey
}

func newParts(t testing.TB) *parts {
	t.Helper()
	s, err := ParseSchema([]byte(smallSchema))
	if err != nil {
		t.Fatal(err)
	}
	p := &parts{schema: s, net: smallNetwork(), key: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))}
	p.meta = Metadata{Format: 1, Version: 3, SchemaVersion: 1, Schema: s.Hash, Inputs: 3, Classes: s.Classes}
	for range 3 {
		g := Golden{X: []float32{rand.Float32(), rand.Float32(), rand.Float32()}, Y: make([]float32, 2)}
		p.net.Score(g.X, g.Y)
		p.meta.Golden = append(p.meta.Golden, g)
	}
	return p
}

func (p *parts) files(t testing.TB) (onnx, meta, sig []byte) {
	t.Helper()
	onnx, err := p.net.ONNX()
	if err != nil {
		t.Fatal(err)
	}
	if p.meta.ModelSHA256 == "" {
		sum := sha256.Sum256(onnx)
		p.meta.ModelSHA256 = hex.EncodeToString(sum[:])
	}
	if meta, err = json.Marshal(p.meta); err != nil {
		t.Fatal(err)
	}
	return onnx, meta, Sign(p.key, onnx, meta)
}

func (p *parts) policy() Policy {
	return Policy{Keys: []ed25519.PublicKey{p.key.Public().(ed25519.PublicKey)}, MinVersion: 1, Schema: p.schema}
}

func TestOpen(t *testing.T) {
	p := newParts(t)
	onnx, meta, sig := p.files(t)
	b, err := Open(onnx, meta, sig, p.policy())
	if err != nil {
		t.Fatal(err)
	}
	if !b.Key.Equal(p.key.Public()) || !bytes.Equal(b.ONNX, onnx) || b.Meta.Version != 3 {
		t.Errorf("bundle %+v", b.Meta)
	}
	if v, s := b.Ref(); v != "3-"+b.Meta.ModelSHA256[:8] || s != p.schema.Short() {
		t.Errorf("ref %s %s", v, s)
	}
}

// Every single bit of the three files matters.
func TestOpenRejectsFlippedBits(t *testing.T) {
	p := newParts(t)
	onnx, meta, sig := p.files(t)
	for name, file := range map[string][]byte{ModelFile: onnx, MetadataFile: meta, SignatureFile: bytes.TrimSpace(sig)} {
		for bit := range 8 * len(file) {
			file[bit/8] ^= 1 << (bit % 8)
			if _, err := Open(onnx, meta, sig, p.policy()); !errors.Is(err, ErrUntrusted) {
				t.Fatalf("%s with bit %d flipped: %v", name, bit, err)
			}
			file[bit/8] ^= 1 << (bit % 8)
		}
	}
}

func TestOpenRejectsUntrusted(t *testing.T) {
	p := newParts(t)
	onnx, meta, sig := p.files(t)
	other := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{8}, 32))
	otherPolicy := p.policy()
	otherPolicy.Keys = []ed25519.PublicKey{other.Public().(ed25519.PublicKey), nil, {1, 2, 3}}
	noKeys := p.policy()
	noKeys.Keys = nil
	raw := ed25519.Sign(p.key, append(slices.Clone(onnx), meta...))
	for name, c := range map[string]struct {
		sig []byte
		p   Policy
	}{
		"unsigned":         {nil, p.policy()},
		"signed by other":  {Sign(other, onnx, meta), p.policy()},
		"other key":        {sig, otherPolicy},
		"no keys":          {sig, noKeys},
		"swapped files":    {Sign(p.key, meta, onnx), p.policy()},
		"other context":    {raw, p.policy()},
		"twice":            {append(slices.Clone(sig), sig...), p.policy()},
		"truncated":        {sig[:20], p.policy()},
		"not in base64":    {bytes.Repeat([]byte("!"), 88), p.policy()},
		"zero":             {Sign(p.key, nil, nil), p.policy()},
		"other metadata":   {Sign(p.key, onnx, append(slices.Clone(meta), ' ')), p.policy()},
		"only model":       {Sign(p.key, onnx, nil), p.policy()},
		"only description": {Sign(p.key, nil, meta), p.policy()},
	} {
		if _, err := Open(onnx, meta, c.sig, c.p); !errors.Is(err, ErrUntrusted) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A trusted key does not make a wrong bundle right.
func TestOpenRejectsSigned(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*parts)
		want  error
		text  string
	}{
		"downgrade":       {spoil: func(p *parts) { p.meta.Version = 1 }, want: ErrDowngrade},
		"other schema":    {spoil: func(p *parts) { p.meta.Schema = strings.Repeat("0", 64) }, want: ErrSchema},
		"short schema":    {spoil: func(p *parts) { p.meta.Schema = "" }, want: ErrSchema},
		"classes swapped": {spoil: func(p *parts) { p.meta.Classes = []string{"b", "a"} }, want: ErrSchema},
		"wider network": {spoil: func(p *parts) {
			p.net = randomNetwork(rand.New(rand.NewPCG(1, 1)), 4, 2)
		}, want: ErrSchema},
		"more scores": {spoil: func(p *parts) {
			p.net = randomNetwork(rand.New(rand.NewPCG(1, 1)), 3, 3)
		}, want: ErrSchema},
		"other model":       {spoil: func(p *parts) { p.meta.ModelSHA256 = strings.Repeat("0", 64) }, text: "SHA-256"},
		"format":            {spoil: func(p *parts) { p.meta.Format = 2 }, text: "format"},
		"version 0":         {spoil: func(p *parts) { p.meta.Version = 0 }, text: "version"},
		"no golden rows":    {spoil: func(p *parts) { p.meta.Golden = nil }, text: "golden"},
		"narrow golden row": {spoil: func(p *parts) { p.meta.Golden[1].X = nil }, text: "golden"},
		"wrong golden row":  {spoil: func(p *parts) { p.meta.Golden[2].Y[1] += 0.001 }, text: "golden row 2"},
	} {
		p := newParts(t)
		c.spoil(p)
		onnx, meta, sig := p.files(t)
		policy := p.policy()
		policy.MinVersion = 2
		if c.text == "version" {
			policy.MinVersion = 0
		}
		_, err := Open(onnx, meta, sig, policy)
		if err == nil || (c.want != nil && !errors.Is(err, c.want)) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOpenRejectsOtherText(t *testing.T) {
	for name, change := range map[string]func([]byte) []byte{
		"unknown key":      func(b []byte) []byte { return append([]byte(`{"trust":true,`), b[1:]...) },
		"second object":    func(b []byte) []byte { return append(b, '{', '}') },
		"no object":        func([]byte) []byte { return []byte("[]") },
		"nothing":          func([]byte) []byte { return nil },
		"number too large": func(b []byte) []byte { return bytes.Replace(b, []byte(`"x":[`), []byte(`"x":[1e99,`), 1) },
	} {
		p := newParts(t)
		onnx, meta, _ := p.files(t)
		meta = change(meta)
		if _, err := Open(onnx, meta, Sign(p.key, onnx, meta), p.policy()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestLoadDir(t *testing.T) {
	p := newParts(t)
	onnx, meta, sig := p.files(t)
	dir := t.TempDir()
	write := func(name string, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(ModelFile, onnx)
	write(MetadataFile, meta)
	if _, err := LoadDir(dir, p.policy()); !errors.Is(err, ErrUntrusted) {
		t.Errorf("without a signature: %v", err)
	}
	write(SignatureFile, sig)
	if _, err := LoadDir(dir, p.policy()); err != nil {
		t.Error(err)
	}
	write(ModelFile, make([]byte, MaxModelSize+1))
	if _, err := LoadDir(dir, p.policy()); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("too large: %v", err)
	}
	outside := filepath.Join(t.TempDir(), "m")
	if err := os.WriteFile(outside, onnx, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, ModelFile)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, ModelFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadDir(dir, p.policy()); err == nil {
		t.Error("followed a link out of the folder")
	}
	if _, err := LoadDir(filepath.Join(dir, "none"), p.policy()); err == nil {
		t.Error("a folder that is not there")
	}
}

func TestBuiltin(t *testing.T) {
	b, err := Builtin()
	if errors.Is(err, ErrNoModel) {
		t.Skip("no model was trained yet")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("version %d, %d bytes, macro-F1 %.3f", b.Meta.Version, len(b.ONNX), b.Meta.Metrics.Test.MacroF1)
}

func TestLoadBuiltinFromFiles(t *testing.T) {
	p := newParts(t)
	if _, err := loadBuiltin(fstest.MapFS{}, p.schema); !errors.Is(err, ErrNoModel) {
		t.Errorf("without files: %v", err)
	}
	onnx, meta, sig := p.files(t)
	files := fstest.MapFS{ModelFile: {Data: onnx}, MetadataFile: {Data: meta}, SignatureFile: {Data: sig}}
	if _, err := loadBuiltin(files, p.schema); err == nil || errors.Is(err, ErrNoModel) {
		t.Errorf("without a key: %v", err)
	}
	files[PublicKeyFile] = &fstest.MapFile{Data: []byte(FormatKey(p.key.Public().(ed25519.PublicKey)) + "\n")}
	if _, err := loadBuiltin(files, p.schema); err != nil {
		t.Error(err)
	}
	files[PublicKeyFile].Data = []byte("AAAA\n")
	if _, err := loadBuiltin(files, p.schema); err == nil {
		t.Error("a short key was accepted")
	}
}

func TestReadKeys(t *testing.T) {
	p := newParts(t)
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good.pub"), filepath.Join(dir, "bad.pub")
	pub := p.key.Public().(ed25519.PublicKey)
	for name, text := range map[string]string{good: FormatKey(pub) + "\n", bad: "no key\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	keys, err := ReadKeys([]string{good, good})
	if err != nil || len(keys) != 2 || !keys[1].Equal(pub) {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	for _, f := range []string{bad, filepath.Join(dir, "none.pub"), dir} {
		if _, err := ReadKeys([]string{good, f}); err == nil {
			t.Errorf("%s: accepted", f)
		}
	}
}

func FuzzOpen(f *testing.F) {
	p := newParts(f)
	onnx, meta, sig := p.files(f)
	f.Add(onnx, meta, sig, true)
	f.Add(onnx, meta, sig, false)
	f.Add([]byte{}, []byte("{}"), []byte("AA=="), true)
	f.Fuzz(func(t *testing.T, onnx, meta, sig []byte, sign bool) {
		signed := Sign(p.key, onnx, meta)
		if sign {
			sig = signed
		}
		b, err := Open(onnx, meta, sig, p.policy())
		if err == nil && !bytes.Equal(bytes.TrimSpace(sig), bytes.TrimSpace(signed)) {
			t.Fatal("accepted without a good signature")
		}
		if err == nil && (b.Network.Inputs() != 3 || b.Network.Outputs() != 2) {
			t.Fatal("accepted a network of another shape")
		}
	})
}

func FuzzParseSchema(f *testing.F) {
	f.Add([]byte(smallSchema))
	f.Add(schemaYAML)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSchema(b)
		if err == nil && (s.Width() == 0 || s.Width() > maxSchemaFeatures || len(s.Hash) != 64) {
			t.Fatalf("accepted %d features", s.Width())
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	p := newParts(b)
	onnx, meta, sig := p.files(b)
	for b.Loop() {
		if _, err := Open(onnx, meta, sig, p.policy()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseSchema(b *testing.B) {
	for b.Loop() {
		if _, err := ParseSchema(schemaYAML); err != nil {
			b.Fatal(err)
		}
	}
}
