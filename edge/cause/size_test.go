package cause_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/strata-edge/strata/edge/cause"
	"github.com/strata-edge/strata/edge/diag"
	"github.com/strata-edge/strata/edge/window"
	"github.com/strata-edge/strata/model"
)

// TestReportsAreSmall gives an MTU black hole on long addresses every symptom that it
// explains: the contract is 1 KiB opened, 300 bytes an update.
func TestReportsAreSmall(t *testing.T) {
	schema, err := model.Default()
	if err != nil {
		t.Fatal(err)
	}
	e, err := cause.New(cause.Config{Schema: schema, Device: "a-device-with-a-name-of-sixty-four-characters-as-long-as-it-may-be"})
	if err != nil {
		t.Fatal(err)
	}
	const ip = "2001:db8:1111:2222:3333:4444:5555:6666"
	host := diag.Scope{Kind: diag.ScopeHost, ID: ip}
	w := window.New(window.Config{})
	seen := map[diag.State]int{}
	for at := diag.Time(0); at < diag.Time(3*time.Minute); at = at.Add(2 * time.Second) {
		for _, port := range []string{"50051", "50052"} {
			s := diag.Scope{Kind: diag.ScopeService, ID: "tcp/[" + ip + "]:" + port}
			for _, c := range diag.Codes() {
				if blackhole, _ := diag.CauseByID("l3.mtu.blackhole"); at < diag.Time(2*time.Minute) && (c.Code == diag.CodeL3PathLargeLost || blackhole.Accounts(c.Code)) {
					w.Add(at, diag.Event{Time: at, Code: c.Code, Scope: s, Path: []diag.Scope{host}, Value: 123.456, Attrs: []diag.Attr{{Key: "client.address", Value: ip}}})
				}
			}
		}
		e.Decide(at, w.Episodes(at), diag.Clock{}, func(f diag.Finding) {
			b, err := json.Marshal(f)
			if err != nil {
				t.Fatal(err)
			}
			limit := 300
			if f.State == diag.StateOpen {
				limit = 1024
			}
			if len(b) > limit {
				t.Errorf("%s takes %d bytes, want at most %d: %s", f.State, len(b), limit, b)
			}
			seen[f.State] = max(seen[f.State], len(b))
		})
	}
	if seen[diag.StateOpen] == 0 || seen[diag.StateUpdate] == 0 || seen[diag.StateResolved] == 0 {
		t.Errorf("largest reports by state: %v, want all three", seen)
	}
	t.Logf("largest reports in bytes: %v", seen)
}
