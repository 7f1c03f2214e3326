package flow

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/strata-edge/strata/bpf"
	"github.com/strata-edge/strata/edge/diag"
	"github.com/strata-edge/strata/internal/testreq"
	"github.com/vishvananda/netns"
)

// street is client — gateway — server in namespaces of their own.
type street struct{ cli, gw, srv string }

func ip(tb testing.TB, args string) {
	tb.Helper()
	if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		testreq.Missing(tb, "netns", fmt.Sprintf("ip %s: %v: %s", args, err, out))
	}
}

func newStreet(t *testing.T) street {
	testreq.Root(t, "netns")
	testreq.Tool(t, "netns", "ip")
	prefix := fmt.Sprintf("sflow%d-", os.Getpid())
	s := street{prefix + "cli", prefix + "gw", prefix + "srv"}
	for _, ns := range []string{s.cli, s.gw, s.srv} {
		ip(t, "netns add "+ns)
		t.Cleanup(func() {
			if out, err := exec.Command("ip", "netns", "del", ns).CombinedOutput(); err != nil {
				t.Errorf("remove %s: %v: %s", ns, err, out)
			}
		})
		ip(t, "-n "+ns+" link set lo up")
	}
	ip(t, "-n "+s.gw+" link add lan0 type veth peer name eth0 netns "+s.cli)
	ip(t, "-n "+s.gw+" link add wan0 type veth peer name eth0 netns "+s.srv)
	for _, a := range [][3]string{{s.cli, "eth0", "10.77.0.2/24"}, {s.gw, "lan0", "10.77.0.1/24"}, {s.gw, "wan0", "198.51.100.1/24"}, {s.srv, "eth0", "198.51.100.9/24"}} {
		ip(t, "-n "+a[0]+" addr add "+a[2]+" dev "+a[1])
		ip(t, "-n "+a[0]+" link set "+a[1]+" up")
	}
	ip(t, "-n "+s.cli+" route add default via 10.77.0.1")
	ip(t, "-n "+s.srv+" route add default via 198.51.100.1")
	ip(t, "-n "+s.gw+" route add 203.0.113.0/24 via 198.51.100.9")
	in(t, s.gw, func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) })
	return s
}

// in runs fn on a thread of the namespace; the thread is thrown away.
func in(t *testing.T, name string, fn func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := netns.GetFromName(name)
		if err == nil {
			err = netns.Set(ns)
			ns.Close()
		}
		if err == nil {
			err = fn()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("in %s: %v", name, err)
	}
}

// TestLiveGateway forwards four kinds of connection attempts through a gateway and one
// that works, and expects each once, at its place.
func TestLiveGateway(t *testing.T) {
	testreq.Root(t, "bpf")
	probe, err := bpf.Load(bpf.Config{})
	if err != nil {
		testreq.Missing(t, "bpf", err.Error())
	}
	defer probe.Close()
	s := newStreet(t)
	var listener net.Listener
	in(t, s.srv, func() (err error) {
		listener, err = net.Listen("tcp", "198.51.100.9:8080")
		return err
	})
	defer listener.Close()
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 100)
			c.Read(buf)
			c.Write([]byte("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
			c.Close()
		}
	}()
	var got []diag.Signal
	attached, dialled := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(dialled)
		<-attached
		time.Sleep(300 * time.Millisecond)
		for _, to := range []string{"198.51.100.9/8080", "198.51.100.9/8081", "203.0.113.77/443", "198.51.100.99/80"} {
			script := fmt.Sprintf("exec 3<>/dev/tcp/%s && printf 'GET / HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n' >&3 && cat <&3", to)
			cmd := exec.Command("ip", "netns", "exec", s.cli, "timeout", "2", "bash", "-c", script)
			_ = cmd.Run() // three of four fail by intention
		}
	}()
	in(t, s.gw, func() error {
		payloads, err := probe.Payloads()
		if err != nil {
			return err
		}
		defer payloads.Close()
		for _, name := range []string{"lan0", "wan0"} {
			ifi, err := net.InterfaceByName(name)
			if err != nil {
				return err
			}
			if _, err := probe.Attach(ifi.Index); err != nil {
				return err
			}
		}
		src, err := New(SourceConfig{
			Probe: probe, Payloads: payloads, Logger: slog.New(slog.DiscardHandler),
			Now: func() diag.Time { return diag.Time(bpf.Now()) },
		})
		if err != nil {
			return err
		}
		ctx, stop := context.WithTimeout(t.Context(), 11*time.Second)
		defer stop()
		close(attached)
		return src.Run(ctx, func(g diag.Signal) { got = append(got, g) })
	})
	<-dialled
	sum := func(name, scope string) (v float64, path string) {
		for _, g := range got {
			if g.Name == name && g.Scope.String() == scope {
				v += g.Value
				var p []string
				for _, x := range g.Path {
					p = append(p, x.String())
				}
				path = strings.Join(p, ",")
			}
		}
		return v, path
	}
	for _, want := range []struct {
		name, scope string
		least, most float64
		path        string
	}{
		{"tcp.syn", "service:tcp/198.51.100.9:8080", 1, 1, "host:198.51.100.9,if:wan0"},
		{"tcp.established", "service:tcp/198.51.100.9:8080", 1, 1, "host:198.51.100.9,if:wan0"},
		{"http.response", "service:tcp/198.51.100.9:8080", 1, 1, "host:198.51.100.9,if:wan0"},
		{"tcp.refused", "service:tcp/198.51.100.9:8081", 1, 1, "host:198.51.100.9,if:wan0"},
		{"tcp.syn_unanswered", "service:tcp/203.0.113.77:443", 1, 1, "host:203.0.113.77,host:198.51.100.9,if:wan0"},
		{"arp.unanswered", "host:198.51.100.99", 1, 8, "if:wan0"},
		{"tcp.syn_unanswered", "service:tcp/198.51.100.99:80", 0, 1, "host:198.51.100.99,if:wan0"},
		{"path.loss", "service:tcp/198.51.100.99:80", 0, 0, ""},
		{"tcp.refused", "service:tcp/198.51.100.9:8080", 0, 0, ""},
		{"tcp.syn_unanswered", "service:tcp/198.51.100.9:8081", 0, 0, ""},
	} {
		if v, path := sum(want.name, want.scope); v < want.least || v > want.most || v > 0 && path != want.path {
			t.Errorf("%s %s: %v (%v to %v), path %s", want.name, want.scope, v, want.least, want.most, path)
		}
	}
	if t.Failed() {
		slices.SortStableFunc(got, func(a, b diag.Signal) int { return strings.Compare(a.Name, b.Name) })
		for _, g := range got {
			t.Log(g.Name, g.Scope, g.Value, g.Path, g.Attrs)
		}
	}
}
