// Package buffer keeps findings on the device until every uplink has taken them: a
// bounded, acknowledged queue of opaque byte records in one bbolt file.
//
// It is for the agent, which puts, and for the drain loops, each of which reads through
// a Cursor of its own. A record whose Put has returned nil is on the disk; it leaves the
// file when every registered sink has acknowledged it, or as a counted loss: evicted at
// the byte cap (oldest normal records first, urgent ones last), older than the age cap,
// or damaged. Delivery is at least once: after a crash up to 64 records for each sink
// are handed out again.
//
// Put is safe for many goroutines. Run commits what was put (at most 16 records a
// transaction, after a short linger or at once for urgent ones); while no Run is active
// Put commits by itself. A Cursor belongs to one goroutine. Close after Run has returned.
//
// A bbolt file has no checksum on its pages, and a damaged one can take the process
// down from a goroutine that cannot be recovered. So Open has the file checked by a
// child process first (Options.CheckCommand, CheckMain); a file that fails is put aside
// and a new one begun. Each record carries a CRC32C of its own.
//
// bbolt locks the file for the process that writes. Others look through a unix socket
// of mode 0600 beside the file (Serve, Dial); View asks the socket first and opens the
// file read-only when nobody answers.
package buffer
