package explain_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/detect"
	"github.com/kokkuri/kokkuri/internal/server/explain"
)

var update = flag.Bool("update", false, "write the golden files anew")

// shipped are the rules as shipped, read once: with the race detector that takes longer than to explain some thousand lines.
var shipped = sync.OnceValue(detect.DefaultRules)

// from is the input of a reader.
func from(r io.Reader) []explain.Input {
	return []explain.Input{{Name: "-", Once: true, Open: func() (io.ReadCloser, error) { return io.NopCloser(r), nil }}}
}

// explainText explains with the rules as shipped, where opts has none.
func explainText(t *testing.T, in io.Reader, opts explain.Options) (string, explain.Summary) {
	t.Helper()
	if len(opts.Rules.Rules) == 0 {
		opts.Rules = shipped()
	}
	begin := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	calls := 0
	opts.Now = func() time.Time {
		calls++
		return begin.Add(time.Duration(calls-1) * 250 * time.Millisecond)
	}
	var out bytes.Buffer
	sum, err := explain.Explain(t.Context(), from(in), &out, opts)
	if err != nil {
		t.Fatal(err)
	}
	return out.String(), sum
}

func TestExplainGolden(t *testing.T) {
	t.Parallel()
	logs, _ := filepath.Glob("testdata/*.log")
	if len(logs) < 2 {
		t.Fatalf("only %v", logs)
	}
	for _, log := range logs {
		for suffix, opts := range map[string]explain.Options{
			".jsonl": {JSON: true}, ".txt": {}, ".summary.jsonl": {JSON: true, Summary: true}, ".summary.txt": {Summary: true},
		} {
			t.Run(filepath.Base(log)+suffix, func(t *testing.T) {
				t.Parallel()
				data, err := os.ReadFile(log)
				if err != nil {
					t.Fatal(err)
				}
				got, _ := explainText(t, iotest.OneByteReader(bytes.NewReader(data)), opts)
				golden := strings.TrimSuffix(log, ".log") + suffix
				if *update {
					if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(golden)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(string(want), got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				if bad := regexp.MustCompile(`[^\n -~…]`).FindString(got); bad != "" {
					t.Errorf("unsafe character %q", bad)
				}
			})
		}
	}
}

// TestExplainJSONIsTheContract holds keys and their order against what is promised to people's scripts.
func TestExplainJSONIsTheContract(t *testing.T) {
	t.Parallel()
	in := "2026-11-22T18:00:00Z web sshd[1]: message repeated 5 times: [ Failed password for root from 203.0.113.66 port 4022 ssh2]\n"
	got, _ := explainText(t, strings.NewReader(in), explain.Options{JSON: true})
	want := `{"line":1,"service":"ssh","kind":"auth_failed","source":"203.0.113.66","source_port":4022,"account":"root","method":"password","attempts":5,"host":"web","time":"2026-11-22T18:00:00Z"}
{"offence":{"rule":"ssh-bruteforce","source":"203.0.113.66","host":"web","service":"ssh","account":"","count":5,"first":"2026-11-22T18:00:00Z","last":"2026-11-22T18:00:00Z","line":1}}
{"summary":{"lines":1,"events":1,"guesses":5,"offences":1,"seconds":0.250000}}
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestExplainMakesJSONOfAnything(t *testing.T) {
	t.Parallel()
	var in bytes.Buffer
	for i := range 256 {
		fmt.Fprintf(&in, "2026-11-22T18:00:00Z web sshd[1]: Failed password for invalid user a%c%sb from 203.0.113.66 port 1 ssh2\n", rune(i*37), []byte{byte(i), 'x'})
	}
	in.WriteString("2026-11-22T18:00:00Z web sshd[1]: Failed password for invalid user \U0001f600\U000e0001 from 203.0.113.66 port 1 ssh2\n")
	out, _ := explainText(t, &in, explain.Options{JSON: true})
	for line := range strings.Lines(out) {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Errorf("%q: %v", line, err)
		}
	}
	if !strings.Contains(out, "\U0001f600"+`\udb40\udc01`) {
		t.Error("a character beyond the basic plane is not as it should be")
	}
}

func TestExplainLinesOfAnyLength(t *testing.T) {
	t.Parallel()
	guess := "2026-11-22T18:00:00Z web sshd[1]: Failed password for root from 203.0.113.66 port 4022 ssh2"
	in := strings.Repeat("x", 300_000) + "\n" + guess + "\n" + guess + strings.Repeat(" ", 65536-len(guess)) + "\n\n" + guess
	out, sum := explainText(t, strings.NewReader(in), explain.Options{JSON: true, Summary: true})
	if sum.Lines != 5 || sum.Guesses != 2 || sum.Events != 2 {
		t.Errorf("%s", out)
	}
}

func TestExplainWithoutHeaders(t *testing.T) {
	t.Parallel()
	in := "Failed password for root from 203.0.113.66 port 4022 ssh2\r\n"
	_, sum := explainText(t, strings.NewReader(in), explain.Options{Service: event.SSH})
	if sum.Guesses != 1 {
		t.Errorf("%+v", sum)
	}
	_, sum = explainText(t, strings.NewReader(in), explain.Options{})
	if sum.Guesses != 0 {
		t.Errorf("without a service: %+v", sum)
	}
}

func TestExplainPassesErrorsOn(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	if _, err := explain.Explain(t.Context(), from(iotest.ErrReader(broken)), io.Discard, explain.Options{}); !errors.Is(err, broken) {
		t.Errorf("reading: %v", err)
	}
	lines := strings.NewReader(strings.Repeat("x\n", 10_000))
	if _, err := explain.Explain(t.Context(), from(lines), failingWriter{broken}, explain.Options{JSON: true}); !errors.Is(err, broken) {
		t.Errorf("writing: %v", err)
	}
	ctx, stop := context.WithCancelCause(t.Context())
	stop(broken)
	if _, err := explain.Explain(ctx, from(lines), io.Discard, explain.Options{}); !errors.Is(err, broken) {
		t.Errorf("ended: %v", err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }
