// Command kokkuri is the operator's binary: the roles and the commands.
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
	return cli.Kokkuri(ctx, process.Env(version), roles(version))
}
