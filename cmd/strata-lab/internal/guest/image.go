package guest

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// image names what goes into the guest.
type image struct {
	kernel string // folder with boot/vmlinuz-* and lib/modules/*
	libs   string // folder with the C libraries, empty for none
	init   string // the guest's init, static ARM64
	strata string // the ARM64 binary under test
	ort    string // libonnxruntime.so.1 for ARM64, empty for none
}

// runtimeLibs are what ONNX Runtime, a cgo binary and smartctl load; the loader's path is
// fixed by the ARM64 ABI.
var runtimeLibs = []string{
	"ld-linux-aarch64.so.1", "libc.so.6", "libm.so.6", "libdl.so.2", "librt.so.1",
	"libpthread.so.0", "libresolv.so.2", "libstdc++.so.6", "libgcc_s.so.1",
	"libselinux.so.1", "libpcre2-8.so.0",
}

// Where things are in the guest.
const (
	strataPath   = "/bin/strata"
	smartctlPath = "/bin/smartctl"
)

// one gives the only file that matches the pattern.
func one(pattern string) (string, error) {
	found, err := filepath.Glob(pattern)
	if err != nil {
		return "", err
	}
	if len(found) != 1 {
		return "", fmt.Errorf("want one %s, found %d", pattern, len(found))
	}
	return found[0], nil
}

// write makes the guest's first root at path. It is left uncompressed: the emulated
// processor would need seconds to unpack it, QEMU copies it in no time.
func (im image) write(ctx context.Context, path string) error {
	root, err := one(filepath.Join(im.kernel, "lib/modules/*"))
	if err != nil {
		return err
	}
	modules, err := loadOrder(ctx, root, wanted)
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	a := &archive{w: w}
	for _, d := range []string{
		"dev", "proc", "sys", "run", "tmp", "state", "lib", "lib/modules", "bin",
		"usr", "usr/lib", "usr/lib/strata",
	} {
		a.folder(d)
	}
	a.device("dev/console", 5, 1)
	var order strings.Builder
	for _, m := range modules {
		a.file("lib/modules/"+m.name+".ko", m.data)
		order.WriteString(m.name + ".ko\n")
	}
	a.file("lib/modules/order", []byte(order.String()))
	if err := im.programs(a); err != nil {
		return err
	}
	if err := a.close(); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return f.Close()
}

func (im image) programs(a *archive) error {
	files := map[string]string{"init": im.init, strataPath[1:]: im.strata}
	if im.ort != "" {
		files["usr/lib/strata/libonnxruntime.so.1"] = im.ort
	}
	if im.libs != "" {
		for _, name := range runtimeLibs {
			path, err := findLib(im.libs, name)
			if err != nil {
				return err
			}
			files["lib/"+name] = path
		}
		files[smartctlPath[1:]] = filepath.Join(im.libs, "usr/sbin/smartctl")
	}
	for name, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("guest file %s: %w", name, err)
		}
		a.program(name, b)
	}
	return nil
}

// findLib looks in the places where Debian's packages of different releases put libraries.
func findLib(root, name string) (string, error) {
	for _, dir := range []string{"lib/aarch64-linux-gnu", "usr/lib/aarch64-linux-gnu", "lib", "usr/lib"} {
		p := filepath.Join(root, dir, name)
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("no %s under %s", name, root)
}
