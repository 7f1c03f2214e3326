// Package budget divides the memory and the processors that Strata may use, and measures
// what it does use.
//
// It is for the agent: Read says what the control group allows, Divide makes a Plan of it
// and of the configuration, Plan.Apply sets the Go runtime, and a Sampler gives the
// figures that Strata reports about itself. Go's memory limit sees neither what cgo
// allocates (ONNX Runtime) nor BPF maps, so each has a share of its own here. What to give
// up first when a cap is reached is data: Order.
//
// Nothing here runs on its own. Read and Divide are pure but for the files read; Apply
// changes the process; a Sampler belongs to one goroutine.
package budget
