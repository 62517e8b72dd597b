package parse_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kokkuri/kokkuri/internal/native"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// BenchmarkWeb reads the common lines of web and FTP servers, as they come by syslog and from an agent.
func BenchmarkWeb(b *testing.B) {
	const header = "2026-11-22T18:00:00.123456+00:00 web "
	agent := func(format, line string) string {
		f, _ := native.Find(format)
		r := f.New()
		return string(native.Encode(append(r.Line([]byte(line), capturedAt()), r.Flush()...)[0], "web", f.App))
	}
	const agentName = `"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"`
	const guess = `203.0.113.66 - root [22/Nov/2026:18:00:00 +0000] "GET /private/ HTTP/1.1" 401 179 "-" ` + agentName
	for name, line := range map[string]string{
		"access/ordinary":  header + `nginx: 203.0.113.66 - - [22/Nov/2026:18:00:00 +0000] "GET /shop/articles/4711/image.png?size=large HTTP/1.1" 200 15234 "https://www.example.org/shop/" ` + agentName,
		"access/missing":   header + `nginx: 203.0.113.66 - - [22/Nov/2026:18:00:00 +0000] "GET /shop/articles/4711/image.png HTTP/1.1" 404 153 "https://www.example.org/shop/" ` + agentName,
		"access/basic":     header + "nginx: " + guess,
		"access/agent":     agent("nginx-access", guess),
		"access/form":      header + `apache2: 203.0.113.66 - - [22/Nov/2026:18:00:00 +0000] "POST /wp-login.php HTTP/1.1" 200 2345 "-" ` + agentName,
		"access/exploit":   header + `nginx: 203.0.113.66 - - [22/Nov/2026:18:00:00 +0000] "GET /vendor/phpunit/phpunit/src/Util/PHP/eval-stdin.php HTTP/1.1" 404 153 "-" "-"`,
		"access/vhost":     header + `apache2: www.example.org:443 203.0.113.66 - - [22/Nov/2026:18:00:00 +0000] "GET /index.html HTTP/1.1" 200 1523 "-" ` + agentName,
		"error/apache":     header + `apache2[7]: [auth_basic:error] [pid 7250:tid 7261] [client 203.0.113.66:33543] AH01617: user alice: authentication failure for "/private/": Password Mismatch`,
		"error/nginx":      header + `nginx[7]: 2026/11/22 18:00:00 [error] 12#12: *7 user "alice": password mismatch, client: 203.0.113.66, server: _, request: "GET / HTTP/1.1", host: "www.example.org"`,
		"sshd/syslog":      header + `sshd[7]: Failed password for root from 203.0.113.66 port 40222 ssh2`, // to compare with
		"vsftpd/syslog":    header + `vsftpd[7]: [root] FAIL LOGIN: Client "::ffff:203.0.113.66"`,
		"vsftpd/agent":     agent("vsftpd", `Sun Nov 22 18:00:00 2026 [pid 2] [root] FAIL LOGIN: Client "203.0.113.66"`),
		"proftpd/syslog":   header + `proftpd[7]: web (203.0.113.66[203.0.113.66]) - USER root (Login failed): Incorrect password`,
		"pure-ftpd/syslog": header + `pure-ftpd: (?@203.0.113.66) [WARNING] Authentication failed for user [root]`,
	} {
		b.Run(name, func(b *testing.B) {
			var p parse.Parser
			data := []byte(line)
			if strings.HasPrefix(name, "access/basic") {
				p = *parse.New(parse.Options{})
			}
			b.ReportAllocs()
			begin := processorTime()
			for b.Loop() {
				p.Line(data, capturedAt())
			}
			b.ReportMetric(float64(processorTime()-begin)/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lines/s")
		})
	}
}

// processorTime is what this process has used; on a busy machine it says more than the clock.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
