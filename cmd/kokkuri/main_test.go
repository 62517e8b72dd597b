package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kokkuri/kokkuri/cmd/internal/process"
	"github.com/kokkuri/kokkuri/cmd/internal/script"
	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/cli"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"kokkuri": main,
		// The small binary's main has fewer parts in it, but the same commands.
		"kokkuri-agent": func() {
			ctx, stop := process.Context(os.Exit)
			defer stop()
			os.Exit(cli.Agent(ctx, process.Env(version), roles(version)))
		},
	})
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			for _, name := range []string{"BUS", "SYSLOG"} {
				port, err := freePort()
				if err != nil {
					return err
				}
				env.Setenv(name, strconv.Itoa(port))
			}
			env.Setenv("KOKKURI_CONFIG", env.WorkDir+"/kokkuri.yaml")
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"fails": script.Fails,
			"ready": ready,
			"setenv": func(ts *testscript.TestScript, _ bool, args []string) { // NAME FILE
				ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile(args[1])))
			},
		},
	})
}

// freePort finds a port that nobody uses at the moment.
func freePort() (int, error) {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}

// ready waits until the server on a socket answers.
func ready(ts *testscript.TestScript, _ bool, args []string) {
	client := api.NewClient(ts.MkAbs(args[0]))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := client.Status(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("no server answers on %s: %v", args[0], err)
		case <-tick.C:
		}
	}
}
