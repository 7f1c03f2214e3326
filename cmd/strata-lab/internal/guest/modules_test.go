package guest

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/strata-edge/strata/internal/testreq"
)

// TestLoadOrder reads the modules of the guest's real kernel: everything a module depends
// on must come before it.
func TestLoadOrder(t *testing.T) {
	cache, err := cacheFolder()
	if err != nil {
		t.Fatal(err)
	}
	root, err := one(filepath.Join(cache, "guest", "kernel", "lib/modules/*"))
	if err != nil {
		testreq.Missing(t, "qemu", "no guest kernel (scripts/guest fetches it): "+err.Error())
	}
	testreq.Tool(t, "qemu", "xz")
	modules, err := loadOrder(t.Context(), root, wanted)
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for _, m := range modules {
		needs, err := moduleDepends(m.data)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range needs {
			later := slices.IndexFunc(modules, func(o module) bool { return o.name == n })
			if later >= 0 && !slices.Contains(seen, n) {
				t.Errorf("%s comes before %s, which it needs", m.name, n)
			}
		}
		seen = append(seen, m.name)
	}
	for _, must := range []string{"nvme", "sd_mod", "slcan", "virtio_net"} {
		if !slices.Contains(seen, must) {
			t.Errorf("no %s among %v", must, seen)
		}
	}
	t.Logf("%d modules", len(seen))
}

func TestLoadOrderWithoutModules(t *testing.T) {
	if _, err := loadOrder(t.Context(), t.TempDir(), wanted); err == nil {
		t.Error("an empty folder gives modules")
	}
	bad := t.TempDir()
	if err := os.WriteFile(filepath.Join(bad, "nvme.ko"), []byte("no ELF"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadOrder(t.Context(), bad, wanted); err == nil {
		t.Error("a damaged module is taken")
	}
}
