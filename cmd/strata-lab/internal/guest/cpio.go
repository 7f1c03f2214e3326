package guest

import (
	"fmt"
	"io"
)

// archive writes a cpio archive in the "newc" form, which is what the kernel unpacks as
// its first root (Documentation/driver-api/early-userspace/buffer-format.rst).
type archive struct {
	w     io.Writer
	inode int
	err   error
}

// Modes of archive members, from <sys/stat.h>.
const (
	modeFolder  = 0o040755
	modeFile    = 0o100644
	modeProgram = 0o100755
	modeLink    = 0o120777
	modeConsole = 0o020600
)

func (a *archive) folder(name string)             { a.member(name, modeFolder, nil, 0, 0) }
func (a *archive) link(name, target string)       { a.member(name, modeLink, []byte(target), 0, 0) }
func (a *archive) file(name string, data []byte)  { a.member(name, modeFile, data, 0, 0) }
func (a *archive) program(name string, b []byte)  { a.member(name, modeProgram, b, 0, 0) }
func (a *archive) device(name string, maj, m int) { a.member(name, modeConsole, nil, maj, m) }

func (a *archive) member(name string, mode int, data []byte, major, minor int) {
	if a.err != nil {
		return
	}
	a.inode++
	a.header(name, a.inode, mode, len(data), major, minor)
	a.padded(data)
}

func (a *archive) header(name string, inode, mode, size, major, minor int) {
	h := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		inode, mode, 0, 0, 1, 0, size, 0, 0, major, minor, len(name)+1, 0)
	a.padded(append([]byte(h+name), 0))
}

// padded writes b and fills up to a multiple of four: header with name, and data, each do.
func (a *archive) padded(b []byte) {
	if a.err != nil {
		return
	}
	if _, a.err = a.w.Write(b); a.err == nil && len(b)%4 != 0 {
		_, a.err = a.w.Write(make([]byte, 4-len(b)%4))
	}
}

// close writes the end mark and gives the first error.
func (a *archive) close() error {
	a.member("TRAILER!!!", 0, nil, 0, 0)
	return a.err
}
