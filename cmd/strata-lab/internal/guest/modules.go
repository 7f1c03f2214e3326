package guest

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// wanted are the modules that the emulated hardware and strata's attachments need; what
// they depend on is found from the modules themselves. A name the kernel has built in is
// skipped.
var wanted = []string{
	"virtio_pci", "virtio_net", "nvme", "ahci", "sd_mod", "sg",
	"can", "can-raw", "can-dev", "slcan",
	"sch_ingress", "cls_bpf",
}

// module is one kernel module, uncompressed.
type module struct {
	name string
	data []byte
}

// loadOrder reads the modules under root (lib/modules/VERSION) and gives them so that each
// comes after what it depends on.
func loadOrder(ctx context.Context, root string, names []string) ([]module, error) {
	paths, err := indexModules(root)
	if err != nil {
		return nil, err
	}
	var out []module
	seen := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		name = strings.ReplaceAll(name, "-", "_")
		path, ok := paths[name]
		if seen[name] || !ok {
			return nil
		}
		seen[name] = true
		data, err := readModule(ctx, path)
		if err != nil {
			return err
		}
		needs, err := moduleDepends(data)
		if err != nil {
			return fmt.Errorf("module %s: %w", path, err)
		}
		for _, n := range needs {
			if err := add(n); err != nil {
				return err
			}
		}
		out = append(out, module{name: name, data: data})
		return nil
	}
	for _, n := range names {
		if err := add(n); err != nil {
			return nil, err
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no wanted module under %s", root)
	}
	return out, nil
}

func indexModules(root string) (map[string]string, error) {
	paths := map[string]string{}
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimSuffix(filepath.Base(path), ".xz")
		if name, ok := strings.CutSuffix(name, ".ko"); ok {
			paths[strings.ReplaceAll(name, "-", "_")] = path
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for kernel modules: %w", err)
	}
	return paths, nil
}

func readModule(ctx context.Context, path string) ([]byte, error) {
	if !strings.HasSuffix(path, ".xz") {
		return os.ReadFile(path)
	}
	out, err := exec.CommandContext(ctx, "xz", "--decompress", "--stdout", path).Output()
	if err != nil {
		return nil, fmt.Errorf("decompress %s: %w", path, err)
	}
	return out, nil
}

// moduleDepends reads the line "depends=a,b" of a module's .modinfo section, and its
// "softdep=pre: …" lines, which name what must be there first although no symbol says so.
func moduleDepends(data []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s := f.Section(".modinfo")
	if s == nil {
		return nil, fmt.Errorf("no .modinfo section")
	}
	info, err := s.Data()
	if err != nil {
		return nil, err
	}
	var out []string
	for line := range bytes.SplitSeq(info, []byte{0}) {
		key, value, _ := strings.Cut(string(line), "=")
		switch key {
		case "depends":
			out = append(out, strings.FieldsFunc(value, func(r rune) bool { return r == ',' })...)
		case "softdep":
			if pre, ok := strings.CutPrefix(value, "pre: "); ok {
				out = append(out, strings.Fields(pre)...)
			}
		}
	}
	return out, nil
}
