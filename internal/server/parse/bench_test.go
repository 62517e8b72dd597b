package parse_test

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/native"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// maxLineCost is what reading one of the common lines may cost of processor time.
const maxLineCost = 500 * time.Nanosecond

// commonLine is a line as servers write it all day, and what it says.
type commonLine struct {
	name    string
	service event.Service
	kind    event.Kind
	line    string
}

const (
	stamped   = "2026-11-22T18:00:00.123456+00:00 web "
	userAgent = `"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"`
	webGuess  = `203.0.113.66 - root [22/Nov/2026:18:00:00 +0000] "GET /private/ HTTP/1.1" 401 179 "-" ` + userAgent
)

// converted is a line of a native log as an agent sends it.
func converted(format, line string) string {
	f, _ := native.Find(format)
	r := f.New()
	return string(native.Encode(append(r.Line([]byte(line), capturedAt()), r.Flush()...)[0], "web", f.App))
}

// commonLines are those of every service, by every road that changes what is read.
func commonLines() []commonLine {
	return slices.Concat(loginLines(), databaseLines(), webLines(), []commonLine{
		{"vsftpd/syslog", event.FTP, event.AuthFailed, stamped + `vsftpd[7]: [root] FAIL LOGIN: Client "::ffff:203.0.113.66"`},
		{"vsftpd/agent", event.FTP, event.AuthFailed, converted("vsftpd", `Sun Nov 22 18:00:00 2026 [pid 2] [root] FAIL LOGIN: Client "203.0.113.66"`)},
		{"proftpd/syslog", event.FTP, event.AuthFailed, stamped + `proftpd[7]: web (203.0.113.66[203.0.113.66]) - USER root (Login failed): Incorrect password`},
		{"pure-ftpd/syslog", event.FTP, event.AuthFailed, stamped + `pure-ftpd: (?@203.0.113.66) [WARNING] Authentication failed for user [root]`},
		{"pattern/fits", "vault", event.AuthFailed, stamped + "vaultd[7]: login of root from 203.0.113.66 port 4022 failed"},
		{"pattern/quoted", "vault", event.AuthFailed, stamped + `vaultd[7]: level=warn user="root" ip=203.0.113.66 agent="` + strings.Trim(userAgent, `"`) + `"`},
		{"pattern/none", "vault", event.None, stamped + "vaultd[7]: nothing of the kind, whatever it may be"},
	})
}

func loginLines() []commonLine {
	return []commonLine{
		{"sshd/failed/rfc3164", event.SSH, event.AuthFailed, "Nov 22 18:00:00 web sshd[12345]: Failed password for root from 203.0.113.66 port 40222 ssh2"},
		{"sshd/failed/iso", event.SSH, event.AuthFailed, stamped + "sshd[12345]: Failed password for invalid user admin from 203.0.113.66 port 40222 ssh2"},
		{"sshd/accepted/iso", event.SSH, event.AuthOK, stamped + "sshd[12345]: Accepted publickey for alice from 203.0.113.20 port 40222 ssh2: ED25519 SHA256:R4Qj2wWjRPpwpnY0tYl2sKkvMZbBkjKsq/UK2Rul5X8"},
		{"sshd/failed6/rfc5424", event.SSH, event.AuthFailed, "1 2026-11-22T18:00:00.123456Z web sshd 12345 - - Failed password for root from 2001:db8:1:66::66 port 40222 ssh2"},
		{"sshd/journal", event.SSH, event.AuthFailed, `1 2026-11-22T18:00:00.123456Z web sshd 12345 - [kokkuri@32473 uid="0" exe="/usr/sbin/sshd" unit="ssh.service"] Failed password for root from 203.0.113.66 port 40222 ssh2`},
		{"dropbear/known", event.SSH, event.AuthFailed, stamped + "dropbear[12345]: Bad password attempt for 'root' from 203.0.113.66:40222"},
		{"dropbear/unknown", event.SSH, event.AuthFailed, stamped + "dropbear[12345]: Login attempt for nonexistent user from 203.0.113.66:40222"},
		{"telnet/login", event.Telnet, event.AuthFailed, stamped + "login[12345]: FAILED LOGIN (1) on '/dev/pts/0' from '203.0.113.66' FOR 'root', Authentication failure"},
		{"smtp/postfix", event.SMTP, event.AuthFailed, stamped + "postfix/smtpd[12345]: warning: unknown[203.0.113.66]: SASL LOGIN authentication failed: UGFzc3dvcmQ6"},
		{"imap/dovecot", event.IMAP, event.AuthFailed, stamped + "dovecot: imap-login: Disconnected: Connection closed (auth failed, 2 attempts in 12 secs): user=<alice>, method=PLAIN, rip=203.0.113.66, lip=203.0.113.10, session=<CBFNEyFhuc9/AAE6>"},
		{"pam/cockpit", event.PAM, event.AuthFailed, stamped + "cockpit-session[12345]: pam_unix(cockpit:auth): authentication failure; logname= uid=0 euid=0 tty= ruser= rhost=203.0.113.66  user=root"},
		{"noise/cron", "", event.None, stamped + "CRON[12345]: pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)"},
	}
}

func databaseLines() []commonLine {
	const (
		maria = "2026-11-22 18:00:00 31 [Warning] Access denied for user 'root'@'203.0.113.66' (using password: YES)"
		acl   = `[kokkuri@32473 source="203.0.113.66" source_port="4022" format="redis-acl-log" reason="auth" count="1" account="default" object="AUTH"]`
		wrong = `FATAL:  password authentication failed for user "alice"`
	)
	return []commonLine{
		{"mariadb/journal", event.MySQL, event.AuthFailed, stamped + "mariadbd[12345]: " + maria},
		{"mariadb/agent", event.MySQL, event.AuthFailed, converted("mysql-error", maria)},
		{"mariadb/noise", event.MySQL, event.None, stamped + "mariadbd[12345]: 2026-11-22 18:00:00 0 [Note] InnoDB: Buffer pool(s) load completed at 261122 18:00:00"},
		{"mariadb/audit", event.MySQL, event.AuthOK, "1 2026-11-22T18:00:00.123456Z web mysql-server_auditing 12345 - " +
			`[kokkuri@32473 uid="109" exe="/usr/sbin/mariadbd" unit="mariadb.service"] db1,shop,203.0.113.80,4711,0,CONNECT,shop,,0`},
		{"mysql8/syslog", event.MySQL, event.AuthFailed, stamped + "mysqld[12345]: 2026-11-22T18:00:00.123456Z 31 [Note] [MY-010926] [Server] Access denied for user 'root'@'203.0.113.66' (using password: YES)"},
		{"mysql8/agent", event.MySQL, event.AuthFailed, converted("mysql-json", `{"prio":3,"err_code":10926,"subsystem":"Server","SQL_state":"HY000","source_file":"sql_authentication.cc","function":"login_failed_error","msg":"Access denied for user 'root'@'203.0.113.66' (using password: YES)","time":"2026-11-22T18:00:00.123456Z","thread":31,"err_symbol":"ER_ACCESS_DENIED_ERROR_WITH_PASSWORD","label":"Note"}`)},
		{"postgres/syslog", event.Postgres, event.AuthFailed, stamped + `postgres[12345]: [3-1] 2026-11-22 18:00:00.123 UTC [12345] alice@shop ` + wrong},
		{"postgres/address", event.Postgres, event.AuthFailed, stamped + `postgres[12345]: [3-1] 2026-11-22 18:00:00.123 UTC [12345] 203.0.113.66 alice@shop ` + wrong},
		{"postgres/zone", event.Postgres, event.AuthFailed, stamped + `postgres[12345]: [3-1] < 2026-11-22 18:00:00.123 CET > ` + wrong},
		{"postgres/stderr", event.Postgres, event.AuthFailed, converted("postgres-stderr", `2026-11-22 18:00:00.123 UTC [12345] 203.0.113.66 alice@shop `+wrong)},
		{"postgres/csv", event.Postgres, event.AuthFailed, "1 2026-11-22T18:00:00.123Z web postgres 12345 - " +
			`[kokkuri@32473 format="postgres-csv" source="203.0.113.66" source_port="4022" account="alice" database="shop" code="28P01"] ` + wrong},
		{"postgres/opened", event.Postgres, event.Context, stamped + "postgres[12345]: [2-1] LOG:  connection received: host=203.0.113.66 port=4022"},
		{"postgres/noise", event.Postgres, event.None, stamped + "postgres[12345]: [9-1] LOG:  checkpoint starting: time"},
		{"redis/acl", event.Redis, event.AuthFailed, "1 2026-11-22T18:00:00.123Z web redis-server - - " + acl + ` ACL LOG: auth denied from 203.0.113.66:4022, count 1, user "default", object "AUTH", context toplevel`},
		{"redis/noise", event.Redis, event.None, stamped + "redis[12345]: Background saving terminated with success"},
	}
}

func webLines() []commonLine {
	return []commonLine{
		{"http/ordinary", event.HTTP, event.None, stamped + `nginx: 203.0.113.66 - - [22/Nov/2026:18:00:00 +0000] "GET /shop/articles/4711/image.png?size=large HTTP/1.1" 200 15234 "https://www.example.org/shop/" ` + userAgent},
		{"http/missing", event.HTTP, event.None, stamped + `nginx: 203.0.113.66 - - [22/Nov/2026:18:00:00 +0000] "GET /shop/articles/4711/image.png HTTP/1.1" 404 153 "https://www.example.org/shop/" ` + userAgent},
		{"http/basic", event.HTTP, event.AuthFailed, stamped + "nginx: " + webGuess},
		{"http/agent", event.HTTP, event.AuthFailed, converted("nginx-access", webGuess)},
		{"http/form", event.HTTP, event.AuthFailed, stamped + `apache2: 203.0.113.66 - - [22/Nov/2026:18:00:00 +0000] "POST /wp-login.php HTTP/1.1" 200 2345 "-" ` + userAgent},
		{"http/exploit", event.HTTP, event.Probe, stamped + `nginx: 203.0.113.66 - - [22/Nov/2026:18:00:00 +0000] "GET /vendor/phpunit/phpunit/src/Util/PHP/eval-stdin.php HTTP/1.1" 404 153 "-" "-"`},
		{"http/vhost", event.HTTP, event.None, stamped + `apache2: www.example.org:443 203.0.113.66 - - [22/Nov/2026:18:00:00 +0000] "GET /index.html HTTP/1.1" 200 1523 "-" ` + userAgent},
		{"http/error/apache", event.HTTP, event.AuthFailed, stamped + `apache2[7]: [auth_basic:error] [pid 7250:tid 7261] [client 203.0.113.66:33543] AH01617: user alice: authentication failure for "/private/": Password Mismatch`},
		{"http/error/nginx", event.HTTP, event.Context, stamped + `nginx[7]: 2026/11/22 18:00:00 [error] 12#12: *7 user "alice": password mismatch, client: 203.0.113.66, server: _, request: "GET / HTTP/1.1", host: "www.example.org"`},
	}
}

// TestCommonLines holds that each service has a line that is measured, that it is read as what it is, and that it costs no
// allocation.
func TestCommonLines(t *testing.T) {
	seen := map[event.Service]bool{}
	patterns := compiled(t, vault())
	for _, c := range commonLines() {
		p := parse.New(parse.Options{Patterns: patterns})
		data := []byte(c.line)
		if e := p.Line(data, capturedAt()); e.Kind != c.kind || e.Service != c.service {
			t.Errorf("%s: read as %s of %q: %s", c.name, e.Kind, e.Service, c.line)
		}
		for range 20 {
			p.Line(data, capturedAt())
		}
		if n := testing.AllocsPerRun(200, func() { p.Line(data, capturedAt()) }); n > 0 {
			t.Errorf("%s: %v allocations a line", c.name, n)
		}
		if c.kind == event.AuthFailed {
			seen[c.service] = true
		}
	}
	for _, s := range []event.Service{
		event.SSH, event.MySQL, event.Redis, event.Postgres, event.FTP, event.HTTP, event.Telnet, event.SMTP, event.IMAP, event.PAM,
	} {
		if !seen[s] {
			t.Errorf("no guess of %s is measured", s)
		}
	}
}

// BenchmarkLine reads each of the common lines, and fails where one costs more than the bound.
func BenchmarkLine(b *testing.B) {
	patterns := compiled(b, vault())
	for _, c := range commonLines() {
		b.Run(c.name, func(b *testing.B) {
			p := parse.New(parse.Options{Patterns: patterns})
			data, ref := []byte(c.line), capturedAt()
			b.ReportAllocs()
			var blocks []time.Duration
			for left := block; b.Loop(); left-- {
				if left == 0 {
					left = block
				}
				if left == block {
					blocks = append(blocks, processorTime())
				}
				p.Line(data, ref)
			}
			median, least := costs(blocks)
			b.ReportMetric(float64(median), "cpu-ns/op")
			b.ReportMetric(float64(least), "least-ns/op")
			if median > maxLineCost {
				b.Errorf("%d ns of processor time a line at the median, %d at least; the bound is %d", median.Nanoseconds(), least.Nanoseconds(), maxLineCost.Nanoseconds())
			}
		})
	}
}

// block is how many lines are measured together: half a millisecond's.
const block = 1 << 10

// costs are the median and the least of what a line of a block cost, of which begins were taken.
func costs(begins []time.Duration) (median, least time.Duration) {
	var list []time.Duration
	for i := 1; i < len(begins); i++ {
		list = append(list, (begins[i]-begins[i-1])/block)
	}
	if len(list) == 0 {
		return 0, 0
	}
	slices.Sort(list)
	return list[len(list)/2], list[0]
}

// processorTime is what this process has used; on a busy machine it says more than the clock.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
