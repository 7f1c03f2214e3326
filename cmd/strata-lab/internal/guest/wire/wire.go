// Package wire is what the lab and the init process of its ARM64 guest say to each other:
// one JSON object a line over one TCP connection that the guest opens. The host asks, the
// guest answers each question once, in order; the first line is the guest's Hello.
package wire

// Hello is the guest's first line.
type Hello struct {
	Kernel  string   `json:"kernel"`  // uname -r
	Machine string   `json:"machine"` // uname -m
	Devices []string `json:"devices"` // of sys/block and sys/class/net, sorted
	Missing []string `json:"missing"` // what could not be set up, each with its error
}

// The operations a Request can ask for.
const (
	OpExec     = "exec"     // run Args to its end, within Millis; Reply has Out, Err, Code
	OpStart    = "start"    // run Args in the background under Name; Reply has PID
	OpOutput   = "output"   // what Name has printed so far
	OpStop     = "stop"     // SIGTERM to Name, wait Millis, then SIGKILL; Reply as OpExec
	OpRead     = "read"     // the file Args[0]
	OpWrite    = "write"    // Data into the file Args[0]
	OpSLCAN    = "slcan"    // a new pty with the slcan line discipline; Reply.Out is the interface
	OpSend     = "send"     // Data from the adapter of the interface Name to the kernel
	OpLink     = "link"     // the flags and the CAN state of the interface Name
	OpPrograms = "programs" // the BPF programs that are loaded, where they hang, how often they ran
	OpTraffic  = "traffic"  // Count TCP connections to Data, 100 bytes each way where it echoes
	OpPowerOff = "poweroff" // no reply
)

// Request is one question.
type Request struct {
	Op     string   `json:"op"`
	Name   string   `json:"name,omitempty"`
	Args   []string `json:"args,omitempty"`
	Env    []string `json:"env,omitempty"`
	Data   string   `json:"data,omitempty"`
	Count  int      `json:"count,omitempty"`
	Millis int      `json:"millis,omitempty"` // how long it may take; 0 means 10 s
}

// Reply is one answer. Error says why the operation itself failed; a program that ran and
// failed is a Code.
type Reply struct {
	Error    string    `json:"error,omitempty"`
	Out      string    `json:"out,omitempty"`
	Err      string    `json:"err,omitempty"`
	Code     int       `json:"code,omitempty"`
	PID      int       `json:"pid,omitempty"`
	Programs []Program `json:"programs,omitempty"`
}

// Program is one loaded BPF program.
type Program struct {
	ID   uint32 `json:"id"`
	Name string `json:"name"`
	Type string `json:"type"`
	At   string `json:"at,omitempty"` // "tcx/ingress eth0", "clsact/egress eth0"; empty for other hooks
	Runs uint64 `json:"runs"`         // since it was loaded
}
