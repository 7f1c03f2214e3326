// Command gen writes Go tables and documents from codes.yaml and causes.yaml.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"go/format"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

type code struct {
	Name     string `yaml:"-"`
	ID       int    `yaml:"id"`
	Kind     string `yaml:"kind"`
	Unit     string `yaml:"unit"`
	Title    string `yaml:"title"`
	Context  bool   `yaml:"context"`
	Decisive bool   `yaml:"decisive"`
	Obsolete bool   `yaml:"obsolete"`
}

type evidence struct {
	Any    yaml.Node `yaml:"any"`
	All    yaml.Node `yaml:"all"`
	None   []string  `yaml:"none"`
	Over   yaml.Node `yaml:"over"`
	Spread string    `yaml:"spread"`
	Peers  int       `yaml:"peers"`
}

type cause struct {
	ID        string   `yaml:"id"`
	Class     int      `yaml:"class"`
	Scopes    []string `yaml:"scopes"`
	Title     string   `yaml:"title"`
	Advice    string   `yaml:"advice"`
	Evidence  evidence `yaml:"evidence"`
	Explains  []string `yaml:"explains"`
	Observe   []string `yaml:"observe"`
	Untrained bool     `yaml:"untrained"`
}

type min struct {
	code string
	min  float64
}

var (
	codeForm  = regexp.MustCompile(`^L[0-7]\.[A-Z0-9]+\.[A-Z0-9_]+$`)
	causeForm = regexp.MustCompile(`^l[0-7]\.[a-z0-9]+(\.[a-z_]+)?$`)
	kinds     = map[string]string{"count": "KindCount", "level": "KindLevel", "state": "KindState"}
	scopes    = map[string]string{
		"flow": "ScopeFlow", "proc": "ScopeProc", "service": "ScopeService", "host": "ScopeHost", "if": "ScopeIf",
		"disk": "ScopeDisk", "can": "ScopeCAN", "rail": "ScopeRail", "radio": "ScopeRadio", "gnss": "ScopeGNSS",
		"serial": "ScopeSerial", "device": "ScopeDevice", "site": "ScopeSite",
	}
)

func main() {
	log.SetFlags(0)
	codesFile := flag.String("codes", "codes.yaml", "list of codes")
	causesFile := flag.String("causes", "causes.yaml", "list of causes")
	goDir := flag.String("go", ".", "folder for the Go files")
	docDir := flag.String("docs", "", "folder for the documents")
	flag.Parse()
	codes, err := readCodes(*codesFile)
	if err != nil {
		log.Fatalf("%s: %v", *codesFile, err)
	}
	causes, err := readCauses(*causesFile)
	if err != nil {
		log.Fatalf("%s: %v", *causesFile, err)
	}
	causesGo, err := causesSource(codes, causes)
	if err != nil {
		log.Fatalf("%s: %v", *causesFile, err)
	}
	write(filepath.Join(*goDir, "codes_gen.go"), gofmt(codesSource(codes)))
	write(filepath.Join(*goDir, "causes_gen.go"), gofmt(causesGo))
	if *docDir != "" {
		write(filepath.Join(*docDir, "CODES.md"), codesDoc(codes))
		write(filepath.Join(*docDir, "CAUSES.md"), causesDoc(causes))
	}
}

func write(path string, b []byte) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		log.Fatal(err)
	}
}

func gofmt(src []byte) []byte {
	out, err := format.Source(src)
	if err != nil {
		log.Fatalf("generated source: %v", err)
	}
	return out
}

func decodeStrict(path string, into any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	return d.Decode(into)
}

func readCodes(path string) ([]code, error) {
	var root yaml.Node
	if err := decodeStrict(path, &root); err != nil {
		return nil, err
	}
	m := root.Content[0]
	seen := map[int]string{}
	var out []code
	for i := 0; i < len(m.Content); i += 2 {
		raw, err := yaml.Marshal(m.Content[i+1])
		if err != nil {
			return nil, err
		}
		c := code{Name: m.Content[i].Value}
		d := yaml.NewDecoder(bytes.NewReader(raw))
		d.KnownFields(true)
		if err := d.Decode(&c); err != nil {
			return nil, fmt.Errorf("%s: %w", c.Name, err)
		}
		switch {
		case !codeForm.MatchString(c.Name):
			return nil, fmt.Errorf("%s: not of the form L<layer>.<SUBJECT>.<WHAT>", c.Name)
		case c.ID <= 0 || c.ID > 0xffff:
			return nil, fmt.Errorf("%s: id %d is out of range", c.Name, c.ID)
		case seen[c.ID] != "":
			return nil, fmt.Errorf("%s: id %d is already that of %s", c.Name, c.ID, seen[c.ID])
		case kinds[c.Kind] == "":
			return nil, fmt.Errorf("%s: unknown kind %q", c.Name, c.Kind)
		case c.Title == "":
			return nil, fmt.Errorf("%s: no title", c.Name)
		}
		seen[c.ID] = c.Name
		out = append(out, c)
	}
	return out, nil
}

func readCauses(path string) ([]cause, error) {
	var out []cause
	if err := decodeStrict(path, &out); err != nil {
		return nil, err
	}
	classes, ids := map[int]string{}, map[string]bool{}
	for _, c := range out {
		switch {
		case !causeForm.MatchString(c.ID):
			return nil, fmt.Errorf("%s: not of the form l<layer>.subject.what", c.ID)
		case ids[c.ID]:
			return nil, fmt.Errorf("%s: listed twice", c.ID)
		case c.Class <= 0 || classes[c.Class] != "":
			return nil, fmt.Errorf("%s: class %d is missing or already that of %q", c.ID, c.Class, classes[c.Class])
		case len(c.Scopes) == 0 || c.Title == "" || c.Advice == "":
			return nil, fmt.Errorf("%s: scopes, title and advice are all needed", c.ID)
		}
		for _, s := range c.Scopes {
			if scopes[s] == "" {
				return nil, fmt.Errorf("%s: unknown scope %q", c.ID, s)
			}
		}
		ids[c.ID], classes[c.Class] = true, c.ID
	}
	return out, nil
}

func goName(codeName string) string {
	var b strings.Builder
	b.WriteString("Code")
	for i, part := range strings.FieldsFunc(codeName, func(r rune) bool { return r == '.' || r == '_' }) {
		if i == 0 {
			b.WriteString(part)
			continue
		}
		b.WriteString(part[:1] + strings.ToLower(part[1:]))
	}
	return b.String()
}

const header = "// Code generated by edge/diag/gen from %s. DO NOT EDIT.\n\npackage diag\n\n"

func codesSource(codes []code) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, header, "codes.yaml")
	b.WriteString("// The codes; docs/CODES.md explains each.\nconst (\n")
	for _, c := range codes {
		fmt.Fprintf(&b, "\t%s Code = %d // %s: %s\n", goName(c.Name), c.ID, c.Name, c.Title)
	}
	fmt.Fprintf(&b, ")\n\nvar codeTable = [...]CodeInfo{\n")
	for _, c := range codes {
		fmt.Fprintf(&b, "\t{Code: %s, Name: %q, Layer: %s, Kind: %s, Unit: %q, Title: %q", goName(c.Name), c.Name, c.Name[1:2], kinds[c.Kind], c.Unit, c.Title)
		for _, f := range []struct {
			name string
			on   bool
		}{{"Context", c.Context}, {"Decisive", c.Decisive}, {"Obsolete", c.Obsolete}} {
			if f.on {
				fmt.Fprintf(&b, ", %s: true", f.name)
			}
		}
		b.WriteString("},\n")
	}
	b.WriteString("}\n\nvar codeIndex = map[Code]int{\n")
	for i, c := range codes {
		fmt.Fprintf(&b, "\t%s: %d,\n", goName(c.Name), i)
	}
	b.WriteString("}\n\nvar codeByName = map[string]Code{\n")
	for _, c := range codes {
		fmt.Fprintf(&b, "\t%q: %s,\n", c.Name, goName(c.Name))
	}
	b.WriteString("}\n")
	return b.Bytes()
}

// expand turns patterns like L4.TCP.* into the codes they stand for, sorted by id.
func expand(codes []code, patterns []string) ([]string, error) {
	picked := map[int]string{}
	for _, p := range patterns {
		hit := false
		prefix, wild := strings.CutSuffix(p, "*")
		for _, c := range codes {
			if c.Name == p || (wild && strings.HasPrefix(c.Name, prefix)) {
				hit = true
				if !wild || !c.Context {
					picked[c.ID] = c.Name
				}
			}
		}
		if !hit {
			return nil, fmt.Errorf("no code matches %q", p)
		}
	}
	ids := make([]int, 0, len(picked))
	for id := range picked {
		ids = append(ids, id)
	}
	sort.Ints(ids)
	out := make([]string, 0, len(ids))
	for _, id := range ids {
		out = append(out, goName(picked[id]))
	}
	return out, nil
}

func mins(codes []code, n yaml.Node) ([]min, error) {
	var out []min
	for i := 0; i+1 < len(n.Content); i += 2 {
		m := min{code: n.Content[i].Value}
		if _, err := expand(codes, []string{m.code}); err != nil || strings.HasSuffix(m.code, "*") {
			return nil, fmt.Errorf("unknown code %q", m.code)
		}
		if err := n.Content[i+1].Decode(&m.min); err != nil {
			return nil, fmt.Errorf("%s: %w", m.code, err)
		}
		out = append(out, m)
	}
	return out, nil
}

func causesSource(codes []code, causes []cause) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, header, "causes.yaml")
	b.WriteString("var causeTable = [...]Cause{\n")
	for _, c := range causes {
		var ks []string
		for _, s := range c.Scopes {
			ks = append(ks, scopes[s])
		}
		fmt.Fprintf(&b, "\t{\n\t\tID: %q, Class: %d, Layer: %s, Scopes: []ScopeKind{%s},\n\t\tTitle: %q,\n\t\tAdvice: %q,\n",
			c.ID, c.Class, c.ID[1:2], strings.Join(ks, ", "), c.Title, c.Advice)
		for _, e := range []struct {
			name string
			node yaml.Node
		}{{"Any", c.Evidence.Any}, {"All", c.Evidence.All}, {"Over", c.Evidence.Over}} {
			ms, err := mins(codes, e.node)
			if err != nil {
				return nil, fmt.Errorf("%s: evidence: %w", c.ID, err)
			}
			if len(ms) == 0 {
				continue
			}
			fmt.Fprintf(&b, "\t\t%s: []CodeMin{", e.name)
			for _, m := range ms {
				fmt.Fprintf(&b, "{%s, %g}, ", goName(m.code), m.min)
			}
			b.WriteString("},\n")
		}
		for _, e := range []struct {
			name string
			list []string
		}{{"None", c.Evidence.None}, {"Explains", c.Explains}} {
			names, err := expand(codes, e.list)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.ID, err)
			}
			if len(names) > 0 {
				fmt.Fprintf(&b, "\t\t%s: []Code{%s},\n", e.name, strings.Join(names, ", "))
			}
		}
		if c.Evidence.Spread != "" {
			d, err := time.ParseDuration(c.Evidence.Spread)
			if err != nil {
				return nil, fmt.Errorf("%s: spread: %w", c.ID, err)
			}
			fmt.Fprintf(&b, "\t\tSpread: %g,\n", d.Seconds())
		}
		if c.Evidence.Peers > 0 {
			fmt.Fprintf(&b, "\t\tPeers: %d,\n", c.Evidence.Peers)
		}
		if len(c.Observe) > 0 {
			fmt.Fprintf(&b, "\t\tObserve: %#v,\n", c.Observe)
		}
		fmt.Fprintf(&b, "\t\tUntrained: %v,\n\t},\n", c.Untrained)
	}
	b.WriteString("}\n\nvar causeByID = map[string]int{\n")
	for i, c := range causes {
		fmt.Fprintf(&b, "\t%q: %d,\n", c.ID, i)
	}
	b.WriteString("}\n")
	return b.Bytes(), nil
}

func codesDoc(codes []code) []byte {
	var b bytes.Buffer
	b.WriteString("# Codes\n\nWritten by `make generate` from `edge/diag/codes.yaml`. A *context* code is a denominator, never a symptom; a *decisive* one is looked at without waiting for the window.\n\n| code | id | kind | unit | meaning | |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, c := range codes {
		var marks []string
		if c.Context {
			marks = append(marks, "context")
		}
		if c.Decisive {
			marks = append(marks, "decisive")
		}
		if c.Obsolete {
			marks = append(marks, "obsolete")
		}
		fmt.Fprintf(&b, "| %s | %d | %s | %s | %s | %s |\n", c.Name, c.ID, c.Kind, c.Unit, c.Title, strings.Join(marks, ", "))
	}
	return b.Bytes()
}

func causesDoc(causes []cause) []byte {
	var b bytes.Buffer
	b.WriteString("# Causes\n\nWritten by `make generate` from `edge/diag/causes.yaml`, which also holds each cause's evidence. *By* says who decides today: the rules alone, or the rules and the model.\n\n| cause | class | sits on | meaning | what to do first | by |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, c := range causes {
		by := "rules and model"
		if c.Untrained {
			by = "rules"
		}
		fmt.Fprintf(&b, "| %s | %d | %s | %s | %s | %s |\n", c.ID, c.Class, strings.Join(c.Scopes, ", "), c.Title, c.Advice, by)
	}
	return b.Bytes()
}
