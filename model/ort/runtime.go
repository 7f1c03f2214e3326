//go:build cgo

package ort

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	onnx "github.com/yalue/onnxruntime_go"
)

// loaded guards the state that the binding itself keeps for the whole process: one
// library and one environment. users counts the scorers that need them.
var loaded struct {
	sync.Mutex
	users   int
	library string
}

// acquire loads the library for the first user.
func acquire(library string) error {
	loaded.Lock()
	defer loaded.Unlock()
	if loaded.users > 0 {
		if library != loaded.library {
			return fmt.Errorf("load %s: %s is in use", library, loaded.library)
		}
		loaded.users++
		return nil
	}
	onnx.SetSharedLibraryPath(library)
	if err := onnx.InitializeEnvironment(onnx.WithLogLevelError()); err != nil {
		return fmt.Errorf("load %s: %w", library, err)
	}
	if v := onnx.GetVersion(); older(v, MinVersion) {
		return errors.Join(fmt.Errorf("load %s: it is version %s, the oldest allowed is %s", library, v, MinVersion), onnx.DestroyEnvironment())
	}
	loaded.users, loaded.library = 1, library
	return nil
}

// release unloads the library behind the last user.
func release() error {
	loaded.Lock()
	defer loaded.Unlock()
	loaded.users--
	if loaded.users > 0 {
		return nil
	}
	if err := onnx.DestroyEnvironment(); err != nil {
		return fmt.Errorf("unload %s: %w", loaded.library, err)
	}
	return nil
}

// older compares versions of dotted numbers; what cannot be read is old.
func older(v, floor string) bool {
	a, b := strings.Split(v, "."), strings.Split(floor, ".")
	for i := range b {
		if i >= len(a) {
			return true
		}
		x, err := strconv.Atoi(a[i])
		y, _ := strconv.Atoi(b[i])
		if err != nil || x < y {
			return true
		}
		if x > y {
			return false
		}
	}
	return false
}
