package dissect

import (
	"net/netip"
	"time"
)

// Proto is an IP protocol number (IANA).
type Proto uint8

// The transports that carry messages.
const (
	TCP Proto = 6
	UDP Proto = 17
)

// Key names a flow. A is the initiator where that is known; the parsers do not depend
// on it, since each protocol tells client from server by itself.
type Key struct {
	A, B  netip.AddrPort
	If    uint32 // ifindex, or any number that keeps equal tuples apart
	VLAN  uint16
	Proto Proto
}

// Side is one end of a flow: the sender of a segment or message.
type Side uint8

// The sides.
const (
	A Side = iota
	B
)

// String gives "a" or "b".
func (s Side) String() string {
	if s == A {
		return "a"
	}
	return "b"
}

// Flags are the TCP flags that matter here.
type Flags uint8

// The flags.
const (
	SYN Flags = 1 << iota
	FIN
	RST
	ACK // Segment.Ack is valid
)

// Segment is one payload record: a piece of a TCP stream or a UDP datagram. Segments
// without payload count too: SYN proves that a stream is seen from its start, FIN and
// RST end one.
type Segment struct {
	Key     Key
	From    Side
	Flags   Flags
	Seq     uint32 // the TCP header's sequence number (of the SYN itself where SYN is set)
	Ack     uint32 // the TCP header's acknowledgement, where ACK is set; optional
	Length  int    // true payload length in bytes; less than len(Payload) counts as len(Payload)
	Time    int64  // event time in nanoseconds; never goes far back
	Wall    int64  // wall time in nanoseconds since the Unix epoch; 0 where it is not trusted
	Payload []byte // what was captured of the payload, from its beginning; borrowed
}

// Protocol is an application protocol.
type Protocol uint8

// The protocols.
const (
	Unknown Protocol = iota
	HTTP1
	TLS
	DNS
	MQTT
)

var protocolNames = [...]string{"unknown", "http1", "tls", "dns", "mqtt"}

// String gives the name that messages carry in JSON.
func (p Protocol) String() string {
	if int(p) < len(protocolNames) {
		return protocolNames[p]
	}
	return protocolNames[0]
}

// Kind tells messages apart without reading their fields.
type Kind uint8

// The kinds; Status is what Message.Status holds.
const (
	KindNone       Kind = iota
	HTTPRequest         //
	HTTPResponse        // Status: the status code; Elapsed where Paired: request's first byte to response's first byte
	DNSQuery            //
	DNSResponse         // Status: the rcode; Elapsed where Paired
	DNSUnanswered       // a query that Expire gave up; Time and From are the query's, Elapsed its age
	TLSClientHello      //
	TLSHelloRetry       // Status: the version
	TLSServerHello      // Status: the version chosen (0x0303 = TLS 1.2)
	TLSCertificate      // Cert is set
	TLSAlert            // Status: the alert's number; Fatal
	TLSRejected         // TLS 1.3: the client ended the handshake after the server's flight; an inference, see tls.go
	MQTTConnect         //
	MQTTConnack         // Status: return code (3.1.1) or reason code (5); Elapsed where Paired
	MQTTPublish         //
	MQTTDisconnect      // Status: reason code (5), 0 before
	MQTTPing            // request or response
	MQTTPacket          // any other packet; Status: reason code of SUBACK and the like where it is an error
	Undecodable         // a stream seen whole that stopped following, or never followed, its protocol
	kindCount
)

// NoStatus is Message.Status where a message has none.
const NoStatus = -1

// Message is one message of a protocol, or one inference about the exchange
// (DNSUnanswered, TLSRejected). It is borrowed for the duration of the callback.
type Message struct {
	Time     int64 // event time of its first byte, nanoseconds
	Wall     int64 // wall time of the segment that completed it; 0 where not trusted
	Key      Key
	From     Side
	Protocol Protocol
	Kind     Kind
	Fatal    bool          // TLSAlert of level fatal
	Paired   bool          // Elapsed is the time from the request's first byte to this message's first byte
	Elapsed  time.Duration // valid where Paired, and for DNSUnanswered
	Status   int           // see Kind; NoStatus where there is none
	Cert     *Cert         // TLSCertificate only
	Fields   []Field       // in order; a repeated name is a list
}

// Cert is what a server's own certificate says (TLS 1.2 and older).
type Cert struct {
	NotBefore, NotAfter  time.Time
	Expired, NotYetValid bool // against Message.Wall; both false where that is 0
	NameChecked          bool // the client named a server and the certificate could be compared
	NameMismatch         bool // NameChecked, and the certificate does not carry the name
	SelfSigned           bool // issuer and subject are the same
}

// Field is one named fact of a message: text where Text is not nil, else a number.
type Field struct {
	Name string
	Text []byte
	Num  float64
}

// Get gives the first field of that name.
func (m *Message) Get(name string) (Field, bool) {
	for _, f := range m.Fields {
		if f.Name == name {
			return f, true
		}
	}
	return Field{}, false
}

// Clone gives a copy that outlives the callback.
func (m *Message) Clone() *Message {
	c := *m
	c.Fields = make([]Field, len(m.Fields))
	for i, f := range m.Fields {
		if f.Text != nil {
			f.Text = append(make([]byte, 0, len(f.Text)), f.Text...)
		}
		c.Fields[i] = f
	}
	if m.Cert != nil {
		cert := *m.Cert
		c.Cert = &cert
	}
	return &c
}

// Config bounds a Table. Zero values give the defaults.
type Config struct {
	MaxFlows   int           // flows with state; default 1,024
	FlowBytes  int           // buffered bytes a flow; default and most 64 KiB, least 4 KiB
	TotalBytes int           // buffered bytes in all; default 2 MiB, least 64 KiB
	MaxPending int           // DNS queries that wait for an answer; default 1,024
	DNSTimeout time.Duration // a query is unanswered after this; default 2 s
	HoldTime   time.Duration // a hole in a TCP stream is waited for this long; default 1 s
}

// Drop is a reason why payload, a message or state was given up.
type Drop uint8

// The reasons.
const (
	DropTransport      Drop = iota // segment of neither TCP nor UDP
	DropUnknown                    // payload of a flow whose protocol is not known
	DropDuplicate                  // payload that was seen before
	DropGap                        // a hole in a stream
	DropCut                        // a captured payload shorter than the true one, inside a message
	DropUnsynced                   // payload passed over until the next message start
	DropTooLarge                   // a message head larger than is kept
	DropFlowBudget                 // a flow wanted more than Config.FlowBytes
	DropFlowEvicted                // the least recently used flow gave way to a new one
	DropMemory                     // a flow was evicted because of Config.TotalBytes
	DropMalformed                  // a message that does not follow its protocol
	DropPending                    // a DNS query was forgotten because of Config.MaxPending
	DropUnpaired                   // a response whose request cannot be told
	DropEncryptedAlert             // a TLS alert that is encrypted
	DropCertificate                // a certificate that does not parse
	dropCount
)

var dropNames = [dropCount]string{
	"transport", "unknown", "duplicate", "gap", "cut", "unsynced", "too_large", "flow_budget",
	"flow_evicted", "memory", "malformed", "pending", "unpaired", "encrypted_alert", "certificate",
}

// String gives the reason as metrics name it.
func (d Drop) String() string {
	if d < dropCount {
		return dropNames[d]
	}
	return "invalid"
}

// Drops lists every reason.
func Drops() []Drop {
	all := make([]Drop, dropCount)
	for i := range all {
		all[i] = Drop(i)
	}
	return all
}

// Stats counts what a Table did since it was made.
type Stats struct {
	Segments uint64 // given to Feed
	Bytes    uint64 // payload bytes given to Feed
	Messages uint64 // given to emit
	Drops    [dropCount]uint64
}

// Dropped gives the count of one reason.
func (s *Stats) Dropped(d Drop) uint64 {
	if d < dropCount {
		return s.Drops[d]
	}
	return 0
}
