package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"

	"github.com/strata-edge/strata/model"
)

// version is set by the build (-X main.version).
var version = "unversioned"

const versionAbout = `Prints the version. With --json also what an updater compares: architecture, Go
version, feature schema and built-in model.`

// versionInfo is what `version --json` prints.
type versionInfo struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	Arch    string `json:"arch"`
	Schema  string `json:"schema"`
	Model   string `json:"model,omitempty"`
}

func versionCommand(_ context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	fs := newFlags("version", "[--json]", versionAbout, stderr)
	asJSON := fs.Bool("json", false, "as one JSON object")
	if code, done := parseBare(fs, args, stdout, stderr); done {
		return code
	}
	if !*asJSON {
		fmt.Fprintln(stdout, version)
		return exitOK
	}
	schema, err := model.Default()
	if err != nil {
		fmt.Fprintf(stderr, "strata version: %v\n", err)
		return exitFailure
	}
	info := versionInfo{Version: version, Go: runtime.Version(), Arch: runtime.GOARCH, Schema: schema.Hash}
	if b, err := model.Builtin(); err == nil {
		info.Model, _ = b.Ref()
	}
	b, err := json.Marshal(info)
	if err != nil {
		fmt.Fprintf(stderr, "strata version: %v\n", err)
		return exitFailure
	}
	fmt.Fprintf(stdout, "%s\n", b)
	return exitOK
}
