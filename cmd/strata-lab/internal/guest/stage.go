package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/strata-edge/strata/cmd/strata-lab/internal/guest/wire"
	"github.com/strata-edge/strata/edge/diag"
)

const (
	service    = "strata" // the name under which strata run is started
	configPath = "/run/strata.yaml"

	// config shortens the drives' poll: 60 s, the default, would only make the test longer.
	config = "disk: {poll: 5s}\n"

	// observeLimit is how long a finding may take from the fault: the budget of 15 s after
	// the first symptom, plus one poll of the drives, on an emulated processor.
	observeLimit = 25 * time.Second
	// resolveLimit allows for the window in which a finding must stay quiet.
	resolveLimit = 60 * time.Second
	healthyTime  = 12 * time.Second // one whole window and more
	memoryCap    = 48 << 10         // KiB of anonymous memory: the budget of strata run
)

// stage is the smoke test's course on a booted guest.
type stage struct {
	m      *machine
	in     *inbox
	r      *report
	broker string // host:port on loopback
	echo   string // host:port as the guest sees it
	can    [2]string
	pid    int
}

func (s *stage) run(ctx context.Context) {
	s.r.check(ctx, "guest boots", s.boots)
	s.r.check(ctx, "strata version", s.version)
	s.r.check(ctx, "strata selftest", s.selftest)
	s.r.check(ctx, "NVMe read as smartctl reads it", s.smart(nvmeSerial, "/dev/nvme0"))
	s.r.check(ctx, "SATA read as smartctl reads it", s.smart(sataSerial, "/dev/sda"))
	if !s.r.check(ctx, "CAN over a serial adapter", s.openCAN) {
		return
	}
	if !s.r.check(ctx, "strata run starts", s.start) {
		return
	}
	s.r.check(ctx, "BPF programs attach and count", s.programs)
	s.r.check(ctx, "healthy: no finding", s.healthy)
	s.drive(ctx)
	s.bus(ctx, s.can[0], "error-passive", "sp128130", diag.CodeL1CanErrorPassive)
	s.bus(ctx, s.can[1], "bus-off", "sb000255", diag.CodeL1CanBusOff)
	s.r.check(ctx, "anonymous memory within 48 MiB", s.memory)
	s.r.check(ctx, "strata run ends on SIGTERM", s.stop)
}

func (s *stage) boots(context.Context) (string, error) {
	h := s.m.hello
	if len(h.Missing) > 0 {
		return "", errors.New(strings.Join(h.Missing, "; "))
	}
	if h.Machine != "aarch64" {
		return "", fmt.Errorf("machine is %s", h.Machine)
	}
	return "Linux " + h.Kernel + " " + h.Machine, nil
}

// exec runs strata in the guest and wants exit 0.
func (s *stage) exec(ctx context.Context, args ...string) (string, error) {
	r, err := s.m.ask(ctx, wire.Request{Op: wire.OpExec, Args: args, Millis: 60_000})
	if err != nil {
		return "", err
	}
	if r.Code != 0 {
		return "", fmt.Errorf("%s: exit %d: %s", strings.Join(args, " "), r.Code, lastLine(r.Err+r.Out))
	}
	return r.Out, nil
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}

func (s *stage) version(ctx context.Context) (string, error) {
	out, err := s.exec(ctx, strataPath, "version", "--json")
	return strings.TrimSpace(out), err
}

// selftest wants exit 0 and tells what is absent on this device.
func (s *stage) selftest(ctx context.Context) (string, error) {
	began := time.Now()
	r, err := s.m.ask(ctx, wire.Request{Op: wire.OpExec, Args: []string{strataPath, "selftest", "--json"}, Millis: 60_000})
	if err != nil {
		return "", err
	}
	var parts, absent []string
	for dec := json.NewDecoder(strings.NewReader(r.Out)); dec.More(); {
		var part struct {
			Name   string `json:"name"`
			OK     bool   `json:"ok"`
			Detail string `json:"detail"`
		}
		if err := dec.Decode(&part); err != nil {
			return "", fmt.Errorf("not JSON: %w", err)
		}
		parts = append(parts, part.Name)
		if !part.OK {
			absent = append(absent, part.Name+": "+part.Detail)
		}
	}
	detail := fmt.Sprintf("exit %d after %.1f s; %d parts", r.Code, time.Since(began).Seconds(), len(parts))
	if len(absent) > 0 {
		detail += "; absent: " + strings.Join(absent, "; ")
	}
	if r.Code != 0 || len(parts) == 0 {
		return "", fmt.Errorf("%s %s", detail, lastLine(r.Err))
	}
	return detail, nil
}

func (s *stage) smart(serial, device string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		ours, err := s.exec(ctx, strataPath, "smart", "--json")
		if err != nil {
			return "", err
		}
		got, err := findDrive(ours, serial)
		if err != nil {
			return "", err
		}
		// smartctl's exit code is a bit set about the drive's health, not about success.
		r, err := s.m.ask(ctx, wire.Request{Op: wire.OpExec, Args: []string{smartctlPath, "-a", "-j", device}, Millis: 60_000})
		if err != nil {
			return "", err
		}
		want, err := findDrive(r.Out, serial)
		if err != nil {
			return "", fmt.Errorf("smartctl: %w", err)
		}
		n, err := compare(got, want)
		return fmt.Sprintf("%d facts equal", n), err
	}
}

func (s *stage) openCAN(ctx context.Context) (string, error) {
	for i := range s.can {
		r, err := s.m.ask(ctx, wire.Request{Op: wire.OpSLCAN})
		if err != nil {
			return "", err
		}
		s.can[i] = r.Out
	}
	return strings.Join(s.can[:], " "), nil
}

func (s *stage) start(ctx context.Context) (string, error) {
	if _, err := s.m.ask(ctx, wire.Request{Op: wire.OpWrite, Args: []string{configPath}, Data: config}); err != nil {
		return "", err
	}
	url := "mqtt://" + hostAddress + s.broker[strings.LastIndexByte(s.broker, ':'):]
	r, err := s.m.ask(ctx, wire.Request{Op: wire.OpStart, Name: service, Args: []string{
		strataPath, "run", "-c", configPath, "--interfaces", "eth0", "--state", "/state", "--mqtt", url, "--json",
	}})
	s.pid = r.PID
	return "process " + strconv.Itoa(r.PID), err
}

// programs wants a program of strata's on both directions of eth0, and that it runs when
// packets pass.
func (s *stage) programs(ctx context.Context) (string, error) {
	var last string
	for end := time.Now().Add(40 * time.Second); time.Now().Before(end); {
		if _, err := s.m.ask(ctx, wire.Request{Op: wire.OpTraffic, Data: s.echo, Count: 5}); err != nil {
			return "", err
		}
		r, err := s.m.ask(ctx, wire.Request{Op: wire.OpPrograms})
		if err != nil {
			return "", err
		}
		var hung []string
		for _, p := range r.Programs {
			if strings.HasSuffix(p.At, " eth0") && p.Runs > 0 {
				hung = append(hung, fmt.Sprintf("%s on %s ran %d times", p.Name, p.At, p.Runs))
			}
		}
		slices.Sort(hung)
		last = strings.Join(hung, ", ")
		if strings.Contains(last, "ingress") && strings.Contains(last, "egress") {
			return fmt.Sprintf("%s; %d programs loaded", last, len(r.Programs)), nil
		}
		time.Sleep(500 * time.Millisecond)
	}
	out, err := s.m.ask(ctx, wire.Request{Op: wire.OpOutput, Name: service})
	return "", errors.Join(err, fmt.Errorf("on eth0: %q; strata says:\n%s", last, out.Err))
}

// aboutStrata says whether a finding is about Strata itself, not about the device.
func aboutStrata(f received) bool { return strings.HasPrefix(f.Cause, "l0.strata") }

func (s *stage) healthy(ctx context.Context) (string, error) {
	from := time.Now()
	for time.Since(from) < healthyTime {
		if _, err := s.m.ask(ctx, wire.Request{Op: wire.OpTraffic, Data: s.echo, Count: 3}); err != nil {
			return "", err
		}
		time.Sleep(time.Second)
	}
	// From the very start: what strata finds at its start is a false alarm, too.
	fs := slices.DeleteFunc(s.in.all(time.Time{}), aboutStrata)
	if len(fs) > 0 {
		return "", fmt.Errorf("came: %s", list(fs))
	}
	return fmt.Sprintf("%.0f s with traffic", time.Since(from).Seconds()), nil
}

// expect waits for a finding of the cause on the scope.
func (s *stage) expect(ctx context.Context, from time.Time, cause, scope string) (string, error) {
	f, err := s.in.wait(ctx, from, observeLimit, func(f received) bool {
		return f.Cause == cause && f.Scope.ID == scope && f.State != diag.StateResolved
	})
	if err != nil {
		return "", fmt.Errorf("want %s on %s: %w", cause, scope, err)
	}
	return fmt.Sprintf("%s on %s, confidence %.2f, %.1f s after the fault, %d bytes",
		f.Cause, f.Scope.ID, f.Confidence, f.at.Sub(from).Seconds(), f.size), nil
}

func (s *stage) resolved(ctx context.Context, from time.Time, cause, scope string) (string, error) {
	f, err := s.in.wait(ctx, from, resolveLimit, func(f received) bool {
		return f.Cause == cause && f.Scope.ID == scope && f.State == diag.StateResolved
	})
	if err != nil {
		return "", fmt.Errorf("want %s on %s resolved: %w", cause, scope, err)
	}
	return fmt.Sprintf("%.1f s after the repair, %d bytes", f.at.Sub(from).Seconds(), f.size), nil
}

// only wants no finding since from but those about Strata and on the scope.
func (s *stage) only(from time.Time, scope string) error {
	fs := slices.DeleteFunc(s.in.all(from), func(f received) bool { return aboutStrata(f) || f.Scope.ID == scope })
	if len(fs) > 0 {
		return fmt.Errorf("besides it came: %s", list(fs))
	}
	return nil
}

// drive raises bit 2 of the NVMe drive's critical warning (reliability degraded; NVM
// Express base specification, SMART / Health Information log), and clears it.
func (s *stage) drive(ctx context.Context) {
	const cause, scope = "l1.disk.media", "disk:" + nvmeSerial
	from := time.Now()
	s.r.check(ctx, "NVMe critical warning found", func(ctx context.Context) (string, error) {
		if err := s.m.monitor.set(nvmeDevice, "smart_critical_warning", 1<<2); err != nil {
			return "", err
		}
		detail, err := s.expect(ctx, from, cause, scope)
		return detail, errors.Join(err, s.only(from, scope))
	})
	from = time.Now()
	s.r.check(ctx, "NVMe warning cleared: resolved", func(ctx context.Context) (string, error) {
		if err := s.m.monitor.set(nvmeDevice, "smart_critical_warning", 0); err != nil {
			return "", err
		}
		return s.resolved(ctx, from, cause, scope)
	})
}

// bus drives the controller of a CAN interface into a state by what its adapter says, and
// back to error-active.
func (s *stage) bus(ctx context.Context, ifname, state, says string, code diag.Code) {
	const cause = "l1.can.physical"
	scope := "can:" + ifname
	from := time.Now()
	s.r.check(ctx, "CAN "+state+" found", func(ctx context.Context) (string, error) {
		if _, err := s.m.ask(ctx, wire.Request{Op: wire.OpSend, Name: ifname, Data: says}); err != nil {
			return "", err
		}
		detail, err := s.expect(ctx, from, cause, scope)
		return detail, errors.Join(err, s.only(from, scope), s.chained(from, scope, code))
	})
	from = time.Now()
	s.r.check(ctx, "CAN error-active again: resolved", func(ctx context.Context) (string, error) {
		if _, err := s.m.ask(ctx, wire.Request{Op: wire.OpSend, Name: ifname, Data: "sa000000"}); err != nil {
			return "", err
		}
		return s.resolved(ctx, from, cause, scope)
	})
}

// chained wants the code in the chain of a finding on the scope.
func (s *stage) chained(from time.Time, scope string, code diag.Code) error {
	for _, f := range s.in.all(from) {
		if f.Scope.ID != scope {
			continue
		}
		for _, l := range f.Chain {
			if l.Code == code {
				return nil
			}
		}
	}
	return fmt.Errorf("no finding on %s has %s in its chain", scope, code)
}

func (s *stage) memory(ctx context.Context) (string, error) {
	r, err := s.m.ask(ctx, wire.Request{Op: wire.OpRead, Args: []string{fmt.Sprintf("/proc/%d/status", s.pid)}})
	if err != nil {
		return "", err
	}
	sizes := map[string]int{}
	for line := range strings.Lines(r.Out) {
		if f := strings.Fields(line); len(f) == 3 && f[2] == "kB" {
			sizes[strings.TrimSuffix(f[0], ":")], _ = strconv.Atoi(f[1])
		}
	}
	detail := fmt.Sprintf("anonymous %.1f MiB, resident %.1f MiB, peak %.1f MiB",
		float64(sizes["RssAnon"])/1024, float64(sizes["VmRSS"])/1024, float64(sizes["VmHWM"])/1024)
	if sizes["RssAnon"] == 0 || sizes["RssAnon"] > memoryCap {
		return "", errors.New(detail)
	}
	return detail, nil
}

func (s *stage) stop(ctx context.Context) (string, error) {
	began := time.Now()
	r, err := s.m.ask(ctx, wire.Request{Op: wire.OpStop, Name: service, Millis: 15_000})
	if err != nil {
		return "", err
	}
	if r.Code != 0 {
		return "", fmt.Errorf("exit %d: %s", r.Code, lastLine(r.Err))
	}
	// What it printed must have arrived: by id and state, an update may replace a waiting one.
	arrived := map[string]bool{}
	for _, f := range s.in.all(time.Time{}) {
		arrived[f.ID+" "+string(f.State)] = true
	}
	var lines int
	for line := range strings.Lines(r.Out) {
		var f diag.Finding
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			return "", fmt.Errorf("standard output is not JSON lines: %w: %.100s", err, line)
		}
		if !arrived[f.ID+" "+string(f.State)] {
			return "", fmt.Errorf("printed and never arrived at the broker: %.200s", line)
		}
		lines++
	}
	if lines == 0 {
		return "", errors.New("nothing on its output")
	}
	return fmt.Sprintf("after %.1f s; all %d messages on its output arrived", time.Since(began).Seconds(), lines), nil
}
