package buffer

// Loss is why a record left the buffer before every sink had it.
type Loss uint8

// The reasons. Their order is that of the file: append only.
const (
	LostEvicted       Loss = iota // normal, dropped at the cap
	LostEvictedUrgent             // urgent, dropped at the cap with no normal record left
	LostExpired                   // older than the age cap
	LostCRC                       // did not match its checksum
	LostTooLarge                  // refused: over MaxRecord
	LostOverflow                  // refused: too many waited for the disk
	LostWrite                     // the disk refused it
	LostDamage                    // was in a file that was put aside while running
	LostFile                      // a whole file put aside at Open; its records are not known
	losses
)

var lossNames = [losses]string{
	"evicted", "evicted_urgent", "expired", "crc", "too_large", "overflow", "write", "damage", "file",
}

// String gives the reason as it stands in metrics.
func (l Loss) String() string {
	if l >= losses {
		return "unknown"
	}
	return lossNames[l]
}

// Losses gives every reason.
func Losses() []Loss {
	out := make([]Loss, losses)
	for i := range out {
		out[i] = Loss(i)
	}
	return out
}

// Counts are since Open.
type Counts struct {
	Put       uint64 // records taken
	Commits   uint64 // transactions
	Delivered uint64 // records that every sink acknowledged
}

// Stats is a snapshot. Lost and Coalesced are totals of the file's life.
type Stats struct {
	Counts
	Urgent, Normal uint64 // records held
	Bytes          int64  // accounted, of Limit
	Limit          int64
	FileBytes      int64
	Waiting        int // put, not yet committed
	Full           bool
	Coalesced      uint64
	Lost           [losses]uint64 // by Loss
	Sinks          map[string]SinkStats
}

// SinkStats is how far one sink has come.
type SinkStats struct {
	InFlight int // handed out, not acknowledged
}

// TotalLost adds up every reason but LostFile, which counts files.
func (s Stats) TotalLost() (n uint64) {
	for l, v := range s.Lost {
		if Loss(l) != LostFile {
			n += v
		}
	}
	return n
}

// Stats gives a snapshot.
func (q *Queue) Stats() Stats {
	fileBytes := q.fileBytes()
	q.mu.Lock()
	defer q.mu.Unlock()
	s := Stats{
		Counts: q.counts,
		Urgent: q.st.count[Urgent], Normal: q.st.count[Normal],
		Bytes: q.st.bytes[Urgent] + q.st.bytes[Normal], Limit: q.limit,
		FileBytes: fileBytes, Waiting: len(q.waiting),
		Coalesced: q.st.coalesced, Lost: q.st.lost,
		Sinks: make(map[string]SinkStats, len(q.cursors)),
	}
	s.Full = s.Bytes >= q.limit*98/100 || q.st.bytes[Normal] >= q.normalLimit*98/100
	for name, c := range q.cursors {
		s.Sinks[name] = SinkStats{InFlight: len(c.lane[Urgent].out) + len(c.lane[Normal].out)}
	}
	return s
}
