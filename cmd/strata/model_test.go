package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strata-edge/strata/model"
)

// modelFolder writes an operator's bundle of zero weights, which says 0.5 to everything,
// and the key that signed it.
func modelFolder(t *testing.T) (dir, key string) {
	t.Helper()
	s, err := model.Default()
	if err != nil {
		t.Fatal(err)
	}
	in, out := s.Width(), len(s.Classes)
	n := &model.Network{
		Shift: make([]float32, in), Scale: make([]float32, in), Clip: 8,
		Layers: []model.Dense{{In: in, Out: out, W: make([]float32, in*out), B: make([]float32, out)}},
	}
	onnx, err := n.ONNX()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(onnx)
	g := model.Golden{X: make([]float32, in), Y: make([]float32, out)}
	n.Score(g.X, g.Y)
	meta, err := json.Marshal(model.Metadata{
		Format: 1, Version: 5, SchemaVersion: s.Version, Schema: s.Hash, Inputs: in, Classes: s.Classes,
		ModelSHA256: hex.EncodeToString(sum[:]), Golden: []model.Golden{g},
	})
	if err != nil {
		t.Fatal(err)
	}
	pub, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	key = filepath.Join(t.TempDir(), "operator.pub")
	for path, data := range map[string][]byte{
		filepath.Join(dir, model.ModelFile):     onnx,
		filepath.Join(dir, model.MetadataFile):  meta,
		filepath.Join(dir, model.SignatureFile): model.Sign(private, onnx, meta),
		key:                                     []byte(model.FormatKey(pub) + "\n"),
	} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir, key
}

func TestModelCommand(t *testing.T) {
	dir, key := modelFolder(t)
	run := func(args ...string) (code int, stdout, stderr string) {
		var out, errs bytes.Buffer
		code = modelCommand(t.Context(), args, nil, &out, &errs)
		return code, out.String(), errs.String()
	}
	code, out, errs := run("info", "--json", "--key", key, dir)
	var d modelDescription
	if err := json.Unmarshal([]byte(out), &d); err != nil || code != exitOK || d.Version != 5 || d.Builtin || len(d.SignedBy) != 16 {
		t.Errorf("info --json: exit %d, %+v, %v, %s", code, d, err, errs)
	}
	if code, out, errs = run("info", "--key", key, dir); code != exitOK || !strings.Contains(out, "version 5") {
		t.Errorf("info: exit %d, %s%s", code, out, errs)
	}
	code, out, errs = run("verify", "--json", "--key", key, dir)
	var v modelVerdict
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != exitOK || !v.OK || v.Golden != 1 || (v.Runtime == "") == (v.Note == "") {
		t.Errorf("verify --json: exit %d, %+v, %v, %s", code, v, err, errs)
	}
	for name, c := range map[string]struct {
		args []string
		code int
		text string
	}{
		"no key":          {[]string{"verify", dir}, exitFailure, "trusted key"},
		"too old":         {[]string{"verify", "--key", key, "--min-version", "6", dir}, exitFailure, "older"},
		"no folder":       {[]string{"info", "--key", key, dir + "/none"}, exitFailure, "none"},
		"named library":   {[]string{"verify", "--key", key, "--ort", dir + "/lib.so", dir}, exitFailure, "ONNX Runtime"},
		"no such key":     {[]string{"info", "--key", dir + "/none", dir}, exitUsage, "none"},
		"no action":       {nil, exitUsage, "unknown action"},
		"unknown action":  {[]string{"train"}, exitUsage, "unknown action"},
		"two folders":     {[]string{"info", dir, dir}, exitUsage, "unexpected"},
		"unknown flag":    {[]string{"info", "--trust", dir}, exitUsage, "trust"},
		"help":            {[]string{"--help"}, exitOK, ""},
		"help for action": {[]string{"info", "--help"}, exitOK, ""},
	} {
		if code, _, errs := run(c.args...); code != c.code || !strings.Contains(errs, c.text) {
			t.Errorf("%s: exit %d, %q", name, code, errs)
		}
	}
	if _, err := model.Builtin(); errors.Is(err, model.ErrNoModel) {
		if code, _, errs := run("info"); code != exitFailure || !strings.Contains(errs, "no model") {
			t.Errorf("without a built-in model: exit %d, %q", code, errs)
		}
	}
}
