package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kokkuri/kokkuri/cmd/internal/script"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"kokkuri-agent": main})
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("KOKKURI_CONFIG", env.WorkDir+"/agent.yaml")
			env.Setenv("KOKKURI_STATE_DIR", env.WorkDir+"/state")
			env.Setenv("KOKKURI_SOCKET", env.WorkDir+"/run/server.sock")
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"fails": script.Fails},
	})
}
