package cli_test

import (
	"context"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/marucloud/maru/cli"
)

// TestMain also plays the program itself, for the scripts.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"maru": func() {
			root := cli.New(cli.Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
				Getenv: os.Getenv, Environ: os.Environ, Version: "1.2.3"})
			os.Exit(cli.Execute(context.Background(), root))
		},
	})
}

// TestScripts runs what people type, where no server is needed.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "../test/scripts",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("MARU_CONFIG", e.WorkDir+"/settings.json")
			e.Setenv("MARU_SOCKET", e.WorkDir+"/none.sock")
			e.Setenv("XDG_CACHE_HOME", e.WorkDir+"/cache")
			e.Setenv("HOME", e.WorkDir)
			return nil
		},
	})
}
