package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/strata-edge/strata/model"
)

// bundle is what a training makes, before it is signed.
type bundle struct{ onnx, meta []byte }

// pack makes the two files that are signed.
func pack(d *dataset, n *model.Network, m model.Metrics, version int, seed uint64, goVersion string) (*bundle, error) {
	onnx, err := n.ONNX([2]string{"schema", d.schema.Hash}, [2]string{"version", strconv.Itoa(version)})
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(onnx)
	meta := model.Metadata{
		Format: 1, Version: version, SchemaVersion: d.schema.Version, Schema: d.schema.Hash,
		Inputs: d.schema.Width(), Classes: d.schema.Classes,
		ModelSHA256: hex.EncodeToString(sum[:]), DataSHA256: d.sum, Seed: seed, Go: goVersion,
		Metrics: m, Golden: golden(d, n),
	}
	text, err := json.Marshal(meta)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", model.MetadataFile, err)
	}
	return &bundle{onnx, append(text, '\n')}, nil
}

// golden takes the first test row of every cause, and the first of none.
func golden(d *dataset, n *model.Network) []model.Golden {
	var out []model.Golden
	seen := map[int]bool{}
	for _, r := range d.of(test) {
		if seen[r.class] {
			continue
		}
		seen[r.class] = true
		g := model.Golden{X: r.x, Y: make([]float32, n.Outputs())}
		n.Score(g.X, g.Y)
		out = append(out, g)
	}
	return out
}

// write signs the bundle and puts its four files into dir.
func (b *bundle) write(dir string, key ed25519.PrivateKey) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make model folder: %w", err)
	}
	pub := key.Public().(ed25519.PublicKey) //nolint:errcheck // the documented type
	for _, f := range []struct {
		name string
		data []byte
	}{
		{model.ModelFile, b.onnx},
		{model.MetadataFile, b.meta},
		{model.SignatureFile, model.Sign(key, b.onnx, b.meta)},
		{model.PublicKeyFile, []byte(model.FormatKey(pub) + "\n")},
	} {
		if err := os.WriteFile(filepath.Join(dir, f.name), f.data, 0o644); err != nil { //nolint:gosec // public files
			return fmt.Errorf("write model: %w", err)
		}
	}
	return nil
}

// signingKey reads an operator's key, or makes one that nobody will have afterwards.
func signingKey(path string) (ed25519.PrivateKey, error) {
	if path == "" {
		_, key, err := ed25519.GenerateKey(nil)
		if err != nil {
			return nil, fmt.Errorf("make signing key: %w", err)
		}
		return key, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read signing key: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("read signing key in %s: no PEM", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read signing key in %s: %w", path, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("read signing key in %s: it is no ed25519 key", path)
	}
	return key, nil
}

// committed is a bundle that stands in a folder.
type committed struct {
	bundle
	sig, pub []byte
	version  int
	seed     uint64
	goVer    string
}

// readCommitted reads the bundle of an earlier training; ok is false where there is none.
func readCommitted(dir string) (c *committed, ok bool, err error) {
	if _, err := os.Stat(filepath.Join(dir, model.MetadataFile)); errors.Is(err, os.ErrNotExist) {
		return nil, false, nil
	}
	c = &committed{}
	for _, f := range []struct {
		name string
		to   *[]byte
	}{{model.ModelFile, &c.onnx}, {model.MetadataFile, &c.meta}, {model.SignatureFile, &c.sig}, {model.PublicKeyFile, &c.pub}} {
		*f.to, err = os.ReadFile(filepath.Join(dir, f.name))
		if err != nil {
			return nil, false, fmt.Errorf("read earlier model: %w", err)
		}
	}
	var m model.Metadata
	if err := json.Unmarshal(c.meta, &m); err != nil {
		return nil, false, fmt.Errorf("read earlier model: %w", err)
	}
	c.version, c.seed, c.goVer = m.Version, m.Seed, m.Go
	return c, true, nil
}

// compare says in what a new training differs from the committed bundle, and whether
// that one is signed and loads.
func (c *committed) compare(b *bundle, s *model.Schema) error {
	var errs []error
	if !bytes.Equal(b.onnx, c.onnx) {
		errs = append(errs, fmt.Errorf("%s differs from a new training", model.ModelFile))
	}
	if !bytes.Equal(b.meta, c.meta) {
		errs = append(errs, fmt.Errorf("%s differs from a new training", model.MetadataFile))
	}
	if len(errs) > 0 && c.goVer != runtime.Version() {
		errs = append(errs, fmt.Errorf("it was trained with %s, this is %s", c.goVer, runtime.Version()))
	}
	key, err := model.ParseKey(string(c.pub))
	if err == nil {
		_, err = model.Open(c.onnx, c.meta, c.sig, model.Policy{Keys: []ed25519.PublicKey{key}, Schema: s})
	}
	return errors.Join(append(errs, err)...)
}
