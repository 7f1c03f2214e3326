package main

import (
	"bytes"
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/strata-edge/strata/buffer"
	"github.com/strata-edge/strata/edge/diag"
)

func TestFindingsWithoutService(t *testing.T) {
	dir := t.TempDir()
	clock := buffer.Stamp{Boot: "b", BootTime: time.Hour, Wall: time.Unix(1000, 0)} // a lost clock
	q, _, err := buffer.Open(filepath.Join(dir, buffer.FileName), buffer.Options{Now: func() buffer.Stamp { return clock }})
	if err != nil {
		t.Fatal(err)
	}
	f := diag.Finding{ID: "f1", Time: clock.Wall.UTC(), Layer: 3, Cause: "l3.mtu.blackhole", Scope: diag.ScopeRef{Kind: "host", ID: "host:192.0.2.1"}, Confidence: 0.9, State: diag.StateOpen}
	b, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Put(context.Background(), buffer.Record{Payload: b, Priority: buffer.Urgent}); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	q.SetClock("b", time.Duration(at.UnixNano())-clock.BootTime)
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	show := func(it buffer.Item) error { return showItem(&out, it, true) }
	if err := buffer.View(context.Background(), dir, false, nil, show); err != nil {
		t.Fatal(err)
	}
	var got diag.Finding
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || got.ID != "f1" || !got.Time.Equal(at) {
		t.Errorf("%s, %v", out.String(), err)
	}
	out.Reset()
	if err := buffer.View(context.Background(), dir, false, nil, func(it buffer.Item) error { return showItem(&out, it, false) }); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "l3.mtu.blackhole") {
		t.Error(out.String())
	}
}

func TestFindingsUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
	}{
		{[]string{"--nonsense"}, exitUsage}, {[]string{"extra"}, exitUsage},
		{[]string{"--state", "/nonexistent"}, exitFailure}, {[]string{"--help"}, exitOK},
		{[]string{"--state", t.TempDir()}, exitOK},
	} {
		var out, errs bytes.Buffer
		if code := findingsCommand(context.Background(), c.args, nil, &out, &errs); code != c.code || (code != exitOK) != (errs.Len() > 0) {
			t.Errorf("%q: exit %d, want %d; stderr %q", c.args, code, c.code, errs.String())
		}
	}
}
