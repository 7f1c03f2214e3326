// Package agent wires Strata together: sources into the pipeline (matrix, window, cause),
// findings into the buffer, the buffer into the uplinks, all under one budget.
//
// It owns every goroutine. New opens what can be opened and notes what cannot; Run blocks
// until its context ends and has joined everything it started when it returns. A source
// that cannot be read never stops the agent: it is listed in Status and told in a finding
// about Strata itself.
package agent
