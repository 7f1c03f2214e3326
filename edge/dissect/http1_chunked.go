package dissect

import "bytes"

// chunkState is where a direction is within a chunked body.
type chunkState struct {
	stage chunkStage
}

type chunkStage uint8

const (
	chunkNone    chunkStage = iota
	chunkSize               // a size line follows
	chunkTrailer            // trailer fields follow, up to an empty line
)

// chunked walks over a chunked body: sizes are read, data is passed over.
func (h *half) chunked(work []byte) (int, bool) {
	line, rest, ok := cutLine(work)
	if !ok {
		if len(work) > maxProbe*8 {
			return 0, false
		}
		return 0, true
	}
	n := len(work) - len(rest)
	if h.chunk.stage == chunkTrailer {
		if len(line) == 0 {
			h.chunk.stage = chunkNone
		}
		return n, true
	}
	if i := bytes.IndexByte(line, ';'); i >= 0 {
		line = line[:i]
	}
	line = bytes.TrimSpace(line)
	if len(line) == 0 || len(line) > 12 {
		return 0, false
	}
	var size uint64
	for _, c := range line {
		switch {
		case c >= '0' && c <= '9':
			size = size<<4 | uint64(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			size = size<<4 | uint64(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	if size == 0 {
		h.chunk.stage = chunkTrailer
		return n, true
	}
	h.skip = size + 2 // the data's own CR LF
	return n, true
}
