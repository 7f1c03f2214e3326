package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"testing"

	"github.com/strata-edge/strata/model"
)

// The model that ships is what the committed rows give, byte for byte.
func TestBuiltinIsWhatTheRowsGive(t *testing.T) {
	if testing.Short() {
		t.Skip("trains the whole model")
	}
	o := options{rows: "data/rows.jsonl.gz", out: "../builtin", check: true}
	if _, err := os.Stat("../builtin/" + model.MetadataFile); errors.Is(err, fs.ErrNotExist) {
		t.Skip("no model was trained yet")
	}
	s, err := model.Default()
	if err != nil {
		t.Fatal(err)
	}
	if err := o.run(s, io.Discard, io.Discard); err != nil {
		t.Error(err)
	}
}
