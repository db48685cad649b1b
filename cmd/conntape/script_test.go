package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/conntape/conntape/metrics"
	"github.com/conntape/conntape/witness"
	"github.com/rogpeppe/go-internal/testscript"
)

// The commands that test scripts have beside those of testscript: the program
// itself, and one that writes a fixture tape.
func TestMain(m *testing.M) {
	if dir := os.Getenv(liveVariable); dir != "" {
		if err := liveMain(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(exitFailed)
		}
		return
	}
	testscript.Main(m, map[string]func(){
		"conntape": main,
		"fixture":  func() { os.Exit(fixtureMain()) },

		"conntape-witness": func() { os.Exit(witness.Main()) },
		"conntape-metrics": func() { os.Exit(metrics.Main()) },
	})
}

// fixtureMain is the command "fixture KIND DIR".
func fixtureMain() int {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: fixture KIND DIR")
		return exitUsage
	}
	if err := writeFixture(os.Args[2], os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitFailed
	}
	return exitDone
}

// TestScripts runs one script for each command. UPDATE_SCRIPTS=1 rewrites what
// they compare with.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			// A private place for copies of active segments, so that a script
			// can see that none is left.
			tmp := filepath.Join(e.WorkDir, "tmp")
			if err := os.MkdirAll(tmp, 0o700); err != nil {
				return err
			}
			e.Setenv("TMPDIR", tmp)
			e.Setenv("CONNTAPE_DIR", "")
			e.Setenv("CONNTAPE_CONFIG", "/dev/null") // whatever this host is configured with
			return nil
		},
	})
}
