package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/strata-edge/strata/edge/diag"
	"github.com/strata-edge/strata/internal/testreq"
)

// oracleRow is one capture of oracle.tsv by column name.
type oracleRow map[string]string

func (r oracleRow) n(tb testing.TB, columns ...string) (sum uint64) {
	tb.Helper()
	for _, c := range columns {
		n, err := strconv.ParseUint(r[c], 10, 64)
		if err != nil {
			tb.Fatalf("%s: column %s: %v", r["file"], c, err)
		}
		sum += n
	}
	return sum
}

func table(tb testing.TB, path string) []oracleRow {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	lines := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	head := strings.Split(lines[0], "\t")
	rows := make([]oracleRow, 0, len(lines)-1)
	for _, l := range lines[1:] {
		row := oracleRow{}
		for i, v := range strings.Split(l, "\t") {
			row[head[i]] = v
		}
		rows = append(rows, row)
	}
	return rows
}

// agreement counts in how many captures a figure equals the oracle's, and the sums.
type agreement struct {
	name        string
	equal, of   int
	ours, other uint64
	off         []string
}

func (a *agreement) add(file string, ours, other uint64) {
	if ours == 0 && other == 0 {
		return
	}
	a.of++
	a.ours += ours
	a.other += other
	if ours == other {
		a.equal++
		return
	}
	a.off = append(a.off, fmt.Sprintf("%s %d/%d", file, ours, other))
}

// TestReplayOfEveryCapture: no capture makes the replay fail, every frame is counted, and
// the flows' packets are all there. How far the other figures agree is logged.
func TestReplayOfEveryCapture(t *testing.T) {
	dir := filepath.Join(testreq.Data(t), "captures")
	p := testProbe(t)
	agree := []*agreement{
		{name: "flows"}, {name: "tcp_retransmits"}, {name: "tcp_out_of_order"}, {name: "tcp_zero_window"}, {name: "tcp_rst"}, {name: "tcp_syn"},
		{name: "icmp_unreachable"}, {name: "icmp_frag_needed"}, {name: "icmp_ttl_exceeded"}, {name: "arp_duplicate"}, {name: "ip_fragments"}, {name: "malformed"},
	}
	start := time.Now()
	var packets uint64
	rows := table(t, filepath.Join(dir, "oracle.tsv"))
	for _, row := range rows {
		file := row["file"]
		out, stderr := replayWith(t, p, filepath.Join(dir, file), replayOptions{summary: true, messages: true, deep: true})
		if out == nil {
			t.Errorf("%s: %s", file, stderr)
			continue
		}
		lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
		for _, l := range lines {
			if !json.Valid(l) {
				t.Fatalf("%s: not JSON: %s", file, l)
			}
		}
		var s summaryJSON
		if err := json.Unmarshal(lines[len(lines)-1], &s); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		packets += s.Packets
		// Of a damaged file Wireshark may show one packet more: it guesses at layouts that
		// libpcap refuses as we do.
		if want := row.n(t, "packets"); s.Packets != want && (stderr == "" || s.Packets+1 != want) {
			t.Errorf("%s: %d packets, want %d (%s)", file, s.Packets, want, stderr)
		}
		for i, pair := range [][2]uint64{
			{uint64(s.Flows), row.n(t, "flows_5tuple")}, {s.TCPRetransmits, row.n(t, "tcp_retransmission")},
			{s.TCPOutOfOrder, row.n(t, "tcp_out_of_order")}, {s.TCPZeroWindow, row.n(t, "tcp_zero_window")},
			{s.TCPRST, row.n(t, "tcp_rst")}, {s.TCPSYN, row.n(t, "tcp_syn")}, {s.ICMPUnreachable, row.n(t, "icmp_unreach")},
			{s.ICMPFragNeeded, row.n(t, "icmp_frag_needed", "icmpv6_too_big")}, {s.ICMPTTLExceeded, row.n(t, "icmp_ttl_exceeded")},
			{s.ARPDuplicate, row.n(t, "arp_dup_addr")}, {s.IPFragments, row.n(t, "ip_fragments")}, {s.Malformed, row.n(t, "malformed")},
		} {
			agree[i].add(file, pair[0], pair[1])
		}
	}
	t.Logf("%d captures, %d packets in %v", len(rows), packets, time.Since(start).Round(time.Millisecond))
	for _, a := range agree {
		t.Logf("%-18s equal in %d of %d captures that have any; %d here, %d there", a.name, a.equal, a.of, a.ours, a.other)
		logOff(t, a.off)
	}
}

// TestFlowsAgainstNDPI compares packets and bytes of each flow that nDPI lists; its lists
// leave out some flows on purpose, so that only what it lists is looked for.
func TestFlowsAgainstNDPI(t *testing.T) {
	dir := filepath.Join(testreq.Data(t), "captures")
	p := testProbe(t)
	byFile := map[string][]oracleRow{}
	for _, row := range table(t, filepath.Join(dir, "ndpi_flows.tsv")) {
		byFile[row["file"]] = append(byFile[row["file"]], row)
	}
	var listed, found, packets, bytes, turned int
	var off []string
	for file, rows := range byFile {
		out, _ := replayWith(t, p, filepath.Join(dir, file), replayOptions{flows: true})
		flows := map[string][]flowJSON{}
		for _, f := range decodeFlows(t, out) {
			flows[f.Proto+f.A+f.B] = append(flows[f.Proto+f.A+f.B], f)
		}
		for _, row := range rows {
			proto := strings.ToLower(row["l4"])
			if proto != "tcp" && proto != "udp" {
				continue
			}
			listed++
			a, b := join(row["a_ip"], row["a_port"]), join(row["b_ip"], row["b_port"])
			have := flows[proto+a+b]
			ab := [4]uint64{row.n(t, "pkts_ab"), row.n(t, "bytes_ab"), row.n(t, "pkts_ba"), row.n(t, "bytes_ba")}
			if len(have) == 0 {
				if have = flows[proto+b+a]; len(have) > 0 {
					turned++
					ab = [4]uint64{ab[2], ab[3], ab[0], ab[1]}
				}
			}
			if len(have) == 0 {
				off = append(off, fmt.Sprint(file, " ", proto, a, b, " not found"))
				continue
			}
			found++
			f := have[0]
			if uint64(f.AB.Packets) == ab[0] && uint64(f.BA.Packets) == ab[2] {
				packets++
			} else {
				off = append(off, fmt.Sprint(file, " ", proto, a, b, " packets ", f.AB.Packets, f.BA.Packets, " want ", ab))
			}
			if f.AB.Bytes == ab[1] && f.BA.Bytes == ab[3] {
				bytes++
			}
		}
	}
	t.Logf("of %d flows: %d found (%d with the other end as initiator), %d with the same packets, %d with the same bytes", listed, found, turned, packets, bytes)
	// Most of the rest are tunnels, which nDPI looks into, and frames that were damaged on
	// purpose.
	if found < listed*98/100 || packets < listed*98/100 {
		t.Error("more than 2 % of the flows are not found or have other packets")
	}
	logOff(t, off)
}

func logOff(t *testing.T, off []string) {
	t.Helper()
	if os.Getenv("STRATA_VERBOSE") != "" {
		slices.Sort(off)
		t.Log(strings.Join(off, "\n"))
	}
}

func join(ip, port string) string {
	a, err := netip.ParseAddr(ip)
	n, errPort := strconv.ParseUint(port, 10, 16)
	if err != nil || errPort != nil {
		return ip + ":" + port
	}
	return netip.AddrPortFrom(a, uint16(n)).String()
}

// TestMessagesAgainstOracle compares what comes up through the ring and is parsed with
// Wireshark's fields: how often each value was seen in each capture.
func TestMessagesAgainstOracle(t *testing.T) {
	dir := filepath.Join(testreq.Data(t), "captures")
	p := testProbe(t)
	names := map[string]string{
		"http.request.method": "http.request.method", "http.response.code": "http.response.status_code", "dns.flags.rcode": "dns.rcode",
		"tls.handshake.extensions_server_name": "tls.server_name", "mqtt.topic": "mqtt.topic", "mqtt.conack.val": "mqtt.reason",
	}
	want := map[string]map[string]int{} // file → our field=value → count
	for _, row := range table(t, filepath.Join(dir, "l7_fields.tsv")) {
		if ours := names[row["field"]]; ours != "" {
			if want[row["file"]] == nil {
				want[row["file"]] = map[string]int{}
			}
			want[row["file"]][ours+"="+row["value"]] += int(row.n(t, "count"))
		}
	}
	type score struct{ both, ours, theirs int }
	scores := map[string]*score{}
	for _, n := range names {
		scores[n] = &score{}
	}
	var off []string
	for file, values := range want {
		out, _ := replayWith(t, p, filepath.Join(dir, file), replayOptions{messages: true, deep: true})
		got := map[string]int{}
		for _, l := range bytes.Split(bytes.TrimSpace(out), []byte("\n")) {
			var m struct{ Fields map[string]any }
			if len(l) == 0 {
				continue
			}
			if err := json.Unmarshal(l, &m); err != nil {
				t.Fatalf("%s: %v: %s", file, err, l)
			}
			for k, v := range m.Fields {
				if scores[k] != nil {
					got[fmt.Sprint(k, "=", v)]++
				}
			}
		}
		for kv, n := range values {
			k, _, _ := strings.Cut(kv, "=")
			scores[k].theirs += n
			scores[k].both += min(n, got[kv])
			if got[kv] != n {
				off = append(off, fmt.Sprint(file, " ", kv, " ", got[kv], " want ", n))
			}
		}
		for kv, n := range got {
			k, _, _ := strings.Cut(kv, "=")
			scores[k].ours += n
		}
	}
	for k, s := range scores {
		t.Logf("%-28s %d here, %d there, %d the same", k, s.ours, s.theirs, s.both)
	}
	// Names and codes that Wireshark does not have would be wrong statements; it has more
	// since it looks into tunnels, QUIC and other ports.
	for _, k := range []string{"dns.rcode", "tls.server_name", "http.request.method"} {
		if s := scores[k]; s.both < s.ours*99/100 || s.both < s.theirs*3/4 {
			t.Errorf("%s: %d of %d are the same, of %d in all", k, s.both, s.ours, s.theirs)
		}
	}
	logOff(t, off)
}

// TestFindingsOfEveryCapture: deciding never fails, and what it prints is JSON. What is
// found is logged.
func TestFindingsOfEveryCapture(t *testing.T) {
	dir := filepath.Join(testreq.Data(t), "captures")
	p := testProbe(t)
	opened := map[string]int{}
	rows := table(t, filepath.Join(dir, "oracle.tsv"))
	for _, row := range rows {
		out, _ := replayWith(t, p, filepath.Join(dir, row["file"]), replayOptions{findings: true})
		for _, l := range bytes.Split(bytes.TrimSpace(out), []byte("\n")) {
			if len(l) == 0 {
				continue
			}
			var f diag.Finding
			if err := json.Unmarshal(l, &f); err != nil {
				t.Fatalf("%s: %v: %s", row["file"], err, l)
			}
			if f.State == diag.StateOpen {
				opened[f.Cause]++
			}
		}
	}
	t.Logf("findings opened in %d captures: %v", len(rows), opened)
}
