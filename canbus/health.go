package canbus

import "fmt"

// Verdict grades a bus as its controller sees it.
type Verdict string

// The verdicts. Unknown means that the controller does not show enough.
const (
	Unknown Verdict = "unknown"
	Healthy Verdict = "healthy"
	Watch   Verdict = "watch"   // error-warning, or bus errors were counted
	Failing Verdict = "failing" // error-passive
	Failed  Verdict = "failed"  // bus-off
)

// Judge grades the link by what it shows now. Reasons say why it is not healthy, unseen
// what the controller does not show.
func (l *Link) Judge() (v Verdict, reasons, unseen []string) {
	switch {
	case l.Virtual():
		return Unknown, nil, []string{"a virtual interface has no bus behind it"}
	case !l.Up:
		return Unknown, nil, []string{"the interface is down"}
	case l.Kind != "can" || !l.HasState:
		return Unknown, nil, []string{"the driver reports no state"}
	}
	v = Healthy
	switch s := l.Effective(); s {
	case StateBusOff:
		v = Failed
		reasons = append(reasons, "the controller is bus-off")
		if l.HasRestart && l.RestartMS == 0 {
			reasons = append(reasons, "it does not restart by itself: restart-ms is 0")
		}
	case StatePassive:
		v, reasons = Failing, append(reasons, "the controller is error-passive")
	case StateWarning:
		v, reasons = Watch, append(reasons, "the controller reached error-warning")
	case StateActive:
	default:
		v, unseen = Unknown, append(unseen, fmt.Sprintf("the controller is %s", s))
	}
	if l.HasCounts {
		for _, c := range [...]struct {
			n    uint32
			what string
		}{
			{l.Counts.BusOffs, "times bus-off"}, {l.Counts.Passives, "times error-passive"}, {l.Counts.BusErrors, "bus errors"},
		} {
			if c.n == 0 {
				continue
			}
			reasons = append(reasons, fmt.Sprintf("%d %s since the interface was made", c.n, c.what))
			if v == Healthy {
				v = Watch
			}
		}
	}
	if !l.BusErrorReporting() {
		unseen = append(unseen, "bus-error reporting is off")
	}
	if !l.HasCounters {
		unseen = append(unseen, "the driver gives no error counters")
	}
	return v, reasons, unseen
}

// ModeNames gives the controller modes by the names of the field's tools.
func (l *Link) ModeNames() []string {
	return names(l.Modes, modeNames[:])
}

var modeNames = [...]string{
	"loopback", "listen-only", "triple-sampling", "one-shot", "berr-reporting", "fd",
	"presume-ack", "fd-non-iso", "cc-len8-dlc", "tdc-auto", "tdc-manual",
}
