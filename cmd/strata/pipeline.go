package main

import (
	"fmt"
	"io"

	"github.com/strata-edge/strata/edge/agent"
	"github.com/strata-edge/strata/edge/diag"
)

// newPipeline gives the pipeline of a replay: the agent's own, in the capture's time.
func newPipeline(clock func() diag.Clock, stderr io.Writer) (pipeline, error) {
	cfg, err := agent.DefaultConfig()
	if err != nil {
		return nil, err
	}
	p, err := agent.OpenPipeline(cfg, agent.PipelineOptions{Clock: clock})
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(stderr, "deciding by %s\n", p.Describe())
	return p, nil
}
