package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func invoke(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = smartCommand(t.Context(), args, strings.NewReader(stdin), &out, &errs)
	return code, out.String(), errs.String()
}

func TestSmartDecode(t *testing.T) {
	log := make([]byte, 512)
	copy(log, []byte{4, 0x43, 1, 100, 10, 1})
	code, out, _ := invoke(t, string(log), "decode", "--json", "--nvme-health", "-")
	var got struct {
		Status struct{ Passed bool } `json:"smart_status"`
		Log    struct {
			Temperature int `json:"temperature"`
		} `json:"nvme_smart_health_information_log"`
		Health struct{ Verdict string } `json:"health"`
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != exitOK {
		t.Fatalf("exit %d, %v: %s", code, err, out)
	}
	if got.Status.Passed || got.Log.Temperature != 50 || got.Health.Verdict != "failing" {
		t.Errorf("%+v", got)
	}

	data := make([]byte, 512)
	data[2], data[511] = 5, 1
	file := filepath.Join(t.TempDir(), "data.bin")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		stdin, want string
		args        []string
	}{
		{"", "ata smart data: wrong checksum", []string{"--data", file}},
		{string(log[:100]), "nvme health log: 100 bytes, want 512", []string{"--nvme-health", "-"}},
	} {
		code, out, _ := invoke(t, c.stdin, append([]string{"decode", "--json"}, c.args...)...)
		var bad struct{ Error, Page, Fault string }
		if err := json.Unmarshal([]byte(out), &bad); err != nil || code != exitFailure || !strings.HasPrefix(bad.Error, c.want) || bad.Page == "" || bad.Fault == "" {
			t.Errorf("%v: exit %d, %v: %s", c.args, code, err, out)
		}
	}
	for want, args := range map[int][]string{
		exitUsage:   {"decode", "--json"},
		exitFailure: {"decode", "--json", "--data", file + ".none"},
		exitOK:      {"decode", "--help"},
	} {
		if code, _, _ := invoke(t, "", args...); code != want {
			t.Errorf("%v: exit %d, want %d", args, code, want)
		}
	}
}
