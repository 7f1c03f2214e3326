package main

import (
	"strings"
	"testing"
)

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args   string
		code   int
		stdout string
		stderr string
	}{
		{"", 2, "", "usage: strata-lab COMMAND"},
		{"help", 0, "usage: strata-lab COMMAND", ""},
		{"mend", 2, "", `unknown command "mend"`},
		{"demo -h", 0, "", "usage: strata-lab demo"},
		{"demo now", 2, "", `unexpected argument "now"`},
		{"demo --list", 0, "l3.mtu.blackhole", ""},
		{"demo --faults gremlins", 1, "", `unknown fault "gremlins" (known: next-hop-gone, `},
		{"record", 2, "", "want -o FILE"},
		{"record -o x --parallel 99", 2, "", "--parallel of 1 to 8"},
	} {
		var out, errs strings.Builder
		code := run(strings.Fields(c.args), strings.NewReader(""), &out, &errs)
		if code != c.code || !strings.Contains(out.String(), c.stdout) || !strings.Contains(errs.String(), c.stderr) {
			t.Errorf("%q: exit %d, stdout %q, stderr %q", c.args, code, out.String(), errs.String())
		}
	}
}

func TestNodeEndsWithItsInput(t *testing.T) {
	var out, errs strings.Builder
	code := run([]string{"node"}, strings.NewReader("{\"id\":1,\"do\":\"dance\"}\nno json\n"), &out, &errs)
	if code != 0 || !strings.Contains(out.String(), `{"id":1,"err":"unknown order \"dance\""}`) {
		t.Errorf("exit %d, stdout %q, stderr %q", code, out.String(), errs.String())
	}
}
