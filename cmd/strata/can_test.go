package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestCanDecode(t *testing.T) {
	const log = `(1436509052.249713) can0 2000008C#0004000000000000
(1436509052.249800) can0 123#DEADBEEF

(1436509053.000000) can1 200002A8#0000081900008005
`
	const want = `{"time":"2015-07-10T06:17:32.249713Z","interface":"can0","classes":["controller","protocol","bus_error"],"controller":["rx_warning"],"protocol":[],"location":"unspecified","transceiver":"","tx_errors":0,"rx_errors":0}
{"time":"2015-07-10T06:17:33Z","interface":"can1","classes":["protocol","no_ack","bus_error","counters"],"controller":[],"protocol":["bit0"],"location":"ack","transceiver":"","tx_errors":128,"rx_errors":5}
`
	var out, errs bytes.Buffer
	if code := canCommand(t.Context(), []string{"decode", "--json"}, strings.NewReader(log), &out, &errs); code != exitOK || out.String() != want {
		t.Errorf("exit %d, %s\n%s", code, errs.String(), out.String())
	}
	out.Reset()
	code := canCommand(t.Context(), []string{"decode", "--json"}, strings.NewReader("no frame\n"+log), &out, &errs)
	if code != exitFailure || out.String() != want || !strings.Contains(errs.String(), "line 1:") {
		t.Errorf("exit %d, %q\n%s", code, errs.String(), out.String())
	}
	for want, args := range map[int][]string{
		exitUsage: {"decode", "a", "b"}, exitFailure: {"decode", "/does/not/exist"}, exitOK: {"--help"},
	} {
		if code := canCommand(t.Context(), args, strings.NewReader(""), &out, &errs); code != want {
			t.Errorf("%v: exit %d, want %d", args, code, want)
		}
	}
}
