//go:build cgo

package ort

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"

	onnx "github.com/yalue/onnxruntime_go"

	"github.com/strata-edge/strata/model"
)

// batchRows are the sizes that tensors exist for, rising. A call takes the smallest that
// holds what is left, so that a single row is not padded to 32.
var batchRows = [...]int{1, 8, 32}

// Scorer is one model in ONNX Runtime.
type Scorer struct {
	mu      sync.Mutex
	session *onnx.DynamicAdvancedSession
	batches []batch
	pin     runtime.Pinner
	inputs  int
	outputs int
	version string
	closed  bool
}

// batch is a pair of tensors of fixed rows, bound to the session.
type batch struct {
	rows    int
	in, out *onnx.Tensor[float32]
	x, y    []float32 // the tensors' memory
	binding *onnx.IoBinding
}

// Open loads the library, makes a session of the bundle's bytes and compares it with
// what the bundle says: names, widths, types and golden rows.
func Open(library string, b *model.Bundle) (*Scorer, error) {
	if err := acquire(library); err != nil {
		return nil, err
	}
	s := &Scorer{inputs: b.Network.Inputs(), outputs: b.Network.Outputs(), version: onnx.GetVersion()}
	if err := s.open(b); err != nil {
		return nil, errors.Join(fmt.Errorf("open model in ONNX Runtime %s: %w", s.version, err), s.Close())
	}
	return s, nil
}

func (s *Scorer) open(b *model.Bundle) error {
	in, out, err := onnx.GetInputOutputInfoWithONNXData(b.ONNX)
	if err != nil {
		return fmt.Errorf("read inputs and outputs: %w", err)
	}
	if err := checkShape(in, "input", s.inputs); err != nil {
		return err
	}
	if err := checkShape(out, "output", s.outputs); err != nil {
		return err
	}
	opts, err := sessionOptions()
	if err != nil {
		return err
	}
	defer opts.Destroy() //nolint:errcheck // never fails
	if s.session, err = onnx.NewDynamicAdvancedSessionWithONNXData(b.ONNX, []string{in[0].Name}, []string{out[0].Name}, opts); err != nil {
		return fmt.Errorf("make session: %w", err)
	}
	for _, rows := range batchRows {
		if err := s.bind(rows, in[0].Name, out[0].Name); err != nil {
			return fmt.Errorf("make tensors of %d rows: %w", rows, err)
		}
	}
	return b.CheckGolden(s.Score)
}

// checkShape wants one float tensor of (any rows × width).
func checkShape(got []onnx.InputOutputInfo, what string, width int) error {
	if len(got) != 1 {
		return fmt.Errorf("%d %ss, want 1", len(got), what)
	}
	g := got[0]
	if g.OrtValueType != onnx.ONNXTypeTensor || g.DataType != onnx.TensorElementDataTypeFloat ||
		!slices.Equal(g.Dimensions, onnx.NewShape(-1, int64(width))) {
		return fmt.Errorf("%s %s is %s of %s %s, want a float tensor of [-1 %d]", what, g.Name, g.OrtValueType, g.DataType, g.Dimensions, width)
	}
	return nil
}

// sessionOptions keeps the runtime to the calling thread and to little memory.
func sessionOptions() (*onnx.SessionOptions, error) {
	o, err := onnx.NewSessionOptions()
	if err != nil {
		return nil, fmt.Errorf("make session options: %w", err)
	}
	err = errors.Join(
		o.SetIntraOpNumThreads(1),
		o.SetInterOpNumThreads(1),
		o.SetExecutionMode(onnx.ExecutionModeSequential),
		o.SetCpuMemArena(false),
		o.SetLogSeverityLevel(onnx.LoggingLevelError),
	)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set session options: %w", err), o.Destroy())
	}
	return o, nil
}

func (s *Scorer) bind(rows int, inName, outName string) error {
	b := batch{rows: rows}
	var err error
	if b.in, err = onnx.NewEmptyTensor[float32](onnx.NewShape(int64(rows), int64(s.inputs))); err == nil {
		b.x = b.in.GetData()
		s.pin.Pin(&b.x[0]) // the library keeps the address
		if b.out, err = onnx.NewEmptyTensor[float32](onnx.NewShape(int64(rows), int64(s.outputs))); err == nil {
			b.y = b.out.GetData()
			s.pin.Pin(&b.y[0])
			if b.binding, err = s.session.CreateIoBinding(); err == nil {
				err = errors.Join(b.binding.BindInput(inName, b.in), b.binding.BindOutput(outName, b.out))
			}
		}
	}
	s.batches = append(s.batches, b)
	return err
}

var errClosed = errors.New("score: scorer is closed")

// Score computes rows rows: x holds them one behind the other, out receives as many
// scores, each a probability for every class. Inputs must be finite; nothing is
// written to out where one is not.
func (s *Scorer) Score(x []float32, rows int, out []float32) error {
	if rows < 0 || len(x) != rows*s.inputs || len(out) < rows*s.outputs {
		return fmt.Errorf("score %d rows: %d inputs and room for %d scores, want %d and %d",
			rows, len(x), len(out), rows*s.inputs, rows*s.outputs)
	}
	for i, v := range x {
		if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Errorf("score: row %d, feature %d is %g", i/s.inputs, i%s.inputs, v)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	for rows > 0 {
		b := s.pick(rows)
		n := min(rows, b.rows)
		clear(b.x[copy(b.x, x[:n*s.inputs]):])
		if err := s.session.RunWithBinding(b.binding); err != nil {
			return fmt.Errorf("score %d rows: %w", n, err)
		}
		copy(out[:n*s.outputs], b.y)
		x, out, rows = x[n*s.inputs:], out[n*s.outputs:], rows-n
	}
	return nil
}

// pick gives the smallest batch that holds rows, or the largest there is.
func (s *Scorer) pick(rows int) *batch {
	for i := range s.batches {
		if s.batches[i].rows >= rows {
			return &s.batches[i]
		}
	}
	return &s.batches[len(s.batches)-1]
}

// Version gives the release of ONNX Runtime that runs.
func (s *Scorer) Version() string { return s.version }

// Close frees the session and, behind the last scorer, unloads the library. A second
// Close does nothing.
func (s *Scorer) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	var errs []error
	for _, b := range s.batches {
		if b.binding != nil {
			errs = append(errs, b.binding.Destroy())
		}
		if b.out != nil {
			errs = append(errs, b.out.Destroy())
		}
		if b.in != nil {
			errs = append(errs, b.in.Destroy())
		}
	}
	s.batches = nil
	if s.session != nil {
		errs = append(errs, s.session.Destroy())
	}
	s.pin.Unpin()
	return errors.Join(append(errs, release())...)
}
