// Notices writes THIRD_PARTY_NOTICES.md: the licence texts of everything that is linked
// into a binary, read from the module cache, and those of what is delivered beside it.
package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

//go:embed onnxruntime.md
var onnxRuntime string

const head = `# Third-party notices

Strata contains, or is delivered with, the work of others. This file is written by
%s and travels beside the library that is delivered with the binary.

`

// licenceFile matches the names under which projects keep their terms.
var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents|edl-v10|epl-v20|about)([.-].*)?$`)

func main() {
	out := flag.String("o", "", "`file` to write; standard output where empty")
	flag.Parse()
	text, err := notices(flag.Args())
	if err == nil && *out != "" {
		err = os.WriteFile(*out, text, 0o644)
	} else if err == nil {
		_, err = os.Stdout.Write(text)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "notices: %v\n", err)
		os.Exit(1)
	}
}

type module struct {
	Path, Version, Dir string
	Main               bool
}

func notices(packages []string) ([]byte, error) {
	modules, err := linked(packages)
	if err != nil {
		return nil, err
	}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("find the Go tree: %w", err)
	}
	modules = append([]module{{Path: "Go standard library and runtime", Dir: strings.TrimSpace(string(root))}}, modules...)
	var b bytes.Buffer
	fmt.Fprintf(&b, head, "`make notices`")
	b.WriteString(onnxRuntime)
	b.WriteString("\n## Linked into the binary\n\n")
	// Many modules share one text: it is printed once, under all their names.
	var order []string
	users := map[string][]string{}
	for _, m := range modules {
		text, err := terms(m.Dir)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.Path, err)
		}
		if users[text] == nil {
			order = append(order, text)
		}
		users[text] = append(users[text], strings.TrimSpace(m.Path+" "+m.Version))
	}
	for _, text := range order {
		for _, u := range users[text] {
			fmt.Fprintf(&b, "- %s\n", u)
		}
		fmt.Fprintf(&b, "\n```\n%s\n```\n\n", text)
	}
	return append(bytes.TrimRight(b.Bytes(), "\n"), '\n'), nil
}

// linked gives the modules whose packages are linked into the given ones, by path.
func linked(packages []string) ([]module, error) {
	cmd := exec.Command("go", append([]string{"list", "-deps", "-json=Module"}, packages...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list dependencies: %w", err)
	}
	found := map[string]module{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct{ Module *module }
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("read go list: %w", err)
		}
		if p.Module != nil && !p.Module.Main {
			found[p.Module.Path] = *p.Module
		}
	}
	var modules []module
	for _, path := range slices.Sorted(maps.Keys(found)) {
		modules = append(modules, found[path])
	}
	return modules, nil
}

// terms joins the licence and notice files of a module's top folder.
func terms(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	var texts []string
	for _, e := range entries {
		if e.IsDir() || !licenceFile.MatchString(e.Name()) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return "", err
		}
		texts = append(texts, strings.TrimSpace(strings.ReplaceAll(string(b), "\r\n", "\n")))
	}
	if len(texts) == 0 {
		return "", fmt.Errorf("no licence file in its folder")
	}
	return strings.ReplaceAll(strings.Join(texts, "\n\n"), "```", "'''"), nil
}
