package model

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
)

// Numbers of ONNX's protobuf schema (onnx.proto of IR version 8, opset 17), as far as
// the encoder and the decoder use them.
const (
	irVersion    = 8
	opsetVersion = 17

	modelIRVersion = 1
	modelProducer  = 2
	modelGraph     = 7
	modelOpset     = 8
	modelProps     = 14

	opsetDomain  = 1
	opsetNumber  = 2
	propKey      = 1
	propValue    = 2
	graphNode    = 1
	graphName    = 2
	graphInit    = 5
	graphInput   = 11
	graphOutput  = 12
	nodeInput    = 1
	nodeOutput   = 2
	nodeName     = 3
	nodeOp       = 4
	nodeAttr     = 5
	nodeDomain   = 7
	attrName     = 1
	attrInt      = 3
	attrType     = 20
	attrTypeInt  = 2
	tensorDims   = 1
	tensorType   = 2
	tensorName   = 8
	tensorRaw    = 9
	typeFloat    = 1
	valueName    = 1
	valueType    = 2
	typeTensor   = 1
	tensorElem   = 1
	tensorShape  = 2
	shapeDim     = 1
	dimValue     = 1
	dimParam     = 2
	producer     = "strata"
	graphTitle   = "strata"
	inputName    = "features"
	outputName   = "scores"
	batchName    = "rows"
	transBOption = "transB"
)

// ONNX gives the network as an ONNX file: one input "features" (rows × Inputs, float)
// and one output "scores" (rows × Outputs). Equal networks and properties give equal
// bytes. props is written as metadata, in the order given.
func (n *Network) ONNX(props ...[2]string) ([]byte, error) {
	if err := n.Check(); err != nil {
		return nil, err
	}
	var g []byte
	last := inputName
	add := func(op, out string, attr []byte, inputs ...string) {
		var node []byte
		node = appendText(node, nodeInput, last)
		for _, in := range inputs {
			node = appendText(node, nodeInput, in)
		}
		node = appendText(node, nodeOutput, out)
		node = appendText(node, nodeName, out)
		node = appendText(node, nodeOp, op)
		if attr != nil {
			node = appendMessage(node, nodeAttr, attr)
		}
		g = appendMessage(g, graphNode, node)
		last = out
	}
	var transB []byte
	transB = appendText(transB, attrName, transBOption)
	transB = appendInt(transB, attrInt, 1)
	transB = appendInt(transB, attrType, attrTypeInt)

	add("Sub", "centred", nil, "shift")
	add("Mul", "scaled", nil, "scale")
	add("Clip", "clipped", nil, "low", "high")
	for i := range n.Layers {
		num := strconv.Itoa(i)
		add("Gemm", "dense"+num, transB, "w"+num, "b"+num)
		if i < len(n.Layers)-1 {
			add("Relu", "relu"+num, nil)
		} else {
			add("Sigmoid", outputName, nil)
		}
	}
	g = appendText(g, graphName, graphTitle)
	g = appendMessage(g, graphInit, encodeTensor("shift", n.Shift, len(n.Shift)))
	g = appendMessage(g, graphInit, encodeTensor("scale", n.Scale, len(n.Scale)))
	g = appendMessage(g, graphInit, encodeTensor("low", []float32{-n.Clip}))
	g = appendMessage(g, graphInit, encodeTensor("high", []float32{n.Clip}))
	for i, l := range n.Layers {
		num := strconv.Itoa(i)
		g = appendMessage(g, graphInit, encodeTensor("w"+num, l.W, l.Out, l.In))
		g = appendMessage(g, graphInit, encodeTensor("b"+num, l.B, l.Out))
	}
	g = appendMessage(g, graphInput, encodeValue(inputName, n.Inputs()))
	g = appendMessage(g, graphOutput, encodeValue(outputName, n.Outputs()))

	var m []byte
	m = appendInt(m, modelIRVersion, irVersion)
	m = appendText(m, modelProducer, producer)
	m = appendMessage(m, modelGraph, g)
	m = appendMessage(m, modelOpset, appendInt(nil, opsetNumber, opsetVersion))
	for _, p := range props {
		m = appendMessage(m, modelProps, appendText(appendText(nil, propKey, p[0]), propValue, p[1]))
	}
	if len(m) > MaxModelSize {
		return nil, fmt.Errorf("encode network: %d bytes, the cap is %d", len(m), MaxModelSize)
	}
	return m, nil
}

func encodeTensor(name string, v []float32, dims ...int) []byte {
	raw := make([]byte, 0, 4*len(v))
	for _, f := range v {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(f))
	}
	var b []byte
	for _, d := range dims {
		b = appendInt(b, tensorDims, uint64(d))
	}
	b = appendInt(b, tensorType, typeFloat)
	b = appendText(b, tensorName, name)
	return appendMessage(b, tensorRaw, raw)
}

func encodeValue(name string, width int) []byte {
	var shape []byte
	shape = appendMessage(shape, shapeDim, appendText(nil, dimParam, batchName))
	shape = appendMessage(shape, shapeDim, appendInt(nil, dimValue, uint64(width)))
	tensor := appendMessage(appendInt(nil, tensorElem, typeFloat), tensorShape, shape)
	return appendMessage(appendText(nil, valueName, name), valueType, appendMessage(nil, typeTensor, tensor))
}

func appendText(b []byte, n protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), s)
}

func appendMessage(b []byte, n protowire.Number, m []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), m)
}

func appendInt(b []byte, n protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), v)
}
