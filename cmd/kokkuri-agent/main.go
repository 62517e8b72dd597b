// Command kokkuri-agent is the small binary for protected hosts: no Docker client, database or broker is in it.
package main

import (
	"os"

	"github.com/kokkuri/kokkuri/cmd/internal/process"
	"github.com/kokkuri/kokkuri/internal/cli"
)

// version is set by the linker.
var version = "unknown"

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := process.Context(os.Exit)
	defer stop()
	return cli.Agent(ctx, process.Env(version), roles(version))
}
