// Package mqtt sends findings to an MQTT 3.1.1 broker at QoS 1.
//
// It is for the agent: Run keeps the connection and announces the device, Send (called by
// an upload.Drain) publishes and waits for the broker's PUBACK of each record. Nothing is
// subscribed: no inbound message is taken.
//
// Topics, under the prefix "strata/<device>":
//
//	finding   one finding, JSON as docs/FINDINGS.md has it, not retained. Three fields are
//	          added where they apply: "historical":true for a record that is older than
//	          the connection, and "clock":{"boot":"…","boottime":ns} for one whose
//	          times come from a clock that was not synchronised; both say nothing
//	          otherwise. A record whose boot's true time became known meanwhile is
//	          re-dated before it is sent.
//	status    retained: {"state":"online","sequence":n,"version":"…","time":…} at each
//	          connection, {"state":"offline","sequence":n} as the last will of the same
//	          connection or, when the agent stops, from itself. An "offline" with an older
//	          sequence than the "online" before it is to be ignored.
//
// paho's reconnect is off and its sessions are clean: with either on, a publish token can
// complete without the broker having the message. The connection is made again here, and
// what was open is sent again from the buffer.
//
// A Client's methods may be called from several goroutines. Credentials are read from
// files of mode 0600 at each connection, so rotation needs no restart.
package mqtt
