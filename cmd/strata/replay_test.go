package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/strata-edge/strata/bpf"
	"github.com/strata-edge/strata/internal/capture"
	"github.com/strata-edge/strata/internal/testreq"
)

func testProbe(tb testing.TB) *bpf.Probe {
	tb.Helper()
	testreq.Root(tb, "bpf")
	p, err := loadReplay()
	if err != nil {
		testreq.Missing(tb, "bpf", err.Error())
	}
	tb.Cleanup(func() { p.Close() })
	return p
}

// replayWith replays one file and leaves p's tables empty for the next.
func replayWith(tb testing.TB, p *bpf.Probe, file string, o replayOptions) (out []byte, stderr string) {
	tb.Helper()
	var w, e bytes.Buffer
	in, err := capture.Open(file)
	if err != nil {
		return nil, err.Error()
	}
	defer in.Close()
	r, err := newReplay(p, o, &w, &e)
	if err != nil {
		tb.Fatal(err)
	}
	if err := r.read(context.Background(), in); err != nil {
		fmt.Fprintln(&e, err)
	}
	if err := r.finish(); err != nil {
		tb.Errorf("%s: %v", file, err)
	}
	if err := r.close(); err != nil {
		tb.Fatal(err)
	}
	empty(tb, p)
	return w.Bytes(), e.String()
}

func empty(tb testing.TB, p *bpf.Probe) {
	tb.Helper()
	var flows, half []bpf.FlowKey
	var neighbours []bpf.NeighbourKey
	collect := func(to *[]bpf.FlowKey) func(*bpf.FlowKey, *bpf.FlowValue) bool {
		return func(k *bpf.FlowKey, _ *bpf.FlowValue) bool { *to = append(*to, *k); return true }
	}
	err := p.Flows(collect(&flows))
	if err == nil {
		err = p.HalfOpen(collect(&half))
	}
	if err == nil {
		err = p.Neighbours(func(k *bpf.NeighbourKey, _ *bpf.Neighbour) bool { neighbours = append(neighbours, *k); return true })
	}
	if err == nil {
		_, err = p.DeleteFlows(flows)
	}
	if err == nil {
		_, err = p.DeleteHalfOpen(half)
	}
	if err == nil {
		_, err = p.DeleteNeighbours(neighbours)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// tcpFrame is a minimal Ethernet frame of a TCP segment without options.
func tcpFrame(from, to netip.AddrPort, seq, ack uint32, flags byte, payload string) []byte {
	b := make([]byte, 14+20+20, 14+20+20+len(payload))
	b[12] = 8
	ip := b[14:]
	ip[0], ip[8], ip[9] = 0x45, 64, 6
	binary.BigEndian.PutUint16(ip[2:], uint16(40+len(payload)))
	copy(ip[12:], from.Addr().AsSlice())
	copy(ip[16:], to.Addr().AsSlice())
	tcp := ip[20:]
	binary.BigEndian.PutUint16(tcp, from.Port())
	binary.BigEndian.PutUint16(tcp[2:], to.Port())
	binary.BigEndian.PutUint32(tcp[4:], seq)
	binary.BigEndian.PutUint32(tcp[8:], ack)
	tcp[12], tcp[13] = 5<<4, flags
	binary.BigEndian.PutUint16(tcp[14:], 65535)
	return append(b, payload...)
}

type timedFrame struct {
	at    time.Duration
	frame []byte
}

func writeCapture(tb testing.TB, frames ...timedFrame) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "made.pcap")
	f, err := os.Create(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	put := func(v ...any) {
		for _, x := range v {
			if err := binary.Write(w, binary.LittleEndian, x); err != nil {
				tb.Fatal(err)
			}
		}
	}
	// The classic format with nanoseconds, Ethernet.
	put(uint32(0xa1b23c4d), uint16(2), uint16(4), uint32(0), uint32(0), uint32(65535), uint32(1))
	for _, fr := range frames {
		at := 1_700_000_000*time.Second + fr.at
		put(uint32(at/time.Second), uint32(at%time.Second), uint32(len(fr.frame)), uint32(len(fr.frame)), fr.frame)
	}
	if err := w.Flush(); err != nil {
		tb.Fatal(err)
	}
	return path
}

func decodeFlows(tb testing.TB, out []byte) (flows []flowJSON) {
	tb.Helper()
	dec := json.NewDecoder(bytes.NewReader(out))
	for {
		var f flowJSON
		if err := dec.Decode(&f); err == io.EOF {
			return flows
		} else if err != nil {
			tb.Fatal(err)
		}
		flows = append(flows, f)
	}
}

// TestMoreFlowsThanTheTableHolds: 40,000 connections, each with an answer, and one that
// runs through all of it.
func TestMoreFlowsThanTheTableHolds(t *testing.T) {
	p := testProbe(t)
	const n = 40000
	server := netip.MustParseAddrPort("203.0.113.9:80")
	long := netip.MustParseAddrPort("10.9.9.9:50000")
	frames := []timedFrame{{0, tcpFrame(long, server, 1, 0, 2, "")}, {time.Microsecond, tcpFrame(server, long, 1, 2, 0x12, "")}}
	for i := range n {
		client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), uint16(1024+i))
		at := time.Duration(i+1) * 20 * time.Microsecond
		frames = append(frames, timedFrame{at, tcpFrame(client, server, 5, 0, 2, "")})
		if i%2 == 0 {
			frames = append(frames, timedFrame{at + time.Microsecond, tcpFrame(server, client, 9, 6, 0x12, "")})
		}
		if i%1000 == 0 {
			frames = append(frames, timedFrame{at + 2*time.Microsecond, tcpFrame(long, server, uint32(2+i/1000*4), 2, 0x18, "data")})
		}
	}
	out, stderr := replayWith(t, p, writeCapture(t, frames...), replayOptions{flows: true})
	flows := decodeFlows(t, out)
	if len(flows) != n+1 {
		t.Fatalf("%d flows, want %d (%s)", len(flows), n+1, stderr)
	}
	var packets uint32
	for i, f := range flows {
		packets += f.AB.Packets + f.BA.Packets
		if i > 0 && f.First.Before(flows[i-1].First) {
			t.Fatalf("flow %d is out of order", i)
		}
	}
	if int(packets) != len(frames) {
		t.Errorf("the flows hold %d packets, want %d", packets, len(frames))
	}
	if f := flows[0]; f.A != long.String() || f.AB.Packets != 41 || f.AB.Bytes != 54+40*58 {
		t.Errorf("the long flow: %+v", f)
	}
}

func TestReplayShapes(t *testing.T) {
	p := testProbe(t)
	client, server := netip.MustParseAddrPort("10.0.0.2:40000"), netip.MustParseAddrPort("203.0.113.9:80")
	ms := time.Millisecond
	file := writeCapture(t,
		timedFrame{0, tcpFrame(client, server, 100, 0, 2, "")},
		timedFrame{10 * ms, tcpFrame(server, client, 500, 101, 0x12, "")},
		timedFrame{11 * ms, tcpFrame(client, server, 101, 501, 0x10, "")},
		timedFrame{12 * ms, tcpFrame(client, server, 101, 501, 0x18, "GET /a?key=secret HTTP/1.1\r\nHost: h.test\r\n\r\n")},
		timedFrame{40 * ms, tcpFrame(server, client, 501, 145, 0x18, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")},
		timedFrame{41 * ms, tcpFrame(client, server, 145, 555, 0x10, "")},
	)
	out, _ := replayWith(t, p, file, replayOptions{flows: true})
	flows := decodeFlows(t, out)
	if len(flows) != 1 {
		t.Fatalf("%d flows", len(flows))
	}
	f := flows[0]
	if f.A != client.String() || f.B != server.String() || f.Proto != "tcp" || f.AB.Packets != 4 || f.BA.Packets != 2 || f.AB.SYN != 1 || f.RTT < 10500 || f.RTT > 11500 {
		t.Errorf("flow %+v", f)
	}
	if !slices.Contains(f.Marks, "http_5xx") || !f.Admitted {
		t.Errorf("marks %v, admitted %v", f.Marks, f.Admitted)
	}
	if want := time.Unix(1_700_000_000, 0).UTC(); !f.First.Equal(want) || !f.Last.Equal(want.Add(41*ms)) {
		t.Errorf("times %v %v", f.First, f.Last)
	}
	out, _ = replayWith(t, p, file, replayOptions{messages: true, deep: true})
	if n := bytes.Count(out, []byte("\n")); n != 2 || bytes.Contains(out, []byte("secret")) {
		t.Errorf("%d messages: %s", n, out)
	}
	for _, want := range []string{`"protocol":"http1"`, `"http.response.status_code":503`, `"url.path":"/a"`, `"from":"b"`, `"time":"2023-11-14T22:13:20.04Z"`} {
		if !bytes.Contains(out, []byte(want)) {
			t.Errorf("no %s in %s", want, out)
		}
	}
	// The server's error is a tell-tale: its response comes up without --deep=all.
	out, _ = replayWith(t, p, file, replayOptions{messages: true})
	if !bytes.Contains(out, []byte(`"http.response.status_code":503`)) {
		t.Errorf("suspicious messages: %s", out)
	}
}

func TestReplayArguments(t *testing.T) {
	for name, c := range map[string]struct {
		args string
		file string
		want replayOptions
		code int
	}{
		"default":              {"f.pcap", "f.pcap", replayOptions{summary: true}, exitOK},
		"flags after the file": {"f.pcap --flows --deep=all", "f.pcap", replayOptions{flows: true, deep: true}, exitOK},
		"messages parse all":   {"--messages f.pcap", "f.pcap", replayOptions{messages: true, deep: true}, exitOK},
		"findings do not":      {"--messages --findings f.pcap", "f.pcap", replayOptions{messages: true, findings: true}, exitOK},
		"no file":              {"--flows", "", replayOptions{}, exitUsage},
		"two files":            {"a b", "", replayOptions{}, exitUsage},
		"unknown depth":        {"a --deep=some", "", replayOptions{}, exitUsage},
	} {
		t.Run(name, func(t *testing.T) {
			var stderr bytes.Buffer
			file, o, code, done := replayArgs(strings.Fields(c.args), io.Discard, &stderr)
			if code != c.code || done != (code != exitOK) || !done && (file != c.file || o != c.want) {
				t.Errorf("got %q %+v, code %d: %s", file, o, code, &stderr)
			}
			if done && stderr.Len() == 0 {
				t.Error("no word on stderr")
			}
		})
	}
}

func TestReplayOfFilesThatAreNone(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"empty": "", "text": "this is no capture at all, but a text"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		var stdout, stderr bytes.Buffer
		if code := replayCommand(t.Context(), []string{path}, nil, &stdout, &stderr); code != exitFailure || stdout.Len() > 0 || !strings.Contains(stderr.String(), name) {
			t.Errorf("%s: code %d, stdout %q, stderr %q", name, code, &stdout, &stderr)
		}
	}
}
