// Package floor holds the house to its floors: imports go strictly down, never sideways.
package floor

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/strata-edge/strata/internal/testreq"
)

const module = "github.com/strata-edge/strata/"

// floors lists the house; the longest prefix that fits decides.
var floors = map[string]int{
	"cmd/":     4,
	"scripts/": 4,

	// The lab's own rooms, below its command and beside the device's.
	"cmd/strata-lab/internal":            3,
	"cmd/strata-lab/internal/broker":     2,
	"cmd/strata-lab/internal/guest/wire": 2,

	"edge/agent":   3,
	"edge/cause":   2,
	"edge/source/": 2,
	"edge/matrix":  1,
	"edge/window":  1,
	"edge/graph":   1,
	"edge/upload":  1,
	"model/ort":    1,
	"model/train":  4, // a tool at build time
	"model":        0,
	"bpf":          0,
	"smart":        0,
	"canbus":       0,
	"buffer":       0,
	"edge/diag":    0,
	"edge/budget":  0,
	"edge/dissect": 0,
	"internal/":    0,
}

type listed struct {
	ImportPath string
	Imports    []string
	CgoFiles   []string
}

func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,CgoFiles", "./...")
	cmd.Dir = testreq.Top(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var ps []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); d.More(); {
		var p listed
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
	return ps
}

func floorOf(path string) (int, bool) {
	best, floor := -1, 0
	for prefix, f := range floors {
		dir := strings.TrimSuffix(prefix, "/")
		if (path == dir || strings.HasPrefix(path, dir+"/")) && len(prefix) > best {
			best, floor = len(prefix), f
		}
	}
	return floor, best >= 0
}

func TestImportsGoDown(t *testing.T) {
	seen := 0
	for _, p := range packages(t) {
		from := strings.TrimPrefix(p.ImportPath, module)
		if from == strings.TrimSuffix(module, "/") {
			continue
		}
		f, ok := floorOf(from)
		if !ok {
			t.Errorf("%s is on no floor: add it to the list, or put it where it belongs", from)
			continue
		}
		for _, imp := range p.Imports {
			to, ours := strings.CutPrefix(imp, module)
			if !ours || to == "internal/testreq" {
				continue
			}
			seen++
			if g, ok := floorOf(to); ok && g >= f {
				t.Errorf("%s (floor %d) imports %s (floor %d): imports go strictly down", from, f, to, g)
			}
		}
	}
	if seen == 0 {
		t.Error("no import of ours was seen: the test looks at nothing")
	}
}

func TestReadersImportNothingOfOurs(t *testing.T) {
	for _, p := range packages(t) {
		from := strings.TrimPrefix(p.ImportPath, module)
		if from != "bpf" && from != "smart" && from != "canbus" {
			continue
		}
		for _, imp := range p.Imports {
			if strings.HasPrefix(imp, module) {
				t.Errorf("%s imports %s: device readers know nothing of ours", from, imp)
			}
		}
	}
}

func TestCgoOnlyInTheScorer(t *testing.T) {
	for _, p := range packages(t) {
		from := strings.TrimPrefix(p.ImportPath, module)
		if len(p.CgoFiles) > 0 && from != "model/ort" {
			t.Errorf("%s uses cgo: only model/ort may", from)
		}
	}
}

func TestLabSeesOnlyTheVocabulary(t *testing.T) {
	for _, p := range packages(t) {
		from := strings.TrimPrefix(p.ImportPath, module)
		if !strings.HasPrefix(from, "cmd/strata-lab") {
			continue
		}
		for _, imp := range p.Imports {
			to, ours := strings.CutPrefix(imp, module)
			if ours && to != "edge/diag" && to != "model" && !strings.HasPrefix(to, "cmd/strata-lab") && !strings.HasPrefix(to, "internal/") {
				t.Errorf("%s imports %s: the lab drives built binaries and knows only the vocabulary and the schema", from, to)
			}
		}
	}
}
