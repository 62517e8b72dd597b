package collect

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"
)

// FuzzEntry: whatever journalctl prints, an entry becomes one line of bounded length, in which what its writer chose does not
// reach into what journald saw.
func FuzzEntry(f *testing.F) {
	f.Add([]byte(`{"__CURSOR":"s=1;i=1;b=2;m=3;t=4;x=5","__REALTIME_TIMESTAMP":"1795644265994619","_UID":"0","_EXE":"/usr/sbin/sshd","SYSLOG_IDENTIFIER":"sshd","MESSAGE":"Failed password for root from 203.0.113.9 port 22 ssh2","_PID":"31"}`))
	f.Add([]byte(`{"__CURSOR":"s","MESSAGE":[98,255,10,99],"_UID":"1000","SYSLOG_IDENTIFIER":["a b","c"],"_SYSTEMD_UNIT":"a\"] ["}`))
	f.Add([]byte(`{"__CURSOR":"s","MESSAGE":[[1,2],"x"],"_EXE":null}`))
	f.Add([]byte(`{"__CURSOR":"s","MESSAGE":[],"_PID":[[[]]]}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		var e entry
		if len(line) > maxEntry || json.Unmarshal(line, &e) != nil || !e.shipped() {
			return
		}
		out, _ := e.line("web")
		if bytes.IndexByte(out, '\n') >= 0 {
			t.Fatalf("a line feed in %q", out)
		}
		if len(out) > 4*maxEntry {
			t.Fatalf("%d bytes", len(out))
		}
		fields := bytes.SplitN(out, []byte(" "), 7)
		if len(fields) != 7 || !bytes.HasPrefix(fields[6], []byte(`[kokkuri@32473 uid="`)) {
			t.Fatalf("not where it belongs: %q", out)
		}
	})
}

// FuzzDockerLine: whatever lies in a container's log.
func FuzzDockerLine(f *testing.F) {
	f.Add([]byte(`{"log":"line\n","stream":"stderr","time":"2026-11-25T22:00:00.123456789Z"}`), []byte(`{"log":"part","stream":"stdout"}`))
	f.Add([]byte("\x00\x00"), []byte(`{"log":"\ufffd\r\n","time":"x"}`))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		format := dockerFormat(testFormats()["joined"])
		r := format.New()
		n := 0
		for _, line := range [][]byte{a, b, a} {
			for _, record := range r.Line(line, time.Time{}) {
				n += len(record.Text)
			}
		}
		for _, record := range r.Flush() {
			n += len(record.Text)
		}
		if n > 2*len(a)+len(b)+16 && n > 3*(len(a)+len(b)) {
			t.Fatalf("%d bytes of %d", n, 2*len(a)+len(b))
		}
		if len(r.Flush()) > 0 {
			t.Fatal("something is left")
		}
	})
}

// FuzzLines: a line is given whole, or counted as too long.
func FuzzLines(f *testing.F) {
	f.Add([]byte("one\ntwo\n\nlong line\nrest"), uint8(5))
	f.Fuzz(func(t *testing.T, text []byte, longest uint8) {
		l := lineReader{r: bytes.NewReader(text), longest: int(longest)}
		for want := range bytes.Lines(text) {
			want, ended := bytes.CutSuffix(want, []byte("\n"))
			got, whole, err := l.next()
			switch {
			case !ended:
				if err == nil {
					t.Fatalf("%q: half a line", got)
				}
			case err != nil:
				t.Fatal(err)
			case len(want) > int(longest) == whole:
				t.Fatalf("line of %d bytes: whole %v", len(want), whole)
			case whole && !bytes.Equal(want, got):
				t.Fatalf("%q, wanted %q", got, want)
			}
		}
	})
}
