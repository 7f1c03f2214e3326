package model

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

func smallNetwork() *Network { return randomNetwork(rand.New(rand.NewPCG(7, 7)), 3, 2, 2) }

func smallONNX(t testing.TB) []byte {
	t.Helper()
	b, err := smallNetwork().ONNX([2]string{"version", "1"})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestONNXRoundTrip(t *testing.T) {
	for _, widths := range [][]int{{1, 1}, {3, 2, 2}, {170, 48, 32, 16}, {7, 5, 5, 5, 5, 5, 4}} {
		n := randomNetwork(rand.New(rand.NewPCG(3, uint64(len(widths)))), widths...)
		b, err := n.ONNX([2]string{"schema", "x"})
		if err != nil {
			t.Fatal(err)
		}
		again, err := n.ONNX([2]string{"schema", "x"})
		if err != nil || !bytes.Equal(b, again) {
			t.Fatalf("%v: encoded twice, the bytes differ", widths)
		}
		got, err := DecodeONNX(b)
		if err != nil {
			t.Fatalf("%v: %v", widths, err)
		}
		if !reflect.DeepEqual(got, n) {
			t.Errorf("%v: decoded to another network", widths)
		}
		t.Logf("%v: %d bytes", widths, len(b))
	}
}

func TestONNXCap(t *testing.T) {
	if _, err := randomNetwork(rand.New(rand.NewPCG(1, 1)), 400, 400, 16).ONNX(); err == nil {
		t.Error("a network above the cap was encoded")
	}
	if _, err := DecodeONNX(make([]byte, MaxModelSize+1)); err == nil || !strings.Contains(err.Error(), "cap") {
		t.Errorf("a file above the cap: %v", err)
	}
}

// rewrite applies change to the one message of field n at the end of path.
func rewrite(t *testing.T, b []byte, path []protowire.Number, change func([]byte) []byte) []byte {
	t.Helper()
	if len(path) == 0 {
		return change(b)
	}
	var out []byte
	done := false
	for rest := b; len(rest) > 0; {
		n, wire, size := protowire.ConsumeField(rest)
		if size < 0 {
			t.Fatalf("bad message at path %v: % x", path, rest[:min(len(rest), 40)])
		}
		if n == path[0] && wire == protowire.BytesType && !done {
			_, _, tag := protowire.ConsumeTag(rest)
			v, _ := protowire.ConsumeBytes(rest[tag:])
			out = appendMessage(out, n, rewrite(t, bytes.Clone(v), path[1:], change))
			done = true
		} else {
			out = append(out, rest[:size]...)
		}
		rest = rest[size:]
	}
	if !done {
		t.Fatalf("no field %d", path[0])
	}
	return out
}

// Each of these files would be taken by a runtime, and could do harm there.
func TestDecodeRejectsHostileGraphs(t *testing.T) {
	node := []protowire.Number{modelGraph, graphNode}
	extra := func(n protowire.Number, v []byte) func([]byte) []byte {
		return func(b []byte) []byte { return appendMessage(b, n, v) }
	}
	replaceOp := func(op string) func([]byte) []byte {
		return func(b []byte) []byte {
			return bytes.Replace(b, appendText(nil, nodeOp, "Sub"), appendText(nil, nodeOp, op), 1)
		}
	}
	loop := appendText(appendText(appendText(nil, nodeInput, "features"), nodeOutput, "x"), nodeOp, "Loop")
	spare := encodeTensor("spare", []float32{1}, 1)
	for name, b := range map[string][]byte{
		"operator Loop":        rewrite(t, smallONNX(t), node, replaceOp("Loop")),
		"operator If":          rewrite(t, smallONNX(t), node, replaceOp("If")),
		"operator Expand":      rewrite(t, smallONNX(t), node, replaceOp("Expand")),
		"operator Add":         rewrite(t, smallONNX(t), node, replaceOp("Add")),
		"tree ensemble":        rewrite(t, smallONNX(t), node, replaceOp("TreeEnsembleRegressor")),
		"node behind":          rewrite(t, smallONNX(t), node[:1], extra(graphNode, loop)),
		"domain of operator":   rewrite(t, smallONNX(t), node, extra(nodeDomain, []byte("ai.onnx.ml"))),
		"subgraph attribute":   rewrite(t, smallONNX(t), node, extra(nodeAttr, appendMessage(nil, 6, nil))),
		"string attribute":     rewrite(t, smallONNX(t), node, extra(nodeAttr, appendText(nil, 4, "x"))),
		"function":             rewrite(t, smallONNX(t), nil, extra(25, nil)),
		"training info":        rewrite(t, smallONNX(t), nil, extra(20, nil)),
		"second graph":         rewrite(t, smallONNX(t), nil, extra(modelGraph, nil)),
		"opset of a domain":    rewrite(t, smallONNX(t), nil, extra(modelOpset, appendText(nil, opsetDomain, "com.microsoft"))),
		"other opset":          rewrite(t, smallONNX(t), nil, extra(modelOpset, appendInt(nil, opsetNumber, 24))),
		"sparse tensor":        rewrite(t, smallONNX(t), node[:1], extra(15, nil)),
		"idle tensor":          rewrite(t, smallONNX(t), node[:1], extra(graphInit, spare)),
		"doubled tensor":       rewrite(t, smallONNX(t), node[:1], extra(graphInit, encodeTensor("shift", []float32{1, 2, 3}, 3))),
		"external data":        rewrite(t, smallONNX(t), []protowire.Number{modelGraph, graphInit}, extra(13, appendText(nil, 1, "location"))),
		"data elsewhere":       rewrite(t, smallONNX(t), []protowire.Number{modelGraph, graphInit}, func(b []byte) []byte { return appendInt(b, 14, 1) }),
		"huge tensor":          rewrite(t, smallONNX(t), []protowire.Number{modelGraph, graphInit}, func(b []byte) []byte { return appendInt(b, tensorDims, 1<<40) }),
		"second input":         rewrite(t, smallONNX(t), node[:1], extra(graphInput, encodeValue("more", 3))),
		"second output":        rewrite(t, smallONNX(t), node[:1], extra(graphOutput, encodeValue("centred", 3))),
		"declared width":       rewrite(t, smallONNX(t), []protowire.Number{modelGraph, graphInput}, func([]byte) []byte { return encodeValue(inputName, 4) }),
		"fixed rows":           bytes.Replace(smallONNX(t), appendText(nil, dimParam, batchName), appendMessage(nil, 3, []byte(batchName)), 1),
		"fixed width 32 field": append(smallONNX(t), 0x6d, 0, 0, 0, 0),
		"nothing":              nil,
	} {
		if n, err := DecodeONNX(b); err == nil {
			t.Errorf("%s: accepted as a network of %d to %d", name, n.Inputs(), n.Outputs())
		}
	}
}

func FuzzDecodeONNX(f *testing.F) {
	b := smallONNX(f)
	f.Add(b)
	f.Add(b[:len(b)/2])
	f.Add([]byte{})
	f.Add(appendMessage(nil, modelGraph, appendMessage(nil, graphNode, appendText(nil, nodeOp, "Loop"))))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := DecodeONNX(b)
		if err != nil {
			return
		}
		if err := n.Check(); err != nil {
			t.Fatalf("accepted a bad network: %v", err)
		}
		out := make([]float32, n.Outputs())
		n.Score(make([]float32, n.Inputs()), out)
		again, err := n.ONNX()
		if err != nil {
			t.Fatalf("accepted, but cannot be written: %v", err)
		}
		if _, err := DecodeONNX(again); err != nil {
			t.Fatalf("accepted, but not again: %v", err)
		}
	})
}

func BenchmarkDecodeONNX(b *testing.B) {
	file, err := randomNetwork(rand.New(rand.NewPCG(1, 1)), 170, 48, 32, 16).ONNX()
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(file)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeONNX(file); err != nil {
			b.Fatal(err)
		}
	}
}
