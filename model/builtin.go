package model

import (
	"crypto/ed25519"
	"embed"
	"errors"
	"fmt"
	"io/fs"
)

//go:embed builtin
var builtinFiles embed.FS

// Builtin gives the model that is embedded in the program, or ErrNoModel where the
// program was built before one was trained. It is checked like any other: that finds
// a damaged program file and a model left behind by a changed schema.
func Builtin() (*Bundle, error) {
	s, err := Default()
	if err != nil {
		return nil, err
	}
	dir, err := fs.Sub(builtinFiles, "builtin")
	if err != nil {
		return nil, fmt.Errorf("built-in model: %w", err)
	}
	return loadBuiltin(dir, s)
}

func loadBuiltin(dir fs.FS, s *Schema) (*Bundle, error) {
	if _, err := fs.Stat(dir, ModelFile); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("built-in model: %w was trained yet", ErrNoModel)
	}
	text, err := readCapped(dir, PublicKeyFile, maxSignatureSize)
	if err != nil {
		return nil, fmt.Errorf("built-in model: %w", err)
	}
	key, err := ParseKey(string(text))
	if err != nil {
		return nil, fmt.Errorf("built-in model: %w", err)
	}
	b, err := Load(dir, Policy{Keys: []ed25519.PublicKey{key}, MinVersion: 1, Schema: s})
	if err != nil {
		return nil, fmt.Errorf("built-in model: %w", err)
	}
	return b, nil
}
