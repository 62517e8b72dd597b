package detect_test

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
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/detect"
)

var update = flag.Bool("update", false, "write the golden files anew")

func explainText(t *testing.T, in io.Reader, opts detect.ExplainOptions) (string, detect.ExplainSummary) {
	t.Helper()
	begin := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	calls := 0
	opts.Now = func() time.Time {
		calls++
		return begin.Add(time.Duration(calls-1) * 250 * time.Millisecond)
	}
	var out bytes.Buffer
	sum, err := detect.Explain(t.Context(), in, &out, opts)
	if err != nil {
		t.Fatal(err)
	}
	return out.String(), sum
}

func TestExplainGolden(t *testing.T) {
	t.Parallel()
	logs, _ := filepath.Glob("testdata/explain/*.log")
	if len(logs) < 2 {
		t.Fatalf("only %v", logs)
	}
	for _, log := range logs {
		for suffix, opts := range map[string]detect.ExplainOptions{
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
	got, _ := explainText(t, strings.NewReader(in), detect.ExplainOptions{JSON: true})
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
	out, _ := explainText(t, &in, detect.ExplainOptions{JSON: true})
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
	out, sum := explainText(t, strings.NewReader(in), detect.ExplainOptions{JSON: true, Summary: true})
	if sum.Lines != 5 || sum.Guesses != 2 || sum.Events != 2 {
		t.Errorf("%s", out)
	}
}

func TestExplainWithoutHeaders(t *testing.T) {
	t.Parallel()
	in := "Failed password for root from 203.0.113.66 port 4022 ssh2\r\n"
	_, sum := explainText(t, strings.NewReader(in), detect.ExplainOptions{Service: event.SSH})
	if sum.Guesses != 1 {
		t.Errorf("%+v", sum)
	}
	_, sum = explainText(t, strings.NewReader(in), detect.ExplainOptions{})
	if sum.Guesses != 0 {
		t.Errorf("without a service: %+v", sum)
	}
}

func TestExplainPassesErrorsOn(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	if _, err := detect.Explain(t.Context(), iotest.ErrReader(broken), io.Discard, detect.ExplainOptions{}); !errors.Is(err, broken) {
		t.Errorf("reading: %v", err)
	}
	lines := strings.NewReader(strings.Repeat("x\n", 10_000))
	if _, err := detect.Explain(t.Context(), lines, failingWriter{broken}, detect.ExplainOptions{JSON: true}); !errors.Is(err, broken) {
		t.Errorf("writing: %v", err)
	}
	ctx, stop := context.WithCancelCause(t.Context())
	stop(broken)
	if _, err := detect.Explain(ctx, lines, io.Discard, detect.ExplainOptions{}); !errors.Is(err, broken) {
		t.Errorf("ended: %v", err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// logOf generates a log: a third failed passwords of 2,000 sources, the rest noise.
type logOf struct {
	lines, at int
	rest      []byte
}

func (l *logOf) Read(b []byte) (int, error) {
	for len(l.rest) < len(b) && l.at < l.lines {
		i := l.at
		l.at++
		stamp := fmt.Sprintf("2026-11-22T%02d:%02d:%02d.%06d+00:00 web ", i/3600000%24, i/60000%60, i/1000%60, i%1000*1000)
		switch i % 6 {
		case 0:
			l.rest = fmt.Appendf(l.rest, "%ssshd[%d]: Failed password for root from 10.0.%d.%d port %d ssh2\n", stamp, i, i/6%2000/250, i/6%250, 1024+i%60000)
		case 1:
			l.rest = fmt.Appendf(l.rest, "%ssshd[%d]: Failed password for invalid user u%d from 10.0.%d.%d port %d ssh2\n", stamp, i, i%977, i/6%2000/250, i/6%250, 1024+i%60000)
		case 2:
			l.rest = fmt.Appendf(l.rest, "%ssshd[%d]: pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=10.0.%d.%d  user=root\n", stamp, i, i/6%2000/250, i/6%250)
		case 3:
			l.rest = fmt.Appendf(l.rest, "%sCRON[%d]: pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)\n", stamp, i)
		case 4:
			l.rest = fmt.Appendf(l.rest, "%ssystemd[1]: Started session-%d.scope - Session %d of User alice.\n", stamp, i, i)
		case 5:
			l.rest = fmt.Appendf(l.rest, "%ssshd[%d]: Accepted publickey for alice from 192.0.2.%d port %d ssh2: ED25519 SHA256:R4Qj2wWjRPpwpnY0tYl2sKkvMZbBkjKsq\n", stamp, i, i%250, 1024+i%60000)
		}
	}
	if len(l.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b, l.rest)
	l.rest = append(l.rest[:0], l.rest[n:]...)
	return n, nil
}

func TestExplainOfAHugeLogTakesLittleMemory(t *testing.T) {
	t.Parallel()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	_, sum := explainText(t, &logOf{lines: 300_000}, detect.ExplainOptions{Summary: true})
	runtime.ReadMemStats(&after)
	if sum.Lines != 300_000 || sum.Guesses != 100_000 || sum.Offences < 2000 {
		t.Errorf("%+v", sum)
	}
	if grown := int64(after.HeapInuse) - int64(before.HeapInuse); grown > 100<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
}

func BenchmarkExplain(b *testing.B) {
	var log bytes.Buffer
	const lines = 200_000
	if _, err := io.Copy(&log, &logOf{lines: lines}); err != nil {
		b.Fatal(err)
	}
	for _, json := range []bool{false, true} {
		b.Run(fmt.Sprintf("json=%v", json), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := detect.Explain(b.Context(), bytes.NewReader(log.Bytes()), io.Discard, detect.ExplainOptions{JSON: json}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*lines)/b.Elapsed().Seconds(), "lines/s")
		})
	}
}
