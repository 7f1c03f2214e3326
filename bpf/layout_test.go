package bpf

import (
	"reflect"
	"strings"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf/btf"
)

// TestLayout holds every wire struct of types.go to the sizes and offsets of strata.h,
// field by field and in order.
func TestLayout(t *testing.T) {
	spec, err := btf.LoadSpec("testdata/layout.o")
	if err != nil {
		t.Fatal(err)
	}
	for name, twin := range map[string]any{
		"flow_key":           FlowKey{},
		"flow_dir":           FlowDir{},
		"flow_value":         FlowValue{},
		"neighbour_key":      NeighbourKey{},
		"neighbour":          Neighbour{},
		"interface_dir":      InterfaceDir{},
		"interface_counters": InterfaceCounters{},
		"endpoint_key":       EndpointKey{},
		"endpoint":           endpointAdmission{},
		"flow_admission":     flowAdmission{},
		"tuning":             Tuning{},
		"payload_header":     PayloadHeader{},
	} {
		var c *btf.Struct
		if err := spec.TypeByName(name, &c); err != nil {
			t.Errorf("struct %s: %v", name, err)
			continue
		}
		of := reflect.TypeOf(twin)
		if int(c.Size) != int(of.Size()) {
			t.Errorf("struct %s: %d bytes, %s has %d", name, c.Size, of, of.Size())
		}
		compare(t, name, c, of)
	}
}

type place struct {
	name       string
	start, end uintptr
}

// compare matches the named members of c with the named fields of the Go type by place:
// every field must begin where a member does, and end where one does.
func compare(t *testing.T, name string, c *btf.Struct, of reflect.Type) {
	t.Helper()
	var members, fields []place
	for _, m := range c.Members {
		size, err := btf.Sizeof(m.Type)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(m.Name, "pad") {
			at := uintptr(m.Offset.Bytes())
			members = append(members, place{m.Name, at, at + uintptr(size)})
		}
	}
	for i := range of.NumField() {
		if f := of.Field(i); f.Name != "_" {
			fields = append(fields, place{f.Name, f.Offset, f.Offset + f.Type.Size()})
		}
	}
	// interface_counters is an array in C and two fields in Go.
	if name == "interface_counters" {
		fields = []place{{"dir", fields[0].start, fields[1].end}}
	}
	if len(members) != len(fields) {
		t.Errorf("struct %s: %d members, %s has %d", name, len(members), of, len(fields))
		return
	}
	for i, m := range members {
		if f := fields[i]; m.start != f.start || m.end != f.end {
			t.Errorf("struct %s: %s at %d-%d, %s.%s at %d-%d", name, m.name, m.start, m.end, of, f.name, f.start, f.end)
		}
	}
}

// TestEnums holds the flags, marks, classes and counters to strata.h.
func TestEnums(t *testing.T) {
	spec, err := btf.LoadSpec("testdata/layout.o")
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]uint64{}
	for _, name := range []string{"flow_flag", "mark", "icmp_class", "payload_flag", "counter"} {
		var e *btf.Enum
		if err := spec.TypeByName(name, &e); err != nil {
			t.Fatal(err)
		}
		for _, v := range e.Values {
			values[v.Name] = v.Value
		}
	}
	for name, want := range map[string]uint64{
		"FLOW_INITIATOR_HI":     uint64(FlowInitiatorHi),
		"FLOW_HALF_OPEN":        uint64(FlowHalfOpen),
		"FLOW_RESET_MIDWAY":     uint64(FlowResetMidway),
		"FLOW_ADMITTED":         uint64(FlowAdmitted),
		"FLOW_ADMIT_SAMPLE":     uint64(FlowBySample),
		"FLOW_IPV6":             uint64(FlowIPv6),
		"MARK_RTT_INFLATION":    uint64(MarkRTTInflation.bit()),
		"MARK_HTTP_4XX":         uint64(MarkHTTP4xx.bit()),
		"MARK_HTTP2_ERROR":      uint64(MarkHTTP2Error.bit()),
		"ICMP_CLASS_OTHER":      ICMPOther,
		"PAYLOAD_FIRST":         uint64(PayloadFirst),
		"C_MAX":                 uint64(unsafe.Sizeof(Counters{}) / 8),
		"C_PACKETS":             uint64(unsafe.Offsetof(Counters{}.Packets) / 8),
		"C_BAD_L2":              uint64(unsafe.Offsetof(Counters{}.BadL2) / 8),
		"C_TCP_RETRANSMITS":     uint64(unsafe.Offsetof(Counters{}.TCPRetransmits) / 8),
		"C_ICMP_UNREACHABLE":    uint64(unsafe.Offsetof(Counters{}.ICMPErrors) / 8),
		"C_NEIGHBOUR_CONFLICTS": uint64(unsafe.Offsetof(Counters{}.NeighbourConflicts) / 8),
		"C_FLOW_CREATES":        uint64(unsafe.Offsetof(Counters{}.FlowCreates) / 8),
		"C_INTERFACE_FAILS":     uint64(unsafe.Offsetof(Counters{}.InterfaceFails) / 8),
		"C_PAYLOAD_FAILS":       uint64(unsafe.Offsetof(Counters{}.PayloadFails) / 8),
	} {
		if got, ok := values[name]; !ok || got != want {
			t.Errorf("%s = %d, here %d", name, got, want)
		}
	}
}
