package buffer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

// Priority decides what is committed at once, sent first and kept longest.
type Priority uint8

// The priorities, the most urgent first.
const (
	Urgent Priority = iota
	Normal
	lanes
)

// String gives the priority's name.
func (p Priority) String() string {
	switch p {
	case Urgent:
		return "urgent"
	case Normal:
		return "normal"
	}
	return fmt.Sprintf("priority(%d)", uint8(p))
}

// ID names a record for as long as it is in the file. IDs of one priority grow.
type ID uint64

func makeID(lane Priority, seq uint64) ID { return ID(seq<<1 | uint64(lane&1)) }
func (id ID) lane() Priority              { return Priority(id & 1) }
func (id ID) seq() uint64                 { return uint64(id >> 1) }

// Stamp is when a record was made, so that it can be re-dated after a late clock sync.
type Stamp struct {
	Boot     string        // the kernel's boot id, at most 64 bytes
	BootTime time.Duration // CLOCK_BOOTTIME
	Wall     time.Time     // what the wall clock said
	Synced   bool          // whether the wall clock was known to be right
}

// Record is what is put. Payload is opaque here; it is copied before Put returns.
type Record struct {
	Payload  []byte
	Priority Priority
	// Key coalesces: a record replaces the waiting older one of the same key. Use it
	// for records that say nothing new once a newer one exists; empty means never.
	Key   string
	Stamp Stamp // zero: Put takes Options.Now
}

// Item is a record as a sink gets it.
type Item struct {
	ID       ID
	Priority Priority
	Key      string
	Stamp    Stamp
	Payload  []byte
	// Shift is what to add to the wall times in Payload: not zero where the record was
	// made with an unsynced clock and the boot's true offset has become known since.
	Shift time.Duration
}

// Wall gives the record's wall time, corrected where that became possible.
func (i Item) Wall() time.Time { return i.Stamp.Wall.Add(i.Shift) }

// Dated says whether Wall can be trusted.
func (i Item) Dated() bool { return i.Stamp.Synced || i.Shift != 0 }

// MaxRecord is the largest payload in bytes. Findings are 1 KiB; the bound keeps one
// faulty caller from filling the file.
const MaxRecord = 64 << 10

const (
	maxBoot = 64
	maxKey  = 255

	recordVersion = 1
	flagSynced    = 1

	// version, flags, priority, boot length, key length, three spare bytes (zero),
	// CRC32C, boot time, wall time; little endian.
	recordHead = 1 + 1 + 1 + 1 + 1 + 3 + 4 + 8 + 8
	crcAt      = 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrRecord is wrapped by every error about a record that cannot be decoded.
var ErrRecord = errors.New("damaged record")

// appendRecord encodes r. The CRC covers everything but itself, and the id too, so that
// a record that a damaged page shows under another id is found out.
func appendRecord(b []byte, id ID, r *Record) ([]byte, error) {
	switch {
	case len(r.Payload) > MaxRecord:
		return b, fmt.Errorf("record of %d bytes is over %d", len(r.Payload), MaxRecord)
	case len(r.Stamp.Boot) > maxBoot:
		return b, fmt.Errorf("boot id of %d bytes is over %d", len(r.Stamp.Boot), maxBoot)
	case len(r.Key) > maxKey:
		return b, fmt.Errorf("key of %d bytes is over %d", len(r.Key), maxKey)
	case r.Priority >= lanes:
		return b, fmt.Errorf("unknown priority %d", r.Priority)
	}
	start := len(b)
	var flags byte
	if r.Stamp.Synced {
		flags |= flagSynced
	}
	b = append(b, recordVersion, flags, byte(r.Priority), byte(len(r.Stamp.Boot)), byte(len(r.Key)), 0, 0, 0, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.Stamp.BootTime))
	var wall int64
	if !r.Stamp.Wall.IsZero() {
		wall = r.Stamp.Wall.UnixNano()
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(wall))
	b = append(b, r.Stamp.Boot...)
	b = append(b, r.Key...)
	b = append(b, r.Payload...)
	binary.LittleEndian.PutUint32(b[start+crcAt:], recordCRC(id, b[start:]))
	return b, nil
}

func recordCRC(id ID, b []byte) uint32 {
	var k [8]byte
	binary.BigEndian.PutUint64(k[:], uint64(id))
	c := crc32.Update(0, castagnoli, k[:])
	c = crc32.Update(c, castagnoli, b[:crcAt])
	return crc32.Update(c, castagnoli, b[crcAt+4:])
}

// decodeRecord reads what appendRecord writes. The item borrows b.
func decodeRecord(id ID, b []byte) (Item, error) {
	if len(b) < recordHead {
		return Item{}, fmt.Errorf("%w: %d bytes are fewer than a head of %d", ErrRecord, len(b), recordHead)
	}
	if b[0] != recordVersion {
		return Item{}, fmt.Errorf("%w: unknown version %d", ErrRecord, b[0])
	}
	if got, want := recordCRC(id, b), binary.LittleEndian.Uint32(b[crcAt:]); got != want {
		return Item{}, fmt.Errorf("%w: CRC32C %08x, stored %08x", ErrRecord, got, want)
	}
	bootLen, keyLen := int(b[3]), int(b[4])
	if b[1]&^flagSynced != 0 || Priority(b[2]) != id.lane() || bootLen > maxBoot || len(b) < recordHead+bootLen+keyLen {
		return Item{}, fmt.Errorf("%w: head % x", ErrRecord, b[:crcAt])
	}
	it := Item{ID: id, Priority: Priority(b[2])}
	it.Stamp.Synced = b[1]&flagSynced != 0
	it.Stamp.BootTime = time.Duration(binary.LittleEndian.Uint64(b[12:]))
	if wall := int64(binary.LittleEndian.Uint64(b[20:])); wall != 0 {
		it.Stamp.Wall = time.Unix(0, wall).UTC()
	}
	b = b[recordHead:]
	it.Stamp.Boot, b = string(b[:bootLen]), b[bootLen:]
	it.Key, it.Payload = string(b[:keyLen]), b[keyLen:]
	return it, nil
}
