package bpf

import (
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"github.com/cilium/ebpf/ringbuf"
)

// PayloadReader reads the payload of admitted flows. One goroutine reads; Close may come
// from another and ends a blocked read.
type PayloadReader struct {
	ring *ringbuf.Reader
	rec  ringbuf.Record
}

// Payloads opens the ring buffer. The programs wake the reader when the ring is half
// full; below that, what has come is read when the deadline passes: set one.
func (p *Probe) Payloads() (*PayloadReader, error) {
	r, err := ringbuf.NewReader(p.maps.Payloads)
	if err != nil {
		return nil, fmt.Errorf("open the payload ring: %w", err)
	}
	return &PayloadReader{ring: r}, nil
}

// SetDeadline sets the time at which a blocked read gives up waiting for a wake-up and
// reads what is there; the zero time removes it.
func (r *PayloadReader) SetDeadline(t time.Time) { r.ring.SetDeadline(t) }

// ReadInto reads the next record, waiting for it. It gives os.ErrDeadlineExceeded when
// the deadline has passed and nothing is left, os.ErrClosed after Close. The record's
// Data is valid until the next read into the same Payload.
func (r *PayloadReader) ReadInto(to *Payload) error {
	r.rec.RawSample = to.raw
	err := r.ring.ReadInto(&r.rec)
	if err != nil {
		return err
	}
	to.raw = r.rec.RawSample
	return to.decode(to.raw)
}

// TryReadInto reads the next record if there is one, without waiting.
func (r *PayloadReader) TryReadInto(to *Payload) (bool, error) {
	if r.ring.AvailableBytes() == 0 {
		return false, nil
	}
	r.ring.SetDeadline(time.Unix(1, 0))
	err := r.ReadInto(to)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return false, nil
	}
	return err == nil, err
}

// Close ends a blocked read and frees the reader.
func (r *PayloadReader) Close() error { return r.ring.Close() }

const payloadHeaderSize = int(unsafe.Sizeof(PayloadHeader{}))

func (to *Payload) decode(raw []byte) error {
	if len(raw) < payloadHeaderSize {
		return fmt.Errorf("payload record of %d bytes: a header has %d", len(raw), payloadHeaderSize)
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&to.PayloadHeader)), payloadHeaderSize), raw)
	raw = raw[payloadHeaderSize:]
	if int(to.CapLen) > len(raw) {
		return fmt.Errorf("payload record: %d bytes announced, %d there", to.CapLen, len(raw))
	}
	to.Data = raw[:to.CapLen]
	return nil
}
