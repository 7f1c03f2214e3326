package guest

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strata-edge/strata/edge/diag"
)

const opened = `{"id":"f1","time":"2026-01-02T03:04:05Z","layer":1,"cause":"l1.disk.media","scope":{"kind":"disk","id":"disk:X"},"confidence":0.9,"state":"open"}`

func TestInbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newInbox()
		start := time.Now()
		go func() {
			time.Sleep(3 * time.Second)
			b.receive("strata/dev/status", []byte("not for us"))
			b.receive("strata/dev/finding", []byte(opened))
			time.Sleep(2 * time.Second)
			b.receive("strata/dev/finding", []byte(`{"id":"f1","time":"2026-01-02T03:05:05Z","confidence":0.9,"state":"resolved"}`))
			b.receive("strata/dev/finding", []byte(`{"no":"id"}`))
		}()
		f, err := b.wait(t.Context(), start, 10*time.Second, func(f received) bool { return f.Cause == "l1.disk.media" })
		if err != nil || f.at.Sub(start) != 3*time.Second || f.size != len(opened) {
			t.Errorf("opened: %+v, %v", f, err)
		}
		// An update has no cause and no scope: they are those of the message before.
		f, err = b.wait(t.Context(), start, 10*time.Second, func(f received) bool { return f.State == diag.StateResolved })
		if err != nil || f.Cause != "l1.disk.media" || f.Scope.ID != "disk:X" || f.at.Sub(start) != 5*time.Second {
			t.Errorf("resolved: %+v, %v", f, err)
		}
		if _, err = b.wait(t.Context(), start, time.Second, func(received) bool { return false }); err == nil ||
			!strings.Contains(err.Error(), "open l1.disk.media on disk:X, resolved l1.disk.media on disk:X") {
			t.Errorf("the error does not list what came: %v", err)
		}
		synctest.Wait()
		if bad := b.faults(); len(bad) != 1 {
			t.Errorf("malformed: %q", bad)
		}
	})
}

func TestReport(t *testing.T) {
	var out bytes.Buffer
	r := &report{out: &out, start: time.Now()}
	if r.end() != 1 {
		t.Error("a run without a check passes")
	}
	ctx, cancel := context.WithCancel(t.Context())
	r.check(ctx, "good", func(context.Context) (string, error) { return "42", nil })
	if r.end() != 0 {
		t.Error("a passed check fails the run")
	}
	r.check(ctx, "bad", func(context.Context) (string, error) { return "", errors.New("no disk") })
	cancel()
	r.check(ctx, "late", func(context.Context) (string, error) { return "", nil })
	if r.missed != 2 || r.end() != 1 || !strings.Contains(out.String(), "no disk") {
		t.Errorf("missed %d:\n%s", r.missed, out.String())
	}
}

func TestCompareDrives(t *testing.T) {
	const theirs = `{"model_name":"QEMU NVMe Ctrl","serial_number":"S1","firmware_version":"7.2","temperature":{"current":50},
		"nvme_smart_health_information_log":{"critical_warning":0,"available_spare":0,"host_reads":7},
		"ata_smart_attributes":{"table":[{"id":5,"value":100,"worst":100,"thresh":36,"raw":{"value":0}}]}}`
	want, err := findDrive(theirs, "S1")
	if err != nil {
		t.Fatal(err)
	}
	ours := `{"serial_number":"other"}` + "\n" + strings.Replace(theirs, `"host_reads":7`, `"host_reads":9`, 1)
	got, err := findDrive(ours, "S1")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := compare(got, want); n != 7 || err != nil {
		t.Errorf("equal drives: %d, %v", n, err)
	}
	for _, change := range [][2]string{
		{`"thresh":36`, `"thresh":35`}, {`"current":50`, `"current":323`},
		{`"available_spare":0,`, ``}, {`"temperature":{"current":50},`, ``},
	} {
		got, err := findDrive(strings.Replace(theirs, change[0], change[1], 1), "S1")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := compare(got, want); err == nil {
			t.Errorf("%s for %s goes unnoticed", change[1], change[0])
		}
	}
	if _, err := findDrive(theirs, "S2"); err == nil {
		t.Error("found a drive that is not there")
	}
	if _, err := findDrive("usage: strata", "S1"); err == nil {
		t.Error("took text for JSON")
	}
}
