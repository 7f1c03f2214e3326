package agent

import "sync/atomic"

// The reasons for which the agent itself drops something. Sources, kernel, window, buffer
// and uplinks count their own.
const (
	dropSignal  = iota // the pipeline did not keep up
	dropFinding        // the buffer did not keep up
	dropStore          // the buffer refused a finding
	dropShown          // nobody read what was to be shown; it is stored
	dropReasons
)

var dropNames = [dropReasons]string{"signal_queue_full", "finding_queue_full", "buffer_refused", "not_shown"}

// drops counts by reason; it may be used from any goroutine.
type drops struct{ n [dropReasons]atomic.Uint64 }

func (d *drops) add(reason int) { d.n[reason].Add(1) }

func (d *drops) total() (n uint64) {
	for i := range d.n {
		n += d.n[i].Load()
	}
	return n
}
