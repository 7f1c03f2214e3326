package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/strata-edge/strata/buffer"
)

const wipeAbout = `Deletes what Strata keeps on this device: the buffer with its findings, and buffers that
were put aside as damaged. Nothing else in the folder is touched. Stop the service first.`

func wipeCommand(_ context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	fs := newFlags("wipe", "--yes [flags]", wipeAbout, stderr)
	file := fs.String("c", "", "configuration `file` that names the state folder")
	state := fs.String("state", "", "the state `folder`")
	yes := fs.Bool("yes", false, "really delete")
	if code, done := parseBare(fs, args, stdout, stderr); done {
		return code
	}
	cfg, err := readConfig(*file)
	if err != nil {
		fmt.Fprintf(stderr, "strata wipe: %v\n", err)
		return exitUsage
	}
	if *state != "" {
		cfg.State = *state
	}
	socket := filepath.Join(cfg.State, buffer.SocketName)
	if conn, err := net.DialTimeout("unix", socket, time.Second); err == nil {
		_ = conn.Close()
		fmt.Fprintf(stderr, "strata wipe: the service runs on %s: stop it first\n", cfg.State)
		return exitFailure
	}
	found, err := filepath.Glob(filepath.Join(cfg.State, buffer.FileName+"*"))
	if err != nil {
		fmt.Fprintf(stderr, "strata wipe: look into %s: %v\n", cfg.State, err)
		return exitFailure
	}
	found = append(found, socket)
	if !*yes {
		fmt.Fprintf(stderr, "strata wipe: would delete %v; add --yes to do it\n", found)
		return exitUsage
	}
	return wipe(found, stdout, stderr)
}

func wipe(files []string, stdout, stderr io.Writer) int {
	code := exitOK
	for _, f := range files {
		switch err := os.Remove(f); {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			fmt.Fprintf(stderr, "strata wipe: %v\n", err)
			code = exitFailure
		default:
			fmt.Fprintf(stdout, "deleted %s\n", f)
		}
	}
	return code
}
