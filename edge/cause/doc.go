// Package cause decides: from the episodes of a window it weighs every candidate — a root
// cause on a scope — by the rules of causes.yaml and by the model, keeps the roots (a
// candidate that another one accounts for is a symptom, not a root), and follows each
// root from its opening over its updates to its resolution as one finding.
//
// An Engine belongs to one goroutine. It holds no clock: all times are event times that
// come with the episodes. Its memory is bounded by the number of findings alive at once.
package cause
