package dissect

import (
	"math"
	"strconv"
	"unicode/utf8"
)

// AppendFieldsJSON appends the message's fields as one JSON object: a name that repeats
// becomes a list, bytes that are no UTF-8 become U+FFFD.
func (m *Message) AppendFieldsJSON(dst []byte) []byte {
	dst = append(dst, '{')
	first := true
	for i, f := range m.Fields {
		if named(m.Fields[:i], f.Name) {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = appendString(dst, []byte(f.Name))
		dst = append(dst, ':')
		if !named(m.Fields[i+1:], f.Name) {
			dst = f.appendValue(dst)
			continue
		}
		dst = append(dst, '[')
		dst = f.appendValue(dst)
		for _, g := range m.Fields[i+1:] {
			if g.Name == f.Name {
				dst = append(dst, ',')
				dst = g.appendValue(dst)
			}
		}
		dst = append(dst, ']')
	}
	return append(dst, '}')
}

func named(fields []Field, name string) bool {
	for _, f := range fields {
		if f.Name == name {
			return true
		}
	}
	return false
}

// String gives the value as text.
func (f Field) String() string {
	if f.Text != nil {
		return string(f.Text)
	}
	return string(f.appendNumber(nil))
}

func (f Field) appendValue(dst []byte) []byte {
	if f.Text != nil {
		return appendString(dst, f.Text)
	}
	return f.appendNumber(dst)
}

func (f Field) appendNumber(dst []byte) []byte {
	if f.Num == math.Trunc(f.Num) && math.Abs(f.Num) < 1<<53 {
		return strconv.AppendInt(dst, int64(f.Num), 10)
	}
	return strconv.AppendFloat(dst, f.Num, 'f', 3, 64)
}

func appendString(dst, s []byte) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for len(s) > 0 {
		c := s[0]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRune(s)
			dst = utf8.AppendRune(dst, r)
			s = s[n:]
			continue
		}
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < 0x20 || c == 0x7f:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
		s = s[1:]
	}
	return append(dst, '"')
}

// builder fills one message in place: the fields and the text that is not borrowed from
// the payload live in buffers which the next message uses again.
type builder struct {
	msg  Message
	text []byte
	name [4 * maxDNSName]byte // scratch
}

func (b *builder) reset() {
	fields := b.msg.Fields[:0]
	b.msg = Message{Fields: fields, Status: NoStatus}
	b.text = b.text[:0]
}

// raw adds text that stays valid until emit returns.
func (b *builder) raw(name string, text []byte) {
	if text == nil {
		text = []byte{}
	}
	b.msg.Fields = append(b.msg.Fields, Field{Name: name, Text: text})
}

func (b *builder) str(name, text string) {
	n := len(b.text)
	b.text = append(b.text, text...)
	b.raw(name, b.text[n:len(b.text):len(b.text)])
}

func (b *builder) num(name string, v float64) {
	b.msg.Fields = append(b.msg.Fields, Field{Name: name, Num: v})
}
