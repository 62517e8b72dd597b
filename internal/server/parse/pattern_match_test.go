package parse

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestMatchesAsItsExpression holds that trying reads a message as the pattern's regular expression does, whatever both are.
func TestMatchesAsItsExpression(t *testing.T) {
	t.Parallel()
	texts := []string{" ", "from ", " from", ":", "a", "port", `"`, "%", "é", "x=", "."}
	fields := []string{
		"<_:ip>", "<source:ip>", "<_:host>", "<source:host>", "<_:port>", "<_:int>", "<_:id>", "<method:id>", "<_:word>", "<account:word>", "<_:quoted>", "<account:text>", "<_:text>",
		"(a|ab|b)", "( from|:)",
	}
	inner := rapid.Map(rapid.SliceOfN(rapid.SampledFrom(append([]string{"<_:text>", "<_:word>", "<_:int>", "<_:quoted>"}, texts...)), 1, 3),
		func(list []string) string { return "(" + strings.Join(list, "") + ")?" })
	part := rapid.OneOf(rapid.SampledFrom(texts), rapid.SampledFrom(fields), inner)
	pieces := rapid.OneOf(
		rapid.SampledFrom(append([]string{
			"192.0.2.1", "2001:db8::1%eth0", "fe80::1%", "7", "4022", "ab", "root", `"a\"b"`, `"c`, "x y", "\n", "\t", "\xff", "\xc3", "a.example", "#012", "日本",
		}, texts...)), rapid.StringN(0, 3, -1))
	matched, missed, given := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(part, 1, 7).Draw(t, "pattern"), "")
		elements, fault := parsePattern(text)
		if fault != nil || checkFields(elements) != nil {
			return
		}
		p, err := compiledPattern(elements)
		if err != nil {
			t.Fatal(err)
		}
		m := []byte(strings.Join(rapid.SliceOfN(pieces, 0, 12).Draw(t, "message"), ""))
		want := p.re.FindSubmatchIndex(m)
		var a attempt
		got := p.matches(m, &a)
		if got != (want != nil) {
			t.Fatalf("%q, %q: matches is %v, the expression's %v", text, m, got, want)
		}
		for i := 2; i < len(want); i++ { // the whole's is not kept
			if int(a.groups[i]) != want[i] {
				t.Fatalf("%q, %q: groups are %v, the expression's %v", text, m, a.groups[:len(want)], want)
			}
		}
		if !p.mayBe(m) && want != nil {
			t.Fatalf("%q, %q: refused, and the expression matches", text, m)
		}
		switch {
		case a.effort < 0:
			given++
		case got:
			matched++
		default:
			missed++
		}
	})
	if matched == 0 || missed == 0 {
		t.Errorf("%d matched, %d not, %d given up", matched, missed, given)
	}
}

// TestGivesUp holds that a message which is long to try costs no more than its bound, and is read all the same.
func TestGivesUp(t *testing.T) {
	t.Parallel()
	elements, fault := parsePattern("<_:text>a<_:text>a<_:text>a<_:text>a<_:text>b<account:text>!")
	if fault != nil {
		t.Fatal(fault)
	}
	p, err := compiledPattern(elements)
	if err != nil {
		t.Fatal(err)
	}
	for tail, want := range map[string]bool{"": false, "b!": true} {
		var a attempt
		m := []byte("a" + strings.Repeat("ba", 2000) + strings.Repeat("a", 2000) + tail)
		if got := p.matches(m, &a); got != want {
			t.Errorf("%q: %v", tail, got)
		}
		if least := -len(m) * 2; a.effort < least {
			t.Errorf("%q: spent %d more than it may", tail, -a.effort)
		}
		if !want && a.effort >= 0 {
			t.Errorf("this message is not long to try any more: %d left", a.effort)
		}
	}
}
