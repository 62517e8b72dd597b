// Package script has what the tests of both binaries add to testscript.
package script

import (
	"errors"
	"os/exec"
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"
)

// Fails is the command `fails CODE PROGRAM ARG…`: the program must end with that exit code.
func Fails(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: fails CODE PROGRAM ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		ts.Fatalf("%s does not fail: %v", args[1], err)
	}
	if got := exit.ExitCode(); got != want {
		ts.Fatalf("%s exits with %d, not %d", args[1], got, want)
	}
}
