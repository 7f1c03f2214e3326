// Package upload drains the buffer to a sink: one Drain for each, event-driven, at most
// 16 records in flight, with a back-off that is its own.
//
// It is for the agent, which joins a buffer's cursor, a sender (edge/upload/mqtt,
// edge/upload/otlp) and a Drain, and runs it under its group. Run blocks until its
// context ends or the buffer is closed. A record is acknowledged to the buffer only when
// the sender says that the far side has it; whatever is open when Run ends is handed out
// again by the next one. Stats may be called from anywhere.
package upload
