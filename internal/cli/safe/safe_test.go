package safe_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/kokkuri/kokkuri/internal/cli/safe"
)

func TestText(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"root":                "root",
		"":                    "",
		"Jürgen 日本":           "Jürgen 日本",
		"\x1b[31mred\x1b[0m":  `\x1b[31mred\x1b[0m`,
		"a\nb\tc\rd":          `a\nb\tc\rd`,
		"\u202egnp.exe":       `\u202egnp.exe`,
		"zero\u200bwidth":     `zero\u200bwidth`,
		"\ufeffbom":           `\ufeffbom`,
		"bad\xff\xc3":         `bad\xff\xc3`,
		`back\slash`:          `back\\slash`,
		`\x1b`:                `\\x1b`,
		"c1\u009b":            `c1\u009b`,
		"no\u00a0break":       `no\u00a0break`,
		"z\u0301\u0301":       `z\u0301\u0301`,
		"tag\U000e0041":       `tag\U000e0041`,
		"\ufffd":              `\ufffd`,
		"private\ue000":       `private\ue000`,
		"line\u2028separator": `line\u2028separator`,
	} {
		if got := safe.Text(in); got != want {
			t.Errorf("Text(%q) is %q, want %q", in, got, want)
		}
	}
}

func TestCut(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		in   string
		n    int
		want string
	}{
		{"abc", 3, "abc"}, {"abcd", 3, "ab…"}, {"", 3, ""}, {"a\x1bb", 6, `a\x1bb`}, {"a\x1bb", 5, "a…"}, {"\x1b\x1b", 4, "…"}, {"\x1b", 4, `\x1b`}, {"日本語", 2, "日…"},
	} {
		if got := safe.Cut(test.in, test.n); got != test.want {
			t.Errorf("Cut(%q, %d) is %q, want %q", test.in, test.n, got, test.want)
		}
	}
}

func FuzzText(f *testing.F) {
	f.Add("root\x1b[2J\u202e\xff")
	f.Add(`\x1b`)
	f.Fuzz(func(t *testing.T, s string) {
		got := safe.Text(s)
		if !utf8.ValidString(got) {
			t.Fatalf("%q is no UTF-8", got)
		}
		for _, r := range got {
			if !unicode.IsPrint(r) || unicode.Is(unicode.Bidi_Control, r) || unicode.Is(unicode.M, r) {
				t.Fatalf("%q has %U", got, r)
			}
		}
		cut := safe.Cut(s, 10)
		if n := utf8.RuneCountInString(cut); n > 10 {
			t.Fatalf("Cut(%q, 10) has %d characters: %q", s, n, cut)
		}
		if utf8.RuneCountInString(got) <= 10 && cut != got {
			t.Fatalf("Cut(%q, 10) is %q though %q fits", s, cut, got)
		}
		if strings.Contains(cut, "\x1b") {
			t.Fatalf("%q", cut)
		}
	})
}
