package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/strata-edge/strata/edge/diag"
	"github.com/strata-edge/strata/edge/matrix"
	"github.com/strata-edge/strata/smart"
)

// bench runs a source on simulated time over drives that the test plays.
type bench struct {
	t      *testing.T
	hang   map[string]time.Duration // how long a drive takes to answer
	mu     sync.Mutex               // simulated time orders nothing for the race detector
	sys    fstest.MapFS
	drives map[string]func() (smart.Health, error)
	reads  map[string]int
	seen   []string
	from   time.Time
}

func (b *bench) read(d smart.Device) (smart.Health, error) {
	b.mu.Lock()
	b.reads[d.Name]++
	b.mu.Unlock()
	if wait := b.hang[d.Name]; wait > 0 {
		time.Sleep(wait)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	h, err := b.drives[d.Name]()
	h.Device = d
	h.Judge()
	return h, err
}

// Open makes the bench the sysfs that the source reads.
func (b *bench) Open(name string) (fs.File, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sys.Open(name)
}

// after lets time pass, then changes the world.
func (b *bench) after(d time.Duration, change func()) {
	time.Sleep(d)
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

// want compares the signals since the last call, in any order; levels are left out, they come with
// every reading.
func (b *bench) want(lines ...string) {
	b.t.Helper()
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	slices.Sort(b.seen)
	got := slices.DeleteFunc(b.seen, func(s string) bool { return strings.Contains(s, "~") })
	if !slices.Equal(got, lines) {
		b.t.Errorf("got  %q\nwant %q", got, lines)
	}
	b.seen = nil
}

func run(t *testing.T, sys fstest.MapFS, drives map[string]func() (smart.Health, error), hang map[string]time.Duration, script func(*bench)) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{t: t, sys: sys, drives: drives, hang: hang, reads: map[string]int{}, from: time.Now()}
		levels := map[string]bool{"temperature": true, "wear": true, "ata.reallocated": true, "ata.pending": true, "ata.offline_uncorrectable": true}
		s := New(Config{Interval: time.Minute, Sys: b, Read: b.read, Now: func() diag.Time { return diag.Time(time.Since(b.from)) }})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- s.Run(ctx, func(g diag.Signal) {
				line := fmt.Sprintf("%s %s=%g", g.Scope, g.Name, g.Value)
				for _, a := range g.Attrs {
					if a.Key == "reason" {
						line += " " + a.Value
					}
				}
				if levels[g.Name] {
					line += "~"
					if g.Hold != 150*time.Second {
						t.Errorf("%s stands for %s", line, g.Hold)
					}
				}
				b.mu.Lock()
				b.seen = append(b.seen, line)
				b.mu.Unlock()
			})
		}()
		script(b)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

func ata(attrs ...smart.Attribute) *smart.Data { return &smart.Data{Attributes: attrs} }

func count(id uint8, n byte) smart.Attribute {
	return smart.Attribute{ID: id, Value: 100, Worst: 100, Threshold: 10, HasThreshold: true, RawBytes: [6]byte{n}}
}

func TestCountsStatesAndErrors(t *testing.T) {
	sys := fstest.MapFS{
		"block/sda/device/vendor":    {Data: []byte("ATA\n")},
		"block/sda/device/ioerr_cnt": {Data: []byte("0x10\n")},
		"class/nvme/nvme0/serial":    {Data: []byte("N 1\n")},
		"block/vda/size":             {Data: []byte("1\n")},
	}
	var warning smart.Warning
	var media uint64 = 7
	crc := byte(3)
	drives := map[string]func() (smart.Health, error){
		"sda": func() (smart.Health, error) {
			return smart.Health{Serial: "S1", Data: ata(count(199, crc), count(197, 1))}, nil
		},
		"nvme0": func() (smart.Health, error) {
			return smart.Health{Serial: "N 1", NVMe: &smart.NVMeHealth{
				Warning: warning, Spare: 100, TemperatureKnown: true, Temperature: 40, MediaErrors: smart.Uint128{Lo: media},
			}}, nil
		},
		"vda": func() (smart.Health, error) { return smart.Health{}, errors.New("reports no health") },
	}
	run(t, sys, drives, nil, func(b *bench) {
		b.want("disk:vda unobservable=1 reports no health") // lifetime counts are a baseline
		b.after(0, func() { sys["block/sda/device/ioerr_cnt"] = &fstest.MapFile{Data: []byte("0x13\n")} })
		b.after(6*time.Second, func() { warning, media, crc = smart.WarnSpare|smart.WarnTemperature, 9, 5 })
		b.want("disk:S1 io_errors=3")
		time.Sleep(time.Minute)
		b.want("disk:N_1 nvme.critical_warning=1", "disk:N_1 nvme.media_errors=2", "disk:N_1 overheated=1", "disk:N_1 spare_low=1", "disk:S1 ata.link_crc=2")
		b.after(time.Minute, func() { warning, media = 0, 0 })
		b.want() // nothing changed
		b.after(time.Minute, func() { warning = smart.WarnReadOnly })
		b.want("disk:N_1 nvme.critical_warning=0", "disk:N_1 overheated=0", "disk:N_1 spare_low=0")
		b.after(time.Minute, func() { delete(sys, "class/nvme/nvme0/serial") }) // unplugged
		b.want("disk:N_1 nvme.critical_warning=1", "disk:N_1 nvme.read_only=1")
		time.Sleep(time.Minute)
		b.want("disk:N_1 nvme.critical_warning=0", "disk:N_1 nvme.read_only=0")
	})
}

func TestHungDriveHoldsUpNoOther(t *testing.T) {
	sys := fstest.MapFS{
		"block/sda/device/vendor": {Data: []byte("ATA\n")}, "block/sda/device/serial": {Data: []byte("S1\n")},
		"block/sdb/device/vendor": {Data: []byte("ATA\n")}, "block/sdb/device/serial": {Data: []byte("S2\n")},
	}
	bad := false
	drives := map[string]func() (smart.Health, error){
		"sda": func() (smart.Health, error) { return smart.Health{Serial: "S1", Status: &bad}, nil },
		"sdb": func() (smart.Health, error) { return smart.Health{Serial: "S2", Data: ata(count(5, 0))}, nil },
	}
	run(t, sys, drives, map[string]time.Duration{"sda": 6*time.Minute + time.Second}, func(b *bench) {
		time.Sleep(61 * time.Second)
		b.want("disk:S1 unobservable=1 a command has not come back")
		b.after(4*time.Minute, func() {
			if b.reads["sda"] != 1 || b.reads["sdb"] != 6 {
				t.Errorf("read %v", b.reads)
			}
		})
		b.want()
		time.Sleep(61 * time.Second)
		b.want("disk:S1 ata.prefail=1", "disk:S1 unobservable=0")
	})
}

func TestIdleRotatingDriveMayFallAsleep(t *testing.T) {
	sys := fstest.MapFS{
		"block/sda/device/vendor":    {Data: []byte("ATA\n")},
		"block/sda/queue/rotational": {Data: []byte("1\n")},
		"block/sda/stat":             {Data: []byte("1 0 0 0 1 0 0 0 0 0 0\n")},
	}
	drives := map[string]func() (smart.Health, error){
		"sda": func() (smart.Health, error) { return smart.Health{Serial: "S1", Data: ata(count(197, 4))}, nil },
	}
	run(t, sys, drives, nil, func(b *bench) {
		b.after(10*time.Minute+time.Second, func() {
			if b.reads["sda"] != 1 {
				t.Errorf("an idle drive was read %d times", b.reads["sda"])
			}
			levels := 0
			for _, s := range b.seen {
				if s == "disk:S1 ata.pending=4~" {
					levels++
				}
			}
			if levels != 11 {
				t.Errorf("the level was reported %d times, want 11", levels)
			}
			sys["block/sda/stat"] = &fstest.MapFile{Data: []byte("2 0 0 0 1 0 0 0 0 0 0\n")}
		})
		b.after(time.Minute, func() {
			if b.reads["sda"] != 2 {
				t.Errorf("a used drive was read %d times, want 2", b.reads["sda"])
			}
		})
	})
}

// The rule file names every signal of the source, and only those.
func TestRulesCoverSignals(t *testing.T) {
	rules, err := matrix.Load("")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"unobservable", "nvme.critical_warning", "nvme.degraded", "nvme.read_only", "nvme.media_errors", "ata.prefail",
		"ata.reallocated", "ata.pending", "ata.offline_uncorrectable", "ata.reported_uncorrectable", "ata.link_crc",
		"spare_low", "overheated", "wear", "temperature", "io_errors",
	} {
		got := 0
		rules.Map(diag.Signal{Source: sourceName, Name: name, Scope: diag.Device, Value: 1}, func(diag.Event) { got++ })
		if got != 1 {
			t.Errorf("%s maps to %d codes, want 1", name, got)
		}
	}
}
