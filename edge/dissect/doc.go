// Package dissect turns the payload of admitted flows into protocol messages: HTTP/1,
// DNS, TLS and MQTT. It serves edge/source/flow, which turns messages into signals, and
// `strata replay --messages`, which prints them.
//
// A Table takes Segments (pieces of TCP payload or UDP datagrams) in order of time and
// calls back with Messages. It expects a stream as a capture under a byte budget gives
// it: joined late, with holes, overlaps, retransmissions and cut packets. A hole inside
// a body whose length is known costs nothing; any other hole costs the message it
// touches, and reading goes on at the next segment that begins like a message. What
// cannot be told is left out: no message is better than a wrong one, and a response
// whose request cannot be proven carries no duration.
//
// A protocol is recognised by content. The port is a hint in three places, where the
// content alone is too weak: DNS (53, 5353, 5355; on other UDP ports only once an
// answer has matched a query), MQTT joined after its CONNECT (1883), and TLS joined
// after its handshake (443, 8883 and the like; nothing is stated from it). After
// a bounded number of attempts a flow is unknown, and stays so.
//
// Bodies, user names, passwords, cookies, authorisation and query values are never
// copied into a message: the parsers skip them by length or do not look at them.
//
// What is unobservable: in TLS 1.3 certificates and alerts are encrypted (its server
// hello says so in the field tls.unobservable); alerts after ChangeCipherSpec in
// earlier versions are counted (DropEncryptedAlert) and not named.
//
// Lifetimes: a Segment's Payload is borrowed for the call of Feed; a Message and all
// that it points to is borrowed for the call of emit (Message.Clone keeps one).
//
// Concurrency: a Table belongs to one goroutine. It starts none, does no I/O and reads
// no clock.
//
// Memory: flows are at most Config.MaxFlows (the least recently used goes first), a
// flow holds at most Config.FlowBytes, and all buffers together at most
// Config.TotalBytes; Table.Memory tells the present sum. Everything given up is counted
// with its reason in Stats.
package dissect
