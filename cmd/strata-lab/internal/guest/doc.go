// Package guest is the lab's second stage: it boots an ARM64 gateway of its own, with
// Debian's kernel under QEMU, runs the cross-built strata in it, makes its hardware fail
// from outside and checks what a broker on the host receives.
//
// It is for `strata-lab smoke` (make lab-smoke). What it needs is fetched beforehand by
// scripts/guest: a kernel package, the C libraries for ONNX Runtime, and the two ARM64
// binaries. Nothing runs as root, nothing listens outside loopback, and the guest has a
// route to the host and to nothing else.
//
// The guest's init (folder init) does what the host asks for over one TCP connection
// (package wire); the drive's warning is raised through QEMU's monitor, the CAN bus fails
// by what the far end of its serial adapter says.
//
// Lifetimes: Command owns everything it starts (QEMU, broker, listener, temporary folder)
// and has ended it when it returns, also when its context is cancelled.
package guest
