package bpf

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/strata-edge/strata/internal/capture"
	"github.com/strata-edge/strata/internal/testreq"
)

// oracle is a row of the public captures' oracle, by column name.
type oracle map[string]int

func oracles(tb testing.TB) (dir string, rows map[string]oracle, agree map[string]bool) {
	tb.Helper()
	dir = filepath.Join(testreq.Data(tb), "captures")
	read := func(name string) []string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			testreq.Missing(tb, "data", err.Error())
		}
		return strings.Split(strings.TrimSpace(string(text)), "\n")
	}
	lines := read("oracle.tsv")
	columns := strings.Split(lines[0], "\t")
	rows = map[string]oracle{}
	for _, line := range lines[1:] {
		f, row := strings.Split(line, "\t"), oracle{}
		for i, c := range columns[1:] {
			n, err := strconv.Atoi(f[i+1])
			if err == nil {
				row[c] = n
			}
			if c == "protocols" {
				for _, one := range strings.Split(f[i+1], ",") {
					if name, count, ok := strings.Cut(one, ":"); ok {
						row["protocol "+name], _ = strconv.Atoi(count)
					}
				}
			}
		}
		rows[f[0]] = row
	}
	agree = map[string]bool{}
	for _, name := range read("tcp_agree.lst") {
		agree[name] = true
	}
	return dir, rows, agree
}

// push replays a capture and gives the number of packets read and of those skipped.
func push(tb testing.TB, p *Probe, path string, each func()) (read, skipped int) {
	tb.Helper()
	r, err := capture.Open(path)
	if err != nil {
		tb.Errorf("%v", err)
		return 0, 0
	}
	defer r.Close()
	var one capture.Packet
	for r.Next(&one) == nil {
		read++
		if one.Skipped {
			skipped++
			continue
		}
		if err := p.Packet(one.Time, one.Frame, one.OrigLen); err != nil {
			tb.Fatalf("%s: packet %d: %v", path, read, err)
		}
		if each != nil {
			each()
		}
	}
	return read, skipped
}

// clearFlows empties the tables between captures, so that times do not mix.
func clearFlows(tb testing.TB, p *Probe) (flows int) {
	tb.Helper()
	for _, table := range []struct {
		each func(func(*FlowKey, *FlowValue) bool) error
		drop func([]FlowKey) (int, error)
	}{{p.Flows, p.DeleteFlows}, {p.HalfOpen, p.DeleteHalfOpen}} {
		var keys []FlowKey
		if err := table.each(func(k *FlowKey, _ *FlowValue) bool {
			keys = append(keys, *k)
			return true
		}); err != nil {
			tb.Fatal(err)
		}
		if _, err := table.drop(keys); err != nil {
			tb.Fatal(err)
		}
		for _, k := range keys {
			if k.Proto == 6 || k.Proto == 17 {
				flows++
			}
		}
	}
	var seen []NeighbourKey
	if err := p.Neighbours(func(k *NeighbourKey, _ *Neighbour) bool {
		seen = append(seen, *k)
		return true
	}); err != nil {
		tb.Fatal(err)
	}
	if _, err := p.DeleteNeighbours(seen); err != nil {
		tb.Fatal(err)
	}
	return flows
}

// TestAgainstOracle replays every public capture. Packets are exact everywhere. For the
// other columns it logs in how many captures the programs and Wireshark agree, and holds
// that share to what it was when the test was written.
func TestAgainstOracle(t *testing.T) {
	dir, rows, agree := oracles(t)
	p := load(t, Config{Replay: true})
	type tally struct{ same, of, got, want int }
	tallies := map[string]*tally{}
	note := func(set, name, column string, got, want int) {
		s := tallies[set+" "+column]
		if s == nil {
			s = &tally{}
			tallies[set+" "+column] = s
		}
		s.of++
		s.got += got
		s.want += want
		if got == want {
			s.same++
		} else if want := os.Getenv("STRATA_SHOW"); want != "" && strings.HasPrefix(set+" "+column, want) {
			t.Logf("%s %s: %d, oracle %d", name, column, got, rows[name][column])
		}
	}
	var before Counters
	for name, row := range rows {
		read, skipped := push(t, p, filepath.Join(dir, name), nil)
		c, err := p.Counters()
		if err != nil {
			t.Fatal(err)
		}
		flows := clearFlows(t, p)
		if int(c.Packets-before.Packets) != read-skipped {
			t.Errorf("%s: %d packets counted of %d", name, c.Packets-before.Packets, read-skipped)
		}
		plain := row["protocol gre"]+row["protocol vxlan"]+row["protocol erspan"]+row["protocol gtp"]+row["protocol ipip"] == 0
		for column, got := range map[string]uint64{
			"tcp_rst":      c.TCPRST - before.TCPRST,
			"tcp_syn":      c.TCPSYN - before.TCPSYN,
			"tcp_fin":      c.TCPFIN - before.TCPFIN,
			"arp":          c.ARP - before.ARP,
			"flows_5tuple": uint64(flows),
			"ip_fragments": c.Fragments - before.Fragments,
			"icmp_unreach": c.ICMPErrors[ICMPUnreachable] + c.ICMPErrors[ICMPPort] + c.ICMPErrors[ICMPFragNeeded] + c.ICMPErrors[ICMPProhibited] -
				before.ICMPErrors[ICMPUnreachable] - before.ICMPErrors[ICMPPort] - before.ICMPErrors[ICMPFragNeeded] - before.ICMPErrors[ICMPProhibited],
			"icmp_ttl_exceeded": c.ICMPErrors[ICMPTTL] - before.ICMPErrors[ICMPTTL],
			"arp_dup_addr":      c.NeighbourConflicts - before.NeighbourConflicts,
			"vlan":              c.VLAN - before.VLAN,
		} {
			if plain && skipped == 0 {
				note("all", name, column, int(got), row[column])
			}
		}
		for column, got := range map[string]uint64{
			"tcp_retransmission": c.TCPRetransmits - before.TCPRetransmits,
			"tcp_out_of_order":   c.TCPOutOfOrder - before.TCPOutOfOrder,
			"tcp_zero_window":    c.TCPZeroWindow - before.TCPZeroWindow,
			"tcp_duplicate_ack":  c.TCPDupAcks - before.TCPDupAcks,
			"tcp_lost_segment":   c.TCPGaps - before.TCPGaps,
			"tcp_keep_alive":     c.TCPKeepalives - before.TCPKeepalives,
		} {
			if agree[name] {
				note("agreed", name, column, int(got), row[column])
			}
			if row["conv_tcp"] > 0 && plain && skipped == 0 {
				note("tcp", name, column, int(got), row[column])
			}
		}
		before = c
	}
	for what, s := range tallies {
		share := float64(s.same) / float64(s.of)
		// What is short of 1: tunnels and reassembled fragments that Wireshark looks into,
		// addresses quoted by ICMP errors that it counts as flows.
		least := 0.95
		switch set, _, _ := strings.Cut(what, " "); set {
		case "agreed":
			least = 0.99
		case "tcp":
			least = 0.98
		}
		if share < least {
			t.Errorf("%s: equal in %.3f of the captures, was %.3f and more", what, share, least)
		}
		t.Logf("%-28s equal in %4d of %4d (%.3f), sum %d, oracle %d", what, s.same, s.of, share, s.got, s.want)
	}
	t.Logf("parse rejects L2 %d, L3 %d, L4 %d", before.BadL2, before.BadL3, before.BadL4)
}
