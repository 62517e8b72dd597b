package parse_test

import (
	"testing"

	"github.com/kokkuri/kokkuri/internal/server/parse"
)

func TestEscape(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"root": "root", "ünï": "ünï", `a\b`: `a\\b`, "\x1b[2J": `\x1b[2J`, "a\nb\x00": `a\x0ab\x00`, "\xff\xfe": `\xff\xfe`,
		"\u202egnp": `\u202egnp`, "\u009b2J": `\u009b2J`, "x\u200by": `x\u200by`, "\U000e0001": `\U000e0001`, "\x7f": `\x7f`, "": "",
	} {
		if got := parse.Escape(in); got != want {
			t.Errorf("Escape(%q) is %q, want %q", in, got, want)
		}
	}
}
