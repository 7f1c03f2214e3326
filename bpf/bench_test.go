package bpf

import (
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// testRun measures one packet in the kernel, in nanoseconds: the best of several rounds,
// since the machine is shared.
func testRun(tb testing.TB, prog *ebpf.Program, frame []byte) time.Duration {
	tb.Helper()
	best := time.Duration(1 << 62)
	for range 7 {
		_, each, err := prog.Benchmark(frame, 200_000, func() {})
		if err != nil {
			tb.Fatal(err)
		}
		best = min(best, each)
	}
	return best
}

// emptyProgram is what every measurement is net of.
func emptyProgram(tb testing.TB) *ebpf.Program {
	tb.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { prog.Close() })
	return prog
}

// frames are what the cost of a packet is measured on: an ack and data over each IP.
func frames() map[string][]byte {
	return map[string][]byte{
		"ipv4/tcp-ack":  tcpFrame(false, 0),
		"ipv4/tcp-data": tcpFrame(false, 1000),
		"ipv4/udp":      udpFrame(false, 200),
		"ipv6/tcp-ack":  tcpFrame(true, 0),
		"ipv6/tcp-data": tcpFrame(true, 1000),
		"ipv6/udp":      udpFrame(true, 200),
	}
}

func BenchmarkPacket(b *testing.B) {
	p := load(b, Config{})
	empty := emptyProgram(b)
	for name, frame := range frames() {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
			}
			none := testRun(b, empty, frame)
			ours := testRun(b, p.progs.StrataIngress, frame)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(none), "empty-ns")
			b.ReportMetric(float64(ours), "ns")
			b.ReportMetric(float64(ours-none), "net-ns")
		})
	}
}
