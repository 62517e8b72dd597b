package cli_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/deploy"
	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/cli"
	"github.com/kokkuri/kokkuri/internal/config"
	"github.com/kokkuri/kokkuri/internal/event"
)

func redirect(id, source string, state event.State) event.Redirect {
	return event.Redirect{
		ID: id, Source: netip.MustParsePrefix(source), Host: "web", Service: event.SSH, Port: 22, Rule: "ssh-bruteforce", State: state,
		Endpoint: netip.MustParseAddrPort("198.51.100.20:20001"), CreatedAt: now().Add(-3 * time.Minute), ExpiresAt: now().Add(24*time.Hour - 3*time.Minute),
	}
}

func full() *backend {
	return &backend{
		redirects: []event.Redirect{redirect("r1", "203.0.113.66/32", event.Active), redirect("r2", "2001:db8:1:66::/64", event.Expired)},
		offences: []event.Offence{{
			ID: "o1", Rule: "ssh-bruteforce", Host: "web", Service: event.SSH, Source: netip.MustParsePrefix("203.0.113.66/32"), Count: 5,
			FiredAt: now().Add(-time.Hour), Outcome: "redirected", Account: "ro\x1b[2Jot",
			Proof: []event.Proof{{Line: "Failed password for \x1b[31mroot\u202e", Position: event.Position{Sequence: 7, Index: 1}}},
		}, {ID: "o2", Account: "root\x1b]0;x\a", Count: 5, Host: "web"}},
		sessions:  []event.Session{{ID: "s1", Attacker: netip.MustParsePrefix("203.0.113.66/32"), StartedAt: now().Add(-90 * time.Second), EndedAt: now(), BytesIn: 10, BytesOut: 2048}, {ID: "s2", StartedAt: now()}},
		attackers: []api.Attacker{{Source: netip.MustParsePrefix("203.0.113.66/32"), Hosts: []string{"db", "web"}, Live: 1, Redirects: 2}},
		pots:      []event.Pot{{ID: "0123456789abcdef", Name: "pot1", Attacker: netip.MustParsePrefix("203.0.113.66/32"), State: "running", Address: netip.MustParseAddr("10.77.0.2")}},
		hosts: []api.Host{{
			Name: "web", Enrolled: true, Connected: true, LastSeen: now().Add(-5 * time.Second), Services: []event.HostPort{{Service: event.SSH, Port: 22}},
			Findings: []event.Finding{{Level: "error", Subject: "log", Text: "unreadable", Mend: "run as root"}},
		}},
		nodes:   []api.Node{{Name: "node1"}},
		allowed: []api.AllowEntry{{Allowed: api.Allowed{Prefix: netip.MustParsePrefix("192.0.2.0/24")}, Fixed: true}},
		status:  api.Status{Version: "v1", Paused: true, Counters: map[string]map[string]int64{"lines": {"agent": 3}}, StartedAt: now().Add(-49 * time.Hour)},
	}
}

func TestTablesAreForPeople(t *testing.T) {
	t.Parallel()
	w := newWorld(t, full())
	require.Equal(t, ""+
		"SOURCE              HOST  SERVICE  STATE    ENDPOINT             RULE            SINCE   UNTIL   ID\n"+
		"203.0.113.66        web   ssh      active   198.51.100.20:20001  ssh-bruteforce  3m ago  in 23h  r1\n"+
		"2001:db8:1:66::/64  web   ssh      expired  198.51.100.20:20001  ssh-bruteforce  3m ago  -       r2\n", w.ok(t, "redirects ls"))
	require.Equal(t, w.ok(t, "redirects ls"), w.ok(t, "redirects"), "ls is what happens without a word")
	for line, want := range map[string]string{
		"hosts ls":       "web   connected  5s ago     -          ssh:22    -      0          1 error",
		"nodes ls":       "node1  never seen",
		"sessions ls":    "s1  203.0.113.66  -     -        1m ago   1m      -        -        -         -      10 B  2.0 KiB",
		"attackers ls":   "203.0.113.66",
		"pots ls":        "pot1  203.0.113.66  -     -     running  10.77.0.2  -        0123456789ab",
		"allow ls":       "192.0.2.0/24  -      from the configuration",
		"status":         "paused (kokkuri resume)",
		"hosts show web": "error    log: unreadable\n         mend: run as root\n",
	} {
		require.Contains(t, w.ok(t, line), want, line)
	}
}

func TestAttackersBytesAreEscaped(t *testing.T) {
	t.Parallel()
	w := newWorld(t, full())
	for _, line := range []string{"offences ls", "offences show o1"} {
		out := w.ok(t, line)
		require.NotContains(t, out, "\x1b", line)
		require.NotContains(t, out, "\u202e", line)
	}
	require.Contains(t, w.ok(t, "offences show o1"), `7.1:`)
	require.Contains(t, w.ok(t, "offences show o1"), `Failed password for \x1b[31mroot\u202e`)
	require.Contains(t, w.ok(t, "offences ls"), `account root\x1b]0;x\a`)
}

func TestColourIsForTerminals(t *testing.T) {
	t.Parallel()
	w := newWorld(t, full())
	require.NotContains(t, w.ok(t, "redirects ls"), "\x1b")
	w.colour = true
	require.Contains(t, w.ok(t, "redirects ls"), "\x1b[32mactive\x1b[0m ")
}

func TestJSONIsOneDocument(t *testing.T) {
	t.Parallel()
	w := newWorld(t, full())
	for _, line := range []string{
		"redirects ls", "offences ls", "sessions ls", "attackers ls", "pots ls", "hosts ls", "nodes ls", "allow ls", "pause",
		"redirects add 203.0.113.66 --service ssh --host web", "redirects rm r1", "allow add 192.0.2.0/24",
	} {
		var list []map[string]any
		require.NoError(t, json.Unmarshal([]byte(w.ok(t, line+" --json")), &list), line)
	}
	for _, line := range []string{
		"redirects show r1", "offences show o1", "sessions show s1", "attackers show 203.0.113.66", "pots show pot1", "hosts show web", "nodes show node1",
		"status", "resume", "enroll web", "hosts rm web", "version", "allow rm 192.0.2.0/24", "config show",
	} {
		var one map[string]any
		require.NoError(t, json.Unmarshal([]byte(w.ok(t, line+" --json")), &one), line)
	}
	w.env = []string{"KOKKURI_JSON=1"}
	require.True(t, json.Valid([]byte(w.ok(t, "redirects ls"))))
}

func TestRedirectsInJSONHaveTheFieldsOfTheContract(t *testing.T) {
	t.Parallel()
	b := full()
	b.redirects[0].Reason, b.redirects[0].AppliedAt = "x", now().In(time.FixedZone("", 3600))
	w := newWorld(t, b)
	var list []map[string]any
	require.NoError(t, json.Unmarshal([]byte(w.ok(t, "redirects ls --json")), &list))
	for field, want := range map[string]any{
		"id": "r1", "source": "203.0.113.66/32", "host": "web", "service": "ssh", "port": 22.0, "endpoint": "198.51.100.20:20001", "rule": "ssh-bruteforce",
		"state": "active", "reason": "x", "created_at": "2026-11-22T17:57:00Z", "applied_at": "2026-11-22T18:00:00Z", "expires_at": "2026-11-23T17:57:00Z",
	} {
		require.Equal(t, want, list[0][field], field)
	}
}

func TestEmptyLists(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &backend{})
	for line, want := range map[string]string{
		"redirects ls": "Nobody is redirected.\n", "offences ls": "No rule has fired.\n", "sessions ls": "No attacker has reached a honeypot.\n",
		"attackers ls": "No attacker is known.\n", "pots ls": "No attacker has a pot.\n", "allow ls": "The allow-list is empty: kokkuri allow add CIDR\n",
		"hosts ls": "No host is known: kokkuri enroll HOST makes a token for one.\n",
		"nodes ls": "No honeypot node is known: kokkuri enroll --node NAME makes a token for one.\n",
	} {
		require.Equal(t, want, w.ok(t, line), line)
		require.Equal(t, "[]\n", w.ok(t, line+" --json"), line)
	}
}

func TestListsAreLimitedForPeople(t *testing.T) {
	t.Parallel()
	b := &backend{}
	for i := range 60 {
		b.redirects = append(b.redirects, redirect(fmt.Sprint("r", i), "203.0.113.66/32", event.Active))
	}
	w := newWorld(t, b)
	stdout, stderr, _ := w.run(t.Context(), "redirects ls")
	require.Equal(t, 51, strings.Count(stdout, "\n"))
	require.Equal(t, "there are more: --limit 0 shows all\n", stderr)
	require.Equal(t, 61, strings.Count(w.ok(t, "redirects ls --limit 0"), "\n"))
	require.Equal(t, 60, strings.Count(w.ok(t, "redirects ls --json"), `"id"`))
	w.ok(t, "redirects ls --source 203.0.113.0/24 --host web --live --limit 3")
	require.Equal(t, api.Filter{Limit: 4, Host: "web", Source: netip.MustParsePrefix("203.0.113.0/24"), Live: true}, b.filter)
}

func TestWhatIsAskedOfTheServer(t *testing.T) {
	t.Parallel()
	b := full()
	w := newWorld(t, b)
	w.ok(t, "redirects add 2001:db8:1:66::66 --service ssh --all-hosts --ttl 2d --egress none")
	require.Equal(t, api.AddRedirect{Source: netip.MustParsePrefix("2001:db8:1:66::/64"), Service: event.SSH, AllHosts: true, TTL: 48 * time.Hour, Egress: event.EgressNone}, b.added)
	w.ok(t, "redirects rm 203.0.113.66")
	require.Equal(t, api.Selector{Source: netip.MustParsePrefix("203.0.113.66/32")}, b.selected)
	stdout, stderr, _ := w.run(t.Context(), "enroll --node node1 --ttl 10m")
	require.Equal(t, "kk1_token\n", stdout, "the token alone, to be piped")
	require.Contains(t, stderr, "KOKKURI_HONEYPOT_TOKEN=TOKEN kokkuri honeypot")
	require.Equal(t, "node node1 10m0s", b.enrolled)
	require.Equal(t, "Paused: 2 redirects released. Nobody is redirected until: kokkuri resume\n", w.ok(t, "pause"))
}

func TestRsyslogConfig(t *testing.T) {
	t.Parallel()
	b := full()
	w := newWorld(t, b)
	dir := filepath.Join(t.TempDir(), "web")
	stdout, stderr, code := w.run(t.Context(), "rsyslog-config web --server kokkuri.example.org --certificate "+dir)
	require.Zero(t, code, stderr)
	require.Equal(t, "syslog web", b.enrolled)
	for _, want := range []string{
		`target="kokkuri.example.org"`, `port="10515"`, `StreamDriver="gtls"`, `StreamDriverAuthMode="x509/name"`, `StreamDriverPermittedPeers="kokkuri-server"`,
		`StreamDriver.KeyFile="/etc/rsyslog.d/kokkuri/key.pem"`, "until 2027-11-25", `queue.filename="kokkuri"`, `queue.saveOnShutdown="on"`, `action.resumeRetryCount="-1"`,
	} {
		require.Contains(t, stdout, want)
	}
	require.Contains(t, stderr, "readable by root only")
	for file, want := range map[string]string{"key.pem": "-----BEGIN PRIVATE KEY-----", "cert.pem": "-----BEGIN CERTIFICATE REQUEST-----", "ca.pem": "the authority"} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		require.NoError(t, err)
		require.Contains(t, string(text), want)
		info, err := os.Stat(filepath.Join(dir, file))
		require.NoError(t, err)
		require.EqualValues(t, 0o600, info.Mode().Perm(), file)
	}
	shipped, err := deploy.Rsyslog.ReadFile("rsyslog/kokkuri.conf")
	require.NoError(t, err)
	require.Equal(t, strings.Replace(string(shipped), "by rsyslog 8.\n", "by rsyslog 8. For web.\n", 1), w.ok(t, "rsyslog-config web --tcp --server kokkuri.example.net"))
	require.Contains(t, w.ok(t, "rsyslog-config web --udp --server [2001:db8::1]:514"), `target="2001:db8::1"`)
	require.Contains(t, w.ok(t, "rsyslog-config loghost --relay --server 192.0.2.2 --driver ossl"), `set $.kokkuri_writer = $structured-data;`)
	_, stderr, _ = w.run(t.Context(), "rsyslog-config web")
	require.Contains(t, stderr, "listens at no address that others reach")
	for line, want := range map[string]string{
		"rsyslog-config Web":                            "name: found",
		"rsyslog-config web --tcp --udp":                "can't be used together",
		"rsyslog-config web --server a:b":               "--server: found",
		`rsyslog-config web --server a"b`:               "can't stand in rsyslog's configuration",
		"rsyslog-config web --path rel":                 "--path: found",
		"rsyslog-config web --tcp --certificate " + dir: "--certificate is for TLS",
	} {
		_, stderr, code := w.run(t.Context(), line)
		require.Equal(t, cli.ExitUsage, code, line)
		require.Contains(t, stderr, want)
	}
}

func TestExitCodesAndHints(t *testing.T) {
	t.Parallel()
	w := newWorld(t, full())
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	require.NoError(t, os.WriteFile(bad, []byte("server:\n  rulez: x\n"), 0o600))
	for line, want := range map[string]struct {
		code   int
		stderr string
	}{
		"":                           {2, "kokkuri: expected one of \"up\", \"server\", \"honeypot\", \"agent\", \"status\", ...\ntry: kokkuri --help\n"},
		"redirect":                   {2, "kokkuri: unexpected argument redirect, did you mean \"redirects\"?\ntry: kokkuri --help\n"},
		"redirects add 203.0.113.66": {2, "kokkuri: missing flags: --host=H or --all-hosts, --service=S\ntry: kokkuri redirects add --help\n"},
		"redirects add 203.0.113.0/24 --service ssh --host web": {2, "kokkuri: source: found \"203.0.113.0/24\"\n" +
			"allowed: an address, such as 203.0.113.66 or 2001:db8::1 (its /64), or a prefix of 32 bits (IPv4), 64 or 128 bits (IPv6)\n"},
		"redirects add 203.0.113.66 --service ssh --host closed":           {1, "kokkuri: refused: the allow-list covers it\nkokkuri allow ls lists it\n"},
		"redirects add 203.0.113.66 --service ssh --host web --egress all": {2, "kokkuri: --egress must be one of \"none\",\"sinkhole\",\"record\",\"\" but got \"all\"\ntry: kokkuri redirects add --help\n"},
		"redirects ls --limit=-1":                                          {2, "kokkuri: --limit: found -1\nallowed: 0 (all) or more\n"},
		"redirects ls --source web":                                        {2, "kokkuri: --source: found \"web\"\nallowed: a network in CIDR notation or an address, such as 192.0.2.0/24 or 2001:db8::1\n"},
		"offences show o9":                                                 {1, "kokkuri: there is no offence \"o9\"\nkokkuri offences ls lists them\n"},
		"enroll Web":                                                       {2, "kokkuri: name: found \"Web\"\nallowed: a lower-case name of letters, digits and hyphens, at most 63 long\n"},
		"nodes rm node9":                                                   {1, "kokkuri: there is no node \"node9\"\nkokkuri nodes ls lists them\n"},
		"events tail --format xml":                                         {2, "kokkuri: --format must be one of \"text\",\"json\",\"cowrie\" but got \"xml\"\ntry: kokkuri events tail --help\n"},
		"config check " + bad:                                              {2, "kokkuri: configuration: " + bad + ":2: server.rulez: unknown key; did you mean rules?; allowed: "},
		"server --config " + bad:                                           {2, bad + ":2: server.rulez: unknown key"},
		"server --bus-listen here":                                         {2, "kokkuri: --bus-listen: found \"here\"; allowed: an address with a port"},
		"server --exempt-days 9999":                                        {2, "kokkuri: configuration: flag --exempt-days: server.exempt_days: found 9999; allowed: 0 to 3650\n"},
		"explain /nonexistent":                                             {1, "kokkuri: explain is not part of this binary\n"},
		"redirects ls --socket /nowhere":                                   {1, "kokkuri: the server is not running here (no /nowhere)\nstart it with `kokkuri server` or `kokkuri up`, or say with --socket where it answers\n"},
		"config check /nonexistent.yaml":                                   {2, "kokkuri: configuration: /nonexistent.yaml: there is no such file; allowed: a configuration file (--config, KOKKURI_CONFIG)\n"},
	} {
		_, stderr, code := w.run(t.Context(), line)
		require.Equal(t, want.code, code, "%s: %s", line, stderr)
		require.Contains(t, stderr, want.stderr, line)
	}
}

func TestRolesGetTheirConfigurationAndTheContext(t *testing.T) {
	t.Parallel()
	w := newWorld(t, full())
	file := filepath.Join(t.TempDir(), "k.yaml")
	require.NoError(t, os.WriteFile(file, []byte("server: {exempt_days: 7, dry_run: true, rules: /from/file}\nlog: {level: error}\n"), 0o600))
	w.env = []string{"KOKKURI_SERVER_EXEMPT_DAYS=8", "KOKKURI_SERVER_RULES=/from/environment", "KOKKURI_CONFIG=" + file}
	started := make(chan config.Server, 1)
	w.roles.Server = func(ctx context.Context, c config.Server, log *slog.Logger) error {
		if log.Enabled(ctx, slog.LevelWarn) {
			return errors.New("log.level is not what the file says")
		}
		started <- c
		<-ctx.Done()
		return nil
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		_, _, code := w.run(ctx, "server --exempt-days 9 --no-dry-run --syslog-listen-tcp none --allow 192.0.2.1,192.0.2.2 --allow 192.0.2.3")
		ended <- code
	}()
	c := <-started
	require.Equal(t, 9, c.ExemptDays, "flag over environment over file")
	require.Equal(t, "/from/environment", c.Rules)
	require.False(t, c.DryRun)
	require.Empty(t, c.Syslog.ListenTCP)
	require.Len(t, c.Allow, 3)
	stop()
	require.Equal(t, cli.ExitDone, <-ended)
}

func TestARoleThatFailsIsToldAndFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t, full())
	w.roles.Up = func(context.Context, config.Up, *slog.Logger) error { return errors.New("the engine is down") }
	_, stderr, code := w.run(t.Context(), "up --server-exempt-days 3")
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, stderr, "for a trial only")
	require.Contains(t, stderr, "kokkuri: the engine is down\n")
}

func TestExplainReadsFilesAndTheStandardInput(t *testing.T) {
	t.Parallel()
	w := newWorld(t, full())
	var asked cli.Explain
	var logs []cli.Log
	w.roles.Explain = func(_ context.Context, o cli.Explain, list []cli.Log, out io.Writer) error {
		asked, logs = o, list
		for _, l := range list {
			in, err := l.Open()
			if err != nil {
				return err
			}
			if _, err := io.Copy(out, in); err != nil {
				return err
			}
			if err := in.Close(); err != nil {
				return err
			}
		}
		return nil
	}
	w.stdin = "from stdin\n"
	require.Equal(t, "from stdin\n", w.ok(t, "explain --summary --service ssh -"))
	require.Equal(t, event.SSH, asked.Service)
	require.True(t, asked.Summary)
	require.Empty(t, asked.Config.Rules)
	require.True(t, asked.Config.HTTP.ShippedLogins)
	file := filepath.Join(t.TempDir(), "log")
	require.NoError(t, os.WriteFile(file, []byte("from file\n"), 0o600))
	require.NoError(t, os.Chtimes(file, now(), now()))
	require.Equal(t, "from file\n", w.ok(t, "explain --json "+file))
	require.True(t, asked.JSON)
	require.True(t, logs[0].Written.Equal(now()))
	require.Equal(t, int64(len("from file\n")), logs[0].Size)
	require.Equal(t, "from file\nfrom stdin\n", w.ok(t, "explain "+file+" -"))
	require.True(t, logs[1].Once)
	settings := filepath.Join(t.TempDir(), "kokkuri.yaml")
	require.NoError(t, os.WriteFile(settings, []byte("server: {rules: /rules/of/mine.yaml, http: {shipped_logins: false}}\n"), 0o600))
	w.ok(t, "--config "+settings+" explain "+file)
	require.Equal(t, "/rules/of/mine.yaml", asked.Config.Rules)
	require.False(t, asked.Config.HTTP.ShippedLogins)
	w.ok(t, "--config "+settings+" explain --rules other.yaml "+file)
	require.Equal(t, "other.yaml", asked.Config.Rules)
	for args, want := range map[string]string{
		filepath.Dir(file): "is a folder", "- -": "named twice", "--service nonsense -": "found nonsense", file + ".gone": "no such file",
	} {
		_, stderr, code := w.run(t.Context(), "explain "+args)
		require.Equal(t, cli.ExitUsage, code, args)
		require.Contains(t, stderr, want)
	}
}

func TestEventsTail(t *testing.T) {
	t.Parallel()
	b := full()
	b.events = make(chan api.Watched, 2)
	w := newWorld(t, b)
	e := event.Event{Service: event.SSH, Kind: event.AuthFailed, Source: netip.MustParseAddr("203.0.113.66"), Account: "a\x1bb", Method: "password", Host: "web", Time: now()}
	for line, want := range map[string]string{
		"events tail":               "18:00:00.000 web ssh auth_failed 203.0.113.66 a\\x1bb password\n",
		"events tail --format json": `"account":"a\u001bb"`,
	} {
		b.events = make(chan api.Watched, 2)
		b.events <- api.Watched{Event: &e}
		close(b.events)
		require.Contains(t, w.ok(t, line), want, line)
	}
}

func TestLabReports(t *testing.T) {
	t.Parallel()
	w := newWorld(t, full())
	good := true
	w.roles.Lab.Attack = func(_ context.Context, o cli.LabOptions) (any, bool, error) {
		_, err := io.WriteString(o.Out, "progress\n")
		return map[string]bool{"ok": good}, good, err
	}
	stdout, stderr, code := w.run(t.Context(), "lab attack --json")
	require.Equal(t, cli.ExitDone, code)
	require.JSONEq(t, `{"ok":true}`, stdout)
	require.Equal(t, "progress\n", stderr, "progress must not be in the document")
	require.Equal(t, "progress\n", w.ok(t, "lab attack"))
	good = false
	stdout, _, code = w.run(t.Context(), "lab attack --json")
	require.Equal(t, cli.ExitFailed, code)
	require.JSONEq(t, `{"ok":false}`, stdout)
}

func TestDoctor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, full())
	w.env = []string{"KOKKURI_STATE_DIR=" + t.TempDir(), "KOKKURI_SERVER_BUS_LISTEN=127.0.0.1:0x"}
	stdout, _, code := w.run(t.Context(), "doctor --role server --json")
	require.Equal(t, cli.ExitFailed, code)
	var report struct {
		OK       bool            `json:"ok"`
		Findings []event.Finding `json:"findings"`
	}
	require.NoError(t, json.Unmarshal([]byte(stdout), &report))
	require.False(t, report.OK)
	require.Equal(t, "configuration", report.Findings[0].Subject, "what is worst comes first")
	require.Contains(t, report.Findings[0].Text, "KOKKURI_SERVER_BUS_LISTEN")
	for _, f := range report.Findings {
		if f.Level != "ok" {
			require.NotEmpty(t, f.Mend, f.Text)
		}
	}
}

// TestDoctorAsksTheServer: what the server that runs here heard of hosts and their logs is doctor's too.
func TestDoctorAsksTheServer(t *testing.T) {
	t.Parallel()
	b := full()
	b.status.Findings = []event.Finding{{Level: "warning", Subject: "host web", Text: "18 lines were forged", Mend: "look"}}
	w := newWorld(t, b)
	w.env = []string{"KOKKURI_STATE_DIR=" + t.TempDir()}
	stdout, _, _ := w.run(t.Context(), "doctor --role server")
	require.Contains(t, stdout, "18 lines were forged")
	require.Contains(t, stdout, "it answers on "+w.socket)
	stdout, _, _ = w.run(t.Context(), "doctor --role agent")
	require.NotContains(t, stdout, "18 lines were forged", "it is the server's to say")
	w.socket = "/nowhere.sock"
	stdout, _, _ = w.run(t.Context(), "doctor --role server")
	require.Contains(t, stdout, "none answers on /nowhere.sock")
}

// TestEveryKeyHasAFlag compares the flags with the keys of the configuration file.
func TestEveryKeyHasAFlag(t *testing.T) {
	t.Parallel()
	w := newWorld(t, full())
	for command, settings := range map[string]any{
		"server": &config.Server{}, "honeypot": &config.Honeypot{}, "agent": &config.Agent{}, "up": &config.Up{},
	} {
		help := w.ok(t, command+" --help")
		for _, leaf := range config.Leaves(settings) {
			if !leaf.Scalar() {
				continue
			}
			key := leaf.Key
			if command != "up" {
				key = strings.TrimPrefix(key, command+".")
			}
			flag := "--" + strings.NewReplacer(".", "-", "_", "-").Replace(key)
			if leaf.Value.Kind().String() == "bool" {
				flag = "--[no-]" + strings.TrimPrefix(flag, "--")
			}
			require.Regexp(t, `\s`+strings.NewReplacer("[", `\[`, "]", `\]`).Replace(flag)+`[\s=]`, help, "%s of %s", leaf.Key, command)
			require.Contains(t, strings.Join(strings.Fields(help), " "), "$"+leaf.Env(), "%s of %s", leaf.Key, command)
		}
	}
}
