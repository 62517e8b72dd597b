package credential

import (
	_ "embed"
	"slices"
	"strings"
)

//go:embed common.txt
var common string

// Common returns passwords that are guessed often at an account, the likeliest first. Where a protocol shows only what was made of a
// password, these can be told.
func Common(account string) []string {
	var out []string
	for _, suffix := range []string{"", "123", "1234", "12345", "123456", "1", "@123", "!", "123!", "2024", "2025", "2026"} {
		out = append(out, account+suffix)
	}
	for line := range strings.SplitSeq(common, "\n") {
		if line != "" && !strings.HasPrefix(line, "#") && !slices.Contains(out, line) {
			out = append(out, line)
		}
	}
	return out
}
