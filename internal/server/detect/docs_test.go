package detect_test

import (
	"os"
	"strings"
	"testing"

	"github.com/kokkuri/kokkuri/internal/server/detect"
)

// TestDocs: every rules file that docs/rules.md shows whole is good, its examples come out as they say, and the table of shipped rules
// names them all.
func TestDocs(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../docs/rules.md")
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for block := range strings.SplitSeq(string(text), "\n    version: 1\n") {
		var file strings.Builder
		file.WriteString("version: 1\n")
		for line := range strings.Lines(block) {
			code, ok := strings.CutPrefix(line, "    ")
			if !ok && strings.TrimSpace(line) != "" {
				break
			}
			file.WriteString(code)
		}
		files = append(files, file.String())
	}
	if files = files[1:]; len(files) < 3 {
		t.Fatalf("only %d files", len(files))
	}
	for _, file := range files {
		rules, err := detect.ParseRules("rules.md", []byte(file))
		if err == nil {
			err = rules.RunExamples().Err()
		}
		if err != nil {
			t.Errorf("%v in:\n%s", err, file)
		}
	}
	for _, r := range detect.DefaultRules().Rules {
		if !strings.Contains(string(text), "`"+r.Name+"`") {
			t.Errorf("rule %s is not in the table", r.Name)
		}
	}
}
