package host

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRowsAreLabelledAsTheyWereWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rows.jsonl")
	lines := []string{
		`{"time":"2026-03-01T12:00:10Z","episode":1,"scope":"service:tcp/192.0.2.1:80","kind":"service","symptoms":1,"schema":"s","x":[0.1,-2e-7]}`,
		`{"time":"2026-03-01T12:00:40Z","episode":2,"scope":"service:tcp/192.0.2.1:80","kind":"service","symptoms":3,"schema":"s","x":[0.30000001,1]}`,
	}
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := labelRows(path, 7, []Phase{{Scenario: "http-5xx", Cause: "l7.http.server_error", Scopes: []string{"service:tcp/192.0.2.1:80"},
		Onset: at(30), Effect: at(31), Cleared: at(60), Recovered: at(62)}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"run":7,"scenario":"healthy","scope":"service:tcp/192.0.2.1:80","label":"none","x":[0.1,-2e-7],"schema":"s"},` +
		`{"run":7,"scenario":"http-5xx","scope":"service:tcp/192.0.2.1:80","label":"l7.http.server_error","x":[0.30000001,1],"schema":"s"}]`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
	if s := tally(got); s != "2 rows, 1 l7.http.server_error, 1 none" {
		t.Errorf("tally %q", s)
	}
	if err := os.WriteFile(path, []byte("{half a"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := labelRows(path, 7, nil); err == nil {
		t.Error("a damaged row must not pass")
	}
}
