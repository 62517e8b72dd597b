package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/kokkuri/kokkuri/internal/cli"
	"github.com/kokkuri/kokkuri/internal/server/detect"
)

func testRules(_ context.Context, file string, out io.Writer) error {
	report, err := detect.TestRules(file)
	if err != nil && !errors.Is(err, detect.ErrExample) {
		return wrongRules(err)
	}
	if _, printErr := fmt.Fprintf(out, "%s: %d rules, %d examples\n", file, len(report.Rules), len(report.Examples)); printErr != nil {
		return fmt.Errorf("write output: %w", printErr)
	}
	return err
}

func checkRules(file string) error {
	_, err := detect.TestRules(file)
	return err
}

// wrongRules is a rules file that can't be used: wrong configuration.
func wrongRules(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return cli.Usage(err, "without --rules the built-in rules are used")
	}
	return cli.Usage(err, "docs/rules.md says what a rules file may hold")
}
