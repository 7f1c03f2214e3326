package model

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// MaxModelSize caps model.onnx, in bytes.
const MaxModelSize = 256 << 10

// DecodeONNX reads an ONNX file of the one form that Network.ONNX writes: a single chain
// Sub, Mul, Clip, then Gemm with Relu between and Sigmoid at the end, over float
// tensors that the file itself holds. Anything else is an error, whatever a runtime
// would make of it: other operators and domains, subgraphs, functions, external data,
// branches, unused or doubled tensors, and fields of the format that the form does not
// need. The names of intermediate results are free.
func DecodeONNX(file []byte) (*Network, error) {
	if len(file) > MaxModelSize {
		return nil, fmt.Errorf("decode model: %d bytes, the cap is %d", len(file), MaxModelSize)
	}
	d := decoder{tensors: map[string]tensor{}}
	if err := d.model(file); err != nil {
		return nil, fmt.Errorf("decode model: %w", err)
	}
	n, err := d.network()
	if err != nil {
		return nil, fmt.Errorf("decode model: %w", err)
	}
	return n, nil
}

// decoder collects what the file says.
type decoder struct {
	ir, opset     uint64
	graphs        int
	nodes         []node
	tensors       map[string]tensor
	input, output value
	inputs        int
	outputs       int
}

type node struct {
	op              string
	inputs, outputs []string
	transB          uint64
}

type tensor struct {
	dims []uint64
	data []float32
}

type value struct {
	name  string
	elem  uint64
	dims  int
	width uint64
}

// field is one field of a protobuf message: num for varints, data for the rest.
type field struct {
	n    protowire.Number
	wire protowire.Type
	num  uint64
	data []byte
}

var errFieldType = errors.New("field of the wrong wire type")

func (f field) text() (string, error) {
	if f.wire != protowire.BytesType {
		return "", errFieldType
	}
	return string(f.data), nil
}

func (f field) varint() (uint64, error) {
	if f.wire != protowire.VarintType {
		return 0, errFieldType
	}
	return f.num, nil
}

// each calls fn for every field of a message.
func each(what string, b []byte, fn func(field) error) error {
	for len(b) > 0 {
		n, wire, size := protowire.ConsumeTag(b)
		if size < 0 {
			return fmt.Errorf("%s: %w", what, protowire.ParseError(size))
		}
		b = b[size:]
		f := field{n: n, wire: wire}
		switch wire {
		case protowire.VarintType:
			f.num, size = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			f.data, size = protowire.ConsumeBytes(b)
		default:
			return fmt.Errorf("%s: field %d of wire type %d is not allowed", what, n, wire)
		}
		if size < 0 {
			return fmt.Errorf("%s: field %d: %w", what, n, protowire.ParseError(size))
		}
		b = b[size:]
		if err := fn(f); err != nil {
			return fmt.Errorf("%s: field %d: %w", what, n, err)
		}
	}
	return nil
}

var errForbidden = errors.New("not allowed in a model")

func (d *decoder) model(b []byte) error {
	err := each("model", b, func(f field) (err error) {
		switch f.n {
		case modelIRVersion:
			d.ir, err = f.varint()
		case modelProducer:
			_, err = f.text()
		case modelGraph:
			d.graphs++
			err = each("graph", f.data, d.graph)
		case modelOpset:
			err = d.opsetImport(f.data)
		case modelProps:
			err = each("property", f.data, func(f field) error {
				if f.n != propKey && f.n != propValue {
					return errForbidden
				}
				_, err := f.text()
				return err
			})
		default:
			err = errForbidden
		}
		return err
	})
	if err != nil {
		return err
	}
	if d.ir != irVersion || d.opset != opsetVersion || d.graphs != 1 {
		return fmt.Errorf("IR version %d, opset %d, %d graphs: want %d, %d and 1", d.ir, d.opset, d.graphs, irVersion, opsetVersion)
	}
	return nil
}

func (d *decoder) opsetImport(b []byte) error {
	return each("opset", b, func(f field) (err error) {
		switch f.n {
		case opsetDomain:
			if len(f.data) != 0 {
				return fmt.Errorf("operators of domain %q are not allowed", f.data)
			}
		case opsetNumber:
			d.opset, err = f.varint()
		default:
			err = errForbidden
		}
		return err
	})
}

// maxNodes is the chain of the deepest network: three nodes in front, two a layer.
const maxNodes = 3 + 2*MaxLayers

func (d *decoder) graph(f field) (err error) {
	switch f.n {
	case graphNode:
		if len(d.nodes) == maxNodes {
			return fmt.Errorf("more than %d nodes", maxNodes)
		}
		err = d.node(f.data)
	case graphName:
		_, err = f.text()
	case graphInit:
		if len(d.tensors) == 4+2*MaxLayers {
			return fmt.Errorf("more than %d tensors", 4+2*MaxLayers)
		}
		err = d.tensor(f.data)
	case graphInput:
		d.inputs++
		d.input, err = decodeValue(f.data)
	case graphOutput:
		d.outputs++
		d.output, err = decodeValue(f.data)
	default:
		err = errForbidden
	}
	return err
}

func (d *decoder) node(b []byte) error {
	var n node
	err := each("node", b, func(f field) error {
		s, err := f.text()
		if err != nil {
			return err
		}
		switch f.n {
		case nodeInput:
			n.inputs = append(n.inputs, s)
		case nodeOutput:
			n.outputs = append(n.outputs, s)
		case nodeName:
		case nodeOp:
			n.op = s
		case nodeAttr:
			return n.attribute(f.data)
		case nodeDomain:
			if s != "" {
				return fmt.Errorf("operators of domain %q are not allowed", s)
			}
		default:
			return errForbidden
		}
		return nil
	})
	d.nodes = append(d.nodes, n)
	return err
}

// attribute accepts transB alone: nothing else of the form has an attribute.
func (n *node) attribute(b []byte) error {
	var name string
	var num, kind uint64
	err := each("attribute", b, func(f field) (err error) {
		switch f.n {
		case attrName:
			name, err = f.text()
		case attrInt:
			num, err = f.varint()
		case attrType:
			kind, err = f.varint()
		default:
			err = errForbidden
		}
		return err
	})
	if err != nil {
		return err
	}
	if name != transBOption || kind != attrTypeInt || num != 1 {
		return fmt.Errorf("attribute %q of type %d is not allowed", name, kind)
	}
	n.transB = num
	return nil
}

func (d *decoder) tensor(b []byte) error {
	var t tensor
	var name string
	var kind uint64
	var raw []byte
	err := each("tensor", b, func(f field) (err error) {
		switch f.n {
		case tensorDims:
			var v uint64
			if v, err = f.varint(); err == nil {
				t.dims = append(t.dims, v)
			}
			if len(t.dims) > 2 || v == 0 || v > MaxWidth {
				return fmt.Errorf("dimension %d of %d", v, len(t.dims))
			}
		case tensorType:
			kind, err = f.varint()
		case tensorName:
			name, err = f.text()
		case tensorRaw:
			_, err = f.text()
			raw = f.data
		default:
			err = errForbidden // external data among them
		}
		return err
	})
	if err != nil {
		return err
	}
	size := uint64(4)
	for _, v := range t.dims {
		size *= v
	}
	if kind != typeFloat || uint64(len(raw)) != size {
		return fmt.Errorf("tensor %q of type %d holds %d bytes, its shape wants %d of float", name, kind, len(raw), size)
	}
	if _, ok := d.tensors[name]; ok || name == "" {
		return fmt.Errorf("tensor %q stands twice or has no name", name)
	}
	t.data = make([]float32, len(raw)/4)
	for i := range t.data {
		t.data[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	d.tensors[name] = t
	return nil
}

// decodeValue reads an input or output: a float tensor of (any rows × a fixed width).
func decodeValue(b []byte) (value, error) {
	var v value
	dim := func(f field) (err error) {
		if f.n != shapeDim {
			return errForbidden
		}
		v.dims++
		return each("dimension", f.data, func(f field) (err error) {
			switch {
			case f.n == dimParam && v.dims == 1:
				_, err = f.text()
			case f.n == dimValue && v.dims == 2:
				v.width, err = f.varint()
			default:
				err = errForbidden
			}
			return err
		})
	}
	kind := func(f field) (err error) {
		switch f.n {
		case tensorElem:
			v.elem, err = f.varint()
		case tensorShape:
			err = each("shape", f.data, dim)
		default:
			err = errForbidden
		}
		return err
	}
	err := each("value", b, func(f field) (err error) {
		switch f.n {
		case valueName:
			v.name, err = f.text()
		case valueType:
			err = each("type", f.data, func(f field) error {
				if f.n != typeTensor {
					return errForbidden
				}
				return each("tensor type", f.data, kind)
			})
		default:
			err = errForbidden
		}
		return err
	})
	if err == nil && (v.elem != typeFloat || v.dims != 2) {
		err = fmt.Errorf("value %q has element type %d and %d dimensions, want float and 2", v.name, v.elem, v.dims)
	}
	return v, err
}

// network follows the chain and turns it into a Network.
func (d *decoder) network() (*Network, error) {
	if d.inputs != 1 || d.outputs != 1 || d.input.name != inputName || d.output.name != outputName {
		return nil, fmt.Errorf("%d inputs (%q) and %d outputs (%q), want %q and %q alone",
			d.inputs, d.input.name, d.outputs, d.output.name, inputName, outputName)
	}
	var n Network
	last := inputName
	names := map[string]bool{inputName: true}
	for name := range d.tensors {
		if names[name] {
			return nil, fmt.Errorf("tensor %q has the name of the input", name)
		}
		names[name] = true
	}
	next := 0
	take := func(op string, tensors int) ([]tensor, error) {
		if next == len(d.nodes) {
			return nil, fmt.Errorf("node %d: want %s, the graph ends", next, op)
		}
		nd := d.nodes[next]
		if nd.op != op || len(nd.inputs) != 1+tensors || len(nd.outputs) != 1 || nd.inputs[0] != last || (nd.transB == 1) != (op == "Gemm") {
			return nil, fmt.Errorf("node %d: %s of %q, want %s of %q and %d tensors", next, nd.op, nd.inputs, op, last, tensors)
		}
		if out := nd.outputs[0]; out == "" || names[out] {
			return nil, fmt.Errorf("node %d: output %q stands twice or has no name", next, out)
		}
		last = nd.outputs[0]
		names[last] = true
		next++
		got := make([]tensor, tensors)
		for i, name := range nd.inputs[1:] {
			t, ok := d.tensors[name]
			if !ok {
				return nil, fmt.Errorf("node %d: no tensor %q, or used before", next-1, name)
			}
			delete(d.tensors, name) // each belongs to one node: none twice, none idle
			got[i] = t
		}
		return got, nil
	}

	sub, err := take("Sub", 1)
	if err != nil {
		return nil, err
	}
	mul, err := take("Mul", 1)
	if err != nil {
		return nil, err
	}
	clip, err := take("Clip", 2)
	if err != nil {
		return nil, err
	}
	if len(sub[0].dims) != 1 || len(mul[0].dims) != 1 || len(clip[0].dims) != 0 || len(clip[1].dims) != 0 || clip[0].data[0] != -clip[1].data[0] {
		return nil, errors.New("shift and scale must be vectors, the limits of clip two scalars that differ in sign")
	}
	n.Shift, n.Scale, n.Clip = sub[0].data, mul[0].data, clip[1].data[0]
	for {
		g, err := take("Gemm", 2)
		if err != nil {
			return nil, err
		}
		if len(g[0].dims) != 2 || len(g[1].dims) != 1 {
			return nil, fmt.Errorf("layer %d: weights of %d dimensions, bias of %d", len(n.Layers), len(g[0].dims), len(g[1].dims))
		}
		n.Layers = append(n.Layers, Dense{In: int(g[0].dims[1]), Out: int(g[0].dims[0]), W: g[0].data, B: g[1].data})
		if next < len(d.nodes) && d.nodes[next].op == "Sigmoid" {
			break
		}
		if _, err := take("Relu", 0); err != nil {
			return nil, err
		}
	}
	if _, err := take("Sigmoid", 0); err != nil {
		return nil, err
	}
	if next != len(d.nodes) || last != outputName || len(d.tensors) != 0 {
		return nil, fmt.Errorf("%d nodes behind the chain, which ends in %q, and %d idle tensors", len(d.nodes)-next, last, len(d.tensors))
	}
	if err := n.Check(); err != nil {
		return nil, err
	}
	if uint64(n.Inputs()) != d.input.width || uint64(n.Outputs()) != d.output.width {
		return nil, fmt.Errorf("declared %d to %d, the chain is %d to %d", d.input.width, d.output.width, n.Inputs(), n.Outputs())
	}
	return &n, nil
}
