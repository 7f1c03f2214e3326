package model

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// maxSignatureSize is a signature of 64 bytes in base64, with room for a line end.
const maxSignatureSize = 128

// signContext keeps a signature from meaning anything anywhere else.
const signContext = "strata model bundle 1\n"

// message is what is signed: the context and the SHA-256 of both files.
func message(onnx, meta []byte) []byte {
	a, b := sha256.Sum256(onnx), sha256.Sum256(meta)
	return append(append([]byte(signContext), a[:]...), b[:]...)
}

// Sign gives the contents of model.sig: the signature in base64 and a line end.
func Sign(key ed25519.PrivateKey, onnx, meta []byte) []byte {
	return append(base64.StdEncoding.AppendEncode(nil, ed25519.Sign(key, message(onnx, meta))), '\n')
}

// verify gives the key of keys that signed the files.
func verify(onnx, meta, sig []byte, keys []ed25519.PublicKey) (ed25519.PublicKey, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSpace(string(sig)))
	if err != nil || len(raw) != ed25519.SignatureSize {
		return nil, fmt.Errorf("%w: %s is no signature", ErrUntrusted, SignatureFile)
	}
	msg := message(onnx, meta)
	for _, k := range keys {
		if len(k) == ed25519.PublicKeySize && ed25519.Verify(k, msg, raw) {
			return k, nil
		}
	}
	return nil, fmt.Errorf("%w: none of %d keys fits", ErrUntrusted, len(keys))
}

// ParseKey reads a public key as model.pub holds it: 32 bytes in base64.
func ParseKey(text string) (ed25519.PublicKey, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSpace(text))
	if err != nil {
		return nil, fmt.Errorf("parse model key: %w", err)
	}
	if len(raw) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("parse model key: %d bytes, want %d", len(raw), ed25519.PublicKeySize)
	}
	return ed25519.PublicKey(raw), nil
}

// ReadKeys reads public keys from files, one in each, as the configuration names them.
func ReadKeys(files []string) ([]ed25519.PublicKey, error) {
	var out []ed25519.PublicKey
	for _, f := range files {
		text, err := readCapped(os.DirFS(filepath.Dir(f)), filepath.Base(f), maxSignatureSize)
		if err != nil {
			return nil, fmt.Errorf("model key: %w", err)
		}
		k, err := ParseKey(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		out = append(out, k)
	}
	return out, nil
}

// FormatKey writes what ParseKey reads.
func FormatKey(k ed25519.PublicKey) string { return base64.StdEncoding.EncodeToString(k) }

// Fingerprint gives 16 hex digits of the key's SHA-256, for people to compare.
func Fingerprint(k ed25519.PublicKey) string {
	sum := sha256.Sum256(k)
	return hex.EncodeToString(sum[:8])
}
