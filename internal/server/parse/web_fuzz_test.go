package parse_test

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// captured adds some lines of real servers to a corpus.
func captured(f *testing.F, folder string) {
	f.Helper()
	names, err := filepath.Glob("testdata/" + folder + "/*.txt")
	if err != nil || len(names) == 0 {
		f.Fatalf("no captured lines: %v", err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for i, line := range bytes.Split(data, []byte{'\n'}) {
			if _, text, ok := bytes.Cut(line, []byte{'|'}); ok && i%17 == 0 {
				f.Add(text)
			}
		}
	}
}

// sound holds what must be true of an event whatever the line.
func sound(t *testing.T, e event.Event, line []byte) {
	t.Helper()
	if e.Kind == "" || (e.Kind == event.AuthFailed) != (e.Attempts > 0) || len(e.Account) > 512 || len(e.Resource) > 512 {
		t.Errorf("%+v", e)
	}
	if e.Source.Is4In6() || e.Source.Zone() != "" || e.Source.Is4() && !bytes.Contains(line, []byte(e.Source.String())) && !bytes.Contains(line, []byte(":")) {
		t.Errorf("source %s of %q", e.Source, line)
	}
	if e.Account != "" && e.Account != "root" && !strings.Contains(string(line), e.Account) {
		t.Errorf("account %q of %q", e.Account, line)
	}
	_ = parse.Escape(string(line))
}

func FuzzHTTP(f *testing.F) {
	captured(f, "http")
	f.Add([]byte(`203.0.113.66 - a [22/Nov/2026:18:00:00 +0000] "POST /%2e%252e/\x22wp-login.php?x=${jndi:a} HTTP/1.1" 401 1 "-" "() {" "198.51.100.9, [::1]:1, 203.0.113.7"`))
	f.Fuzz(func(t *testing.T, line []byte) {
		p := parse.New(parse.Options{HTTP: parse.HTTPOptions{
			Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Logins: []parse.HTTPLogin{{Path: "*/login*", Failed: []int{200}, OK: []int{302}}},
		}})
		e := p.Message(event.HTTP, line)
		sound(t, e, line)
		sound(t, parse.Message(event.HTTP, line), line)
		whole := append([]byte("2026-11-22T18:00:00Z web nginx: "), line...)
		if again := p.Line(whole, capturedAt()); again.Kind != e.Kind && again.Time.Equal(at("2026-11-22T18:00:00Z")) && !bytes.HasPrefix(line, []byte(" ")) {
			t.Errorf("%q is %s, in syslog %s", line, e.Kind, again.Kind)
		}
	})
}

func FuzzFTP(f *testing.F) {
	captured(f, "ftp")
	f.Fuzz(func(t *testing.T, line []byte) {
		e := parse.Message(event.FTP, line)
		sound(t, e, line)
		for _, tag := range []string{"vsftpd", "proftpd", "pure-ftpd"} {
			sound(t, parse.Line(append([]byte("2026-11-22T18:00:00Z web "+tag+"[1]: "), line...), capturedAt()), line)
		}
	})
}
