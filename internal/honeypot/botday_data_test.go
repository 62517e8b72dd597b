package honeypot_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
)

// botScript is what bots do for one purpose.
type botScript struct {
	Name     string    `yaml:"name"`
	Of       string    `yaml:"of"`
	Lines    []botLine `yaml:"lines"`
	Evidence struct {
		Ran   []string          `yaml:"ran"`
		Asked []string          `yaml:"asked"`
		Wrote map[string]string `yaml:"wrote"` // paths, and what the files have in them
	} `yaml:"evidence"`
}

// botLine is a command, or what is typed to a shell without a terminal.
type botLine struct {
	Run     string      `yaml:"run"`
	Type    string      `yaml:"type"`
	Numbers string      `yaml:"numbers"` // why they are not compared
	Differs *difference `yaml:"differs"`
}

// difference is what another output in the pot is, and why.
type difference struct {
	Host string `yaml:"host"` // of the host's output; "all" of it
	Pot  string `yaml:"pot"`  // what is there instead: an expression
	Why  string `yaml:"why"`
}

func botDay(t *testing.T) []botScript {
	t.Helper()
	data, err := os.ReadFile("testdata/botday/day.yaml")
	require.NoError(t, err)
	var day []botScript
	require.NoError(t, yaml.UnmarshalWithOptions(data, &day, yaml.Strict()))
	return day
}

func (l botLine) String() string {
	if l.Type != "" {
		return strings.ReplaceAll(strings.TrimSpace(l.Type), "\n", "; ")
	}
	return l.Run
}

// variation is what is another at each run, on one machine as well, or says how large a server's own file is.
type variation struct {
	why  string
	what *regexp.Regexp
	as   string
}

func variations() []variation {
	return []variation{
		{"the time of a download", regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`), "TIME"},
		{"its speed", regexp.MustCompile(`\([\d.,]+ [KMG]?B/s\)`), "SPEED"},
		{"what curl says while it waits", regexp.MustCompile(`(?m)(^ *\d+ +[\dkM.]+ +\d+ +[\dkM.]+ .*--:--:--.*\n)+`), "METER\n"},
		{"how much was fetched", regexp.MustCompile(`\[\d+(/\d+)?\]|Length: \d+(?: \([\d.]+K\))?`), "SIZE"},
		{"what wget says while it waits", regexp.MustCompile(`(?m)(^ *\S+ +\d+(%|K) [^\n]*\n)+|(^ +\d+K [^\n]*\n)+`), "BAR\n"},
		{"the address that a name leads to", regexp.MustCompile(`(Resolving \S+ \(\S+\)\.\.\. )[^\n]*|(Connecting to files\.example\.com \(files\.example\.com\)\|)[^|]*`), "$1${2}ADDRESS"},
	}
}

// same strips from an output what may vary.
func (l botLine) same(out string) string {
	for _, v := range variations() {
		out = v.what.ReplaceAllString(out, v.as)
	}
	if l.Numbers != "" {
		out = regexp.MustCompile(` *\d[\d.,:]*`).ReplaceAllString(out, " N")
	}
	return out
}

// compare says what is wrong between the output on the host and in the pot.
func (l botLine) compare(host, pot string) error {
	if l.Differs == nil {
		if host != pot {
			return fmt.Errorf("nobody explains\n--- host\n%s\n--- pot\n%s", host, pot)
		}
		return nil
	}
	if host == pot {
		return fmt.Errorf("the pot is like the host by now: %s", host)
	}
	if !strings.Contains(host, l.Differs.Host) && l.Differs.Host != "all" {
		return fmt.Errorf("the host does not say %q but\n%s", l.Differs.Host, host)
	}
	want := "(?:" + l.Differs.Pot + ")"
	if l.Differs.Host != "all" {
		var parts []string
		for part := range strings.SplitSeq(host, l.Differs.Host) {
			parts = append(parts, regexp.QuoteMeta(part))
		}
		want = strings.Join(parts, want)
	}
	re, err := regexp.Compile("^" + want + "$")
	if err != nil {
		return fmt.Errorf("the expression of what is in the pot: %w", err)
	}
	if !re.MatchString(pot) {
		return fmt.Errorf("explained is %s, but there is\n--- host\n%s\n--- pot\n%s", want, host, pot)
	}
	return nil
}

// table is what the documentation says of the differences.
func table(day []botScript) string {
	var b strings.Builder
	cell := func(s string) string {
		return strings.ReplaceAll(strings.ReplaceAll(strings.TrimSpace(s), "|", `\|`), "\n", " ")
	}
	b.WriteString("| of | what bots run | why it is another in a pot |\n|---|---|---|\n")
	for _, s := range day {
		for _, l := range s.Lines {
			if l.Differs != nil {
				fmt.Fprintf(&b, "| %s | `%s` | %s |\n", s.Name, cell(l.String()), cell(l.Differs.Why))
			}
		}
	}
	return b.String()
}
