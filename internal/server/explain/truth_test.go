package explain_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kokkuri/kokkuri/internal/loggen"
	"github.com/kokkuri/kokkuri/internal/server/explain"
)

// generated is a log with the truth about it.
func generated(t testing.TB, o loggen.Options) ([]byte, loggen.Truth) {
	t.Helper()
	var log bytes.Buffer
	truth, err := loggen.Write(&log, o)
	require.NoError(t, err)
	return log.Bytes(), truth
}

// offended lists who a rule fired for, as the truth lists offenders.
func offended(t *testing.T, out, rule string) []string {
	t.Helper()
	list := []string{}
	for line := range strings.Lines(out) {
		var v struct {
			Offence *struct {
				Rule   string `json:"rule"`
				Source string `json:"source"`
				Host   string `json:"host"`
			} `json:"offence"`
		}
		require.NoError(t, json.Unmarshal([]byte(line), &v))
		if v.Offence != nil && v.Offence.Rule == rule {
			list = append(list, v.Offence.Source+" "+v.Offence.Host)
		}
	}
	slices.Sort(list)
	return list
}

// TestGuessesAreTheTruth: as many guesses, logins and offenders are found as there are.
func TestGuessesAreTheTruth(t *testing.T) {
	t.Parallel()
	for _, stamp := range []loggen.Stamp{loggen.ISO, loggen.RFC3164} {
		for _, version := range []int{0, 9, 10} {
			for seed := range uint64(4) {
				t.Run(fmt.Sprintf("%s/%d/%d", stamp, version, seed), func(t *testing.T) {
					t.Parallel()
					log, truth := generated(t, loggen.Options{Lines: 10_000, Seed: seed, Stamp: stamp, OpenSSH: version})
					in := from(bytes.NewReader(log))
					in[0].Written = truth.End
					var out strings.Builder
					sum, err := explain.Explain(t.Context(), in, &out, explain.Options{Rules: shipped(), JSON: true})
					require.NoError(t, err)
					if sum.Guesses != truth.Guesses || sum.Lines != truth.Lines || sum.Unknown != 0 {
						t.Errorf("%d guesses in %d lines, %d not understood (%v); there are %d in %d", sum.Guesses, sum.Lines, sum.Unknown, sum.Shapes, truth.Guesses, truth.Lines)
					}
					if n := strings.Count(out.String(), `"kind":"auth_ok"`); n != truth.Logins {
						t.Errorf("%d logins; there are %d", n, truth.Logins)
					}
					want := []string{}
					for _, o := range truth.Offenders {
						source, host, _ := strings.Cut(o, " ")
						if a := netip.MustParseAddr(source); a.Is6() {
							p, err := a.Prefix(64)
							require.NoError(t, err)
							source = p.String()
						}
						want = append(want, source+" "+host)
					}
					slices.Sort(want)
					if diff := cmp.Diff(want, offended(t, out.String(), "ssh-bruteforce")); diff != "" {
						t.Errorf("offenders (-truth +found):\n%s", diff)
					}
				})
			}
		}
	}
}

// TestWorkersChangeNothing: what is written is byte by byte the same, however many parse at once and however the input comes.
func TestWorkersChangeNothing(t *testing.T) {
	t.Parallel()
	now := func() time.Time { return time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC) }
	long := strings.Repeat("x", 70_000) + "\r\n"
	rapid.Check(t, func(rt *rapid.T) {
		log, truth := generated(t, loggen.Options{
			Lines: rapid.IntRange(0, 1500).Draw(rt, "lines"), Seed: rapid.Uint64().Draw(rt, "seed"), Sources: rapid.SampledFrom([]int{3, 50, 2000}).Draw(rt, "sources"),
			Stamp: rapid.SampledFrom([]loggen.Stamp{loggen.ISO, loggen.RFC3164}).Draw(rt, "stamp"),
		})
		// Garbage between the lines.
		for range rapid.IntRange(0, 4).Draw(rt, "garbage") {
			at := rapid.IntRange(0, len(log)).Draw(rt, "at")
			junk := rapid.OneOf(rapid.Just(long), rapid.Just(strings.Repeat(long, 5)), rapid.String(), rapid.Just("\x00\xff\n\n\r\n")).Draw(rt, "junk")
			log = slices.Insert(log, at, []byte(junk)...)
		}
		outputs := map[string]string{}
		for _, asJSON := range []bool{true, false} {
			for _, workers := range []int{1, 3} {
				in := from(bytes.NewReader(log))
				in[0].Written = truth.End
				var out strings.Builder
				_, err := explain.Explain(t.Context(), in, &out, explain.Options{Rules: shipped(), JSON: asJSON, Workers: workers, Now: now})
				require.NoError(t, err)
				key := strconv.FormatBool(asJSON)
				if first, ok := outputs[key]; ok && first != out.String() {
					rt.Fatalf("with %d workers (-one +several):\n%s", workers, cmp.Diff(first, out.String()))
				}
				outputs[key] = out.String()
			}
		}
	})
}

func TestExplainOfAHugeLogTakesLittleMemory(t *testing.T) {
	t.Parallel()
	log, truth := generated(t, loggen.Options{Lines: 40_000})
	// What makes it huge says nothing: 256 MiB, in lines that are many and lines that are long.
	long := strings.Repeat("x", 30_000)
	var huge []byte
	for i := range 1000 {
		huge = fmt.Appendf(huge, "2026-10-01T00:00:00Z web kernel: [%d] nothing of interest\n", i)
		if i%5 == 0 {
			huge = fmt.Appendf(huge, "2026-10-01T00:00:00Z web cron[%d]: %s\n", i, long)
		}
	}
	const times, lines = 50, 1200
	parts := []io.Reader{bytes.NewReader(log)}
	for range times {
		parts = append(parts, bytes.NewReader(huge))
	}
	require.Greater(t, times*len(huge), 256<<20)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	_, sum := explainText(t, io.MultiReader(parts...), explain.Options{Summary: true})
	runtime.ReadMemStats(&after)
	if sum.Lines != truth.Lines+times*lines || sum.Guesses != truth.Guesses || sum.Offences < len(truth.Offenders) {
		t.Errorf("%+v", sum)
	}
	if grown := int64(after.HeapInuse) - int64(before.HeapInuse); grown > 100<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
}

func BenchmarkExplain(b *testing.B) {
	const lines = 300_000
	log, _ := generated(b, loggen.Options{Lines: lines})
	for _, json := range []bool{false, true} {
		b.Run(fmt.Sprintf("json=%v", json), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := explain.Explain(b.Context(), from(bytes.NewReader(log)), io.Discard, explain.Options{JSON: json}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*lines)/b.Elapsed().Seconds(), "lines/s")
		})
	}
}
