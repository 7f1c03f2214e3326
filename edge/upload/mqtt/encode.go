package mqtt

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/strata-edge/strata/buffer"
	"github.com/strata-edge/strata/edge/diag"
)

// clock tells a console how to re-date a finding whose wall times cannot be trusted.
type clock struct {
	Boot     string        `json:"boot"`
	BootTime time.Duration `json:"boottime"` // ns on CLOCK_BOOTTIME when the finding was put
}

// encode gives the payload as it goes out: re-dated where that is possible, marked
// where it is not, and marked as historical.
func encode(it buffer.Item, historical bool) ([]byte, error) {
	b := bytes.TrimSpace(it.Payload)
	if it.Shift != 0 {
		var err error
		if b, err = redate(b, it.Shift); err != nil {
			return nil, err
		}
	}
	var extra []byte
	if historical {
		extra = append(extra, `,"historical":true`...)
	}
	if !it.Dated() {
		c, err := json.Marshal(clock{it.Stamp.Boot, it.Stamp.BootTime})
		if err != nil {
			return nil, err
		}
		extra = append(append(extra, `,"clock":`...), c...)
	}
	if len(b) < 2 || b[0] != '{' || b[len(b)-1] != '}' {
		return nil, errors.New("payload is no JSON object")
	}
	if len(extra) == 0 {
		return b, nil
	}
	body := bytes.TrimSpace(b[1 : len(b)-1])
	if len(body) == 0 {
		extra = extra[1:]
	}
	out := make([]byte, 0, len(b)+len(extra))
	out = append(append(append(out, '{'), body...), extra...)
	return append(out, '}'), nil
}

// redate moves every wall time of a finding by shift.
func redate(b []byte, shift time.Duration) ([]byte, error) {
	var f diag.Finding
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("re-date finding: %w", err)
	}
	for _, t := range []*time.Time{&f.Time, &f.First, &f.Last} {
		if !t.IsZero() {
			*t = t.Add(shift)
		}
	}
	for i := range f.Chain {
		f.Chain[i].Time = f.Chain[i].Time.Add(shift)
	}
	return json.Marshal(&f)
}
