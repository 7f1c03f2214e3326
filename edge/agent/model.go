package agent

import (
	"errors"
	"fmt"

	"github.com/strata-edge/strata/edge/diag"
	"github.com/strata-edge/strata/model"
	"github.com/strata-edge/strata/model/ort"
)

// learnt is the model in force: nothing of it is set where rules decide alone.
type learnt struct {
	scorer *ort.Scorer
	ref    *diag.ModelRef
	about  string
}

// openModel verifies and loads the model. An error says why the rules decide alone.
func openModel(cfg ModelPaths, schema *model.Schema) (learnt, error) {
	if !cfg.Enabled {
		return learnt{}, errors.New("switched off in the configuration")
	}
	bundle, err := openBundle(cfg, schema)
	if err != nil {
		return learnt{}, err
	}
	lib, err := ort.Find(ort.Candidates(cfg.Library))
	if err != nil {
		return learnt{}, err
	}
	scorer, err := ort.Open(lib, bundle)
	if err != nil {
		return learnt{}, fmt.Errorf("load the model: %w", err)
	}
	version, short := bundle.Ref()
	return learnt{
		scorer: scorer,
		ref:    &diag.ModelRef{Version: version, Schema: short},
		about:  fmt.Sprintf("model %s (%d causes, ONNX Runtime %s)", version, len(bundle.Meta.Classes), scorer.Version()),
	}, nil
}

func openBundle(cfg ModelPaths, schema *model.Schema) (*model.Bundle, error) {
	if cfg.Dir == "" {
		return model.Builtin()
	}
	keys, err := model.ReadKeys(cfg.Keys)
	if err != nil {
		return nil, err
	}
	policy := model.Policy{Keys: keys, Schema: schema}
	// The built-in model is the floor: an operator's own may not be older than it.
	if own, err := model.Builtin(); err == nil {
		policy.MinVersion = own.Meta.Version
	}
	return model.LoadDir(cfg.Dir, policy)
}
