package dissect

import (
	"bytes"
	"time"
)

// HTTP/1.0 and 1.1 (RFC 9112). Of a head only the request or status line and the fields
// that frame the message are read; bodies are passed over by length.

const (
	maxHTTPHead    = 16 << 10
	maxOutstanding = 16 // pipelined requests remembered
)

// httpState pairs responses with requests.
type httpState struct {
	queue   [maxOutstanding]httpRequest
	head, n int
	lost    bool // the queue does not tell any more what is unanswered
}

type httpRequest struct {
	time          int64
	head, connect bool
	bound         bool   // the response must begin at seq
	seq           uint32 // what the request acknowledged
}

var httpMethods = [...]string{
	"GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE",
	"PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "REPORT", "SEARCH",
	"NOTIFY", "SUBSCRIBE", "UNSUBSCRIBE", "M-SEARCH", "MERGE", "CHECKOUT", "MKACTIVITY", "PURGE",
}

// detectHTTP tells whether work begins with a whole request or status line of HTTP/1.
func detectHTTP(work []byte) verdict {
	const version = "HTTP/1."
	if n := min(len(work), len(version)); string(work[:n]) == version[:n] {
		if len(work) < len("HTTP/1.1 200") {
			return more
		}
		if _, ok := statusLine(work); ok {
			return yes
		}
		return no
	}
	open := false
	for _, m := range httpMethods {
		n := min(len(work), len(m))
		if string(work[:n]) != m[:n] {
			continue
		}
		if len(work) <= len(m) {
			open = true
			continue
		}
		if work[len(m)] != ' ' {
			continue
		}
		line, _, ok := cutLine(work)
		if !ok {
			return more
		}
		if _, _, ok := requestLine(line); ok {
			return yes
		}
	}
	if open {
		return more
	}
	return no
}

// cutLine splits off the first line, without its CR LF or LF.
func cutLine(b []byte) (line, rest []byte, ok bool) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return nil, b, false
	}
	line = b[:i]
	if i > 0 && line[i-1] == '\r' {
		line = line[:i-1]
	}
	return line, b[i+1:], true
}

// requestLine takes "METHOD target HTTP/1.x" apart.
func requestLine(line []byte) (method, target []byte, ok bool) {
	i := bytes.IndexByte(line, ' ')
	j := bytes.LastIndexByte(line, ' ')
	if i <= 0 || j <= i {
		return nil, nil, false
	}
	if v := line[j+1:]; len(v) != 8 || string(v[:7]) != "HTTP/1." || v[7]&^1 != '0' {
		return nil, nil, false
	}
	method = line[:i]
	for _, c := range method {
		if (c < 'A' || c > 'Z') && c != '-' {
			return nil, nil, false
		}
	}
	return method, bytes.TrimSpace(line[i+1 : j]), true
}

// statusLine reads "HTTP/1.x nnn".
func statusLine(line []byte) (int, bool) {
	if len(line) < 12 || string(line[:7]) != "HTTP/1." || line[7]&^1 != '0' || line[8] != ' ' {
		return 0, false
	}
	d := line[9:12]
	for _, c := range d {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	if len(line) > 12 && line[12] != ' ' && line[12] != '\r' && line[12] != '\n' {
		return 0, false
	}
	code := int(d[0]-'0')*100 + int(d[1]-'0')*10 + int(d[2]-'0')
	return code, code >= 100
}

// headFields are the header fields that matter.
type headFields struct {
	host    []byte
	length  int64 // -1: none
	chunked bool
	bad     bool // contradictory framing
}

// readHead reads header fields up to the empty line: how long they are, and whether
// that line is there.
func readHead(b []byte, f *headFields) (int, bool) {
	f.length = -1
	rest := b
	for {
		line, next, ok := cutLine(rest)
		if !ok {
			return len(b) - len(rest), false
		}
		rest = next
		if len(line) == 0 {
			return len(b) - len(rest), true
		}
		i := bytes.IndexByte(line, ':')
		if i <= 0 || line[0] == ' ' || line[0] == '\t' {
			continue
		}
		value := bytes.TrimSpace(line[i+1:])
		switch name := line[:i]; {
		case is(name, "host"):
			if f.host == nil {
				f.host = value
			}
		case is(name, "content-length"):
			n, ok := decimal(value)
			if !ok || f.length >= 0 && f.length != n {
				f.bad = true
				continue
			}
			f.length = n
		case is(name, "transfer-encoding"):
			if last := value[bytes.LastIndexByte(value, ',')+1:]; is(bytes.TrimSpace(last), "chunked") {
				f.chunked = true
			}
		}
	}
}

// is compares with a lower-case ASCII name, whatever the case of b.
func is(b []byte, name string) bool {
	if len(b) != len(name) {
		return false
	}
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != name[i] {
			return false
		}
	}
	return true
}

func decimal(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 15 {
		return 0, false
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

func (t *Table) http(f *flow, h *half, work []byte, wall int64) (int, bool) {
	if h.chunk.stage != chunkNone {
		return h.chunked(work)
	}
	blank := 0 // empty lines before a message are allowed (RFC 9112, section 2.2)
	for blank < len(work) && (work[blank] == '\r' || work[blank] == '\n') {
		blank++
	}
	if blank > 0 {
		return blank, true
	}
	switch detectHTTP(work) {
	case no:
		return 0, false
	case more:
		if len(work) > maxHTTPHead {
			return 0, false
		}
		return 0, true
	}
	line, rest, ok := cutLine(work)
	if !ok {
		return t.httpWait(f, h, work)
	}
	var head headFields
	n, whole := readHead(rest, &head)
	if !whole {
		return t.httpWait(f, h, work)
	}
	n += len(work) - len(rest)
	h.messages++
	seq := h.next - uint32(len(work))
	if code, ok := statusLine(line); ok {
		t.httpResponse(f, h, code, &head, seq, seq+uint32(n), wall)
	} else if method, target, ok := requestLine(line); ok {
		t.httpRequest(f, h, method, target, &head, true, wall)
	} else {
		return 0, false
	}
	return n, true
}

// httpWait asks for more of a head unless it is too long to be kept; then what is there
// is told and the rest passed over.
func (t *Table) httpWait(f *flow, h *half, work []byte) (int, bool) {
	if len(work) < maxHTTPHead {
		return 0, true
	}
	t.lose(f, h, 1, DropTooLarge)
	return len(work), true
}

// httpLost tells what is visible of a head that a hole cut off, and forgets which
// requests are open.
func (t *Table) httpLost(f *flow, h *half) {
	f.http.forget()
	if !h.synced || h.chunk.stage != chunkNone {
		return
	}
	line, rest, ok := cutLine(h.buf)
	if !ok {
		return
	}
	var head headFields
	readHead(rest, &head)
	if code, ok := statusLine(line); ok {
		t.httpResponse(f, h, code, &head, 0, 0, 0)
	} else if method, target, ok := requestLine(line); ok {
		t.httpRequest(f, h, method, target, &head, false, 0)
	}
}

// forget ends pairing for the rest of the connection: once a hole may hide requests or
// responses, a client that pipelines would make every later pair a guess.
func (q *httpState) forget() { q.n, q.lost = 0, true }

// push remembers a request. A connection that was seen whole is paired even where the
// client pipelines. One that was joined late is paired as long as it does not, and where
// the response begins at the very byte that the request acknowledged: so neither a lost
// response nor a lost request between them goes unnoticed.
func (q *httpState) push(r httpRequest, whole bool) {
	if q.n == maxOutstanding || !whole && (q.n > 0 || !r.bound) {
		q.forget()
	}
	r.bound = r.bound && !whole
	if q.lost {
		return
	}
	q.queue[(q.head+q.n)%maxOutstanding] = r
	q.n++
}

// pop gives the request that the response at seq answers; it stays queued.
func (q *httpState) pop(seq uint32) (httpRequest, bool) {
	if q.lost || q.n == 0 {
		return httpRequest{}, false
	}
	if r := q.queue[q.head]; r.bound && r.seq != seq {
		q.forget()
		return httpRequest{}, false
	}
	return q.queue[q.head], true
}

func (q *httpState) popped() {
	q.head = (q.head + 1) % maxOutstanding
	q.n--
}

func (t *Table) httpRequest(f *flow, h *half, method, target []byte, head *headFields, whole bool, wall int64) {
	connect := string(method) == "CONNECT"
	b := t.begin(HTTPRequest, HTTP1, f.key, h.side, h.bufTime, wall)
	b.raw("http.request.method", method)
	host := head.host
	if connect {
		host = target
	} else {
		path, authority := splitTarget(target)
		if authority != nil {
			host = authority
		}
		if path != nil {
			b.raw("url.path", path)
		}
	}
	if name, port, ok := splitHost(host); ok {
		b.raw("server.address", name)
		if port > 0 {
			b.num("server.port", float64(port))
		}
	}
	t.send()
	if !whole {
		return
	}
	// A request that was held behind a hole while the other side went on may have been
	// answered already.
	if other := &f.half[h.side^1]; h.bufTime < other.lastTime {
		f.http.forget()
	} else {
		r := httpRequest{time: h.bufTime, head: string(method) == "HEAD", connect: connect, bound: h.acks, seq: h.ack}
		f.http.push(r, h.fresh && other.fresh)
	}
	switch {
	case head.bad:
		h.synced, h.fresh = false, false
	case head.chunked:
		h.chunk.stage = chunkSize
	case head.length > 0:
		h.skip = uint64(head.length)
	}
}

// httpResponse tells a response whose head lies at seq up to end; equal, the head is
// not whole.
func (t *Table) httpResponse(f *flow, h *half, code int, head *headFields, seq, end uint32, wall int64) {
	whole := seq != end
	r, known := f.http.pop(seq)
	b := t.begin(HTTPResponse, HTTP1, f.key, h.side, h.bufTime, wall)
	b.msg.Status = code
	b.num("http.response.status_code", float64(code))
	if known && h.bufTime >= r.time {
		b.msg.Paired = true
		b.msg.Elapsed = time.Duration(h.bufTime - r.time)
		b.num("http.request_duration_ms", float64(b.msg.Elapsed)/1e6)
	}
	t.send()
	if !whole {
		return
	}
	interim := code < 200 && code != 101
	if known && interim {
		f.http.queue[f.http.head].seq = end
	} else if known {
		f.http.popped()
	}
	if !known {
		t.drop(DropUnpaired)
	}
	switch {
	case code == 101:
		f.half[A].skip, f.half[B].skip = untilClose, untilClose
	case known && r.connect && code < 300 && !interim:
		// A tunnel: what follows is another protocol.
		f.proto = Unknown
		for side := range f.half {
			f.half[side].synced, f.half[side].messages, f.half[side].attempts = false, 0, 0
		}
		f.http = httpState{lost: f.lossy}
	case interim, code == 204, code == 304, known && r.head:
	case !known || head.bad:
		// Whether a body follows depends on a request that was not seen.
		h.synced, h.fresh = false, false
	case head.chunked:
		h.chunk.stage = chunkSize
	case head.length >= 0:
		h.skip = uint64(head.length)
	default:
		h.skip = untilClose
	}
}

// splitTarget takes path and authority from a request target, without query, fragment
// and session ids.
func splitTarget(target []byte) (path, authority []byte) {
	if i := bytes.IndexAny(target, "?#"); i >= 0 {
		target = target[:i]
	}
	if len(target) > 0 && target[0] != '/' {
		i := bytes.Index(target, []byte("://"))
		if i < 0 {
			if string(target) == "*" {
				return target, nil
			}
			return nil, nil
		}
		authority = target[i+3:]
		target = nil
		if j := bytes.IndexByte(authority, '/'); j >= 0 {
			authority, target = authority[:j], authority[j:]
		}
	}
	// Path parameters (";jsessionid=…") are where servers put sessions without cookies.
	if i := bytes.IndexByte(target, ';'); i >= 0 {
		target = target[:i]
	}
	if len(target) == 0 {
		return nil, authority
	}
	return target, authority
}

// splitHost takes name and port from a Host field or authority, without user info.
func splitHost(host []byte) (name []byte, port int, ok bool) {
	if i := bytes.LastIndexByte(host, '@'); i >= 0 {
		host = host[i+1:]
	}
	if len(host) == 0 || len(host) > 255 {
		return nil, 0, false
	}
	for _, c := range host {
		if c <= ' ' || c == 0x7f {
			return nil, 0, false
		}
	}
	name = host
	if i := bytes.LastIndexByte(host, ':'); i >= 0 && bytes.IndexByte(host[i:], ']') < 0 {
		if n, digits := decimal(host[i+1:]); digits && n < 1<<16 {
			name, port = host[:i], int(n)
		}
	}
	if len(name) > 1 && name[0] == '[' && name[len(name)-1] == ']' {
		name = name[1 : len(name)-1]
	}
	return name, port, len(name) > 0
}
