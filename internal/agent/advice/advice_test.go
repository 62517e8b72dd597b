package advice_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/agent/advice"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/native"
)

// host is a tree of files under which a host is looked at.
func host(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for path, text := range files {
		path = filepath.Join(root, path)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	return root
}

func texts(found []event.Finding) string {
	var out []string
	for _, f := range found {
		if f.Mend == "" || f.Subject == "" || f.Level == "" {
			return "a finding lacks something"
		}
		out = append(out, f.Text+" → "+f.Mend)
	}
	return strings.Join(out, "\n")
}

func TestMySQL(t *testing.T) {
	t.Parallel()
	const maria, resolve = "usr/sbin/mariadbd", "named by what their address resolves to"
	for name, test := range map[string]struct {
		files      map[string]string
		printed    string
		fails      bool
		redirected []event.Service
		want       []string
		wantNone   bool
	}{
		"redirected, and nothing tells of logins": {
			files: map[string]string{maria: ""}, printed: "--skip-name-resolve\n", redirected: []event.Service{event.SSH, event.MySQL},
			want: []string{"successful logins are in no log", "server_audit_output_type = syslog"},
		},
		"redirected, and a file tells of them": {
			files: map[string]string{maria: ""}, printed: "--skip-name-resolve\n--server_audit_logging=ON\n", redirected: []event.Service{event.MySQL},
			want: []string{"successful logins are in no log"},
		},
		"redirected, and other events are told": {
			files: map[string]string{maria: ""}, printed: "--skip-name-resolve\n--server_audit_logging\n--server_audit_output_type=syslog\n--server_audit_events=QUERY\n",
			redirected: []event.Service{event.MySQL}, want: []string{"successful logins are in no log"},
		},
		"redirected, and told of": {
			files: map[string]string{maria: ""}, redirected: []event.Service{event.MySQL}, wantNone: true,
			printed: "--skip-name-resolve\n--server_audit_logging=ON\n--server-audit-output-type=SYSLOG\n--server_audit_events=query,connect\n",
		},
		"MariaDB as it comes": {
			files: map[string]string{maria: ""}, printed: "--pid-file=/run/mysqld/mysqld.pid\n",
			want: []string{resolve},
		},
		"MariaDB well": {
			files: map[string]string{maria: ""}, printed: "--skip-name-resolve\n--log_warnings=4\n", wantNone: true,
		},
		"MariaDB quiet": {
			files: map[string]string{maria: ""}, printed: "--skip-name-resolve=ON\n--log-warnings=2\n--log-warnings=1\n",
			want: []string{"log_warnings is 1", "looked at: my_print_defaults --mysqld", "SET GLOBAL log_warnings = 2"},
		},
		"the command line of the running server counts most": {
			files:   map[string]string{"proc/7/comm": "mariadbd\n", "proc/7/cmdline": "/usr/sbin/mariadbd\x00--user=mysql\x00-W0\x00"},
			printed: "--skip-name-resolve\n--log-warnings=2\n",
			want:    []string{"log_warnings is 0", "the command line of mariadbd"},
		},
		"MySQL as it comes": {
			printed: "--skip-name-resolve\n", want: []string{"log_error_verbosity is 2", "log_error_verbosity = 3"},
		},
		"MySQL well": {printed: "--skip-name-resolve\n--log-error-verbosity=3\n", wantNone: true},
		"MySQL suppressed": {
			printed: "--skip_name_resolve\n--log-error-verbosity=3\n--log_error_suppression_list=ER_SERVER,MY-010926\n",
			want:    []string{"suppressed", "take MY-010926 out"},
		},
		"nothing to look at": {
			fails: true, want: []string{"nothing of its option files (no such program)"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := texts(advice.Look(t.Context(), advice.Options{
				Formats: []native.Format{{Name: "mysql-error", Service: event.MySQL}}, Root: host(t, test.files),
				Redirected: test.redirected,
				Defaults: func(context.Context) ([]byte, string, error) {
					if test.fails {
						return nil, "", errors.New("no such program")
					}
					return []byte(test.printed), "my_print_defaults --mysqld", nil
				},
			}))
			if test.wantNone {
				require.Empty(t, got)
			}
			for _, want := range test.want {
				require.Contains(t, got, want)
			}
		})
	}
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	const conf = "etc/postgresql/15/main/postgresql.conf"
	for name, test := range map[string]struct {
		files map[string]string
		want  string
	}{
		"no server": {},
		"as Debian has it": {
			files: map[string]string{conf: "log_line_prefix = '%m [%p] %q%u@%d '\t# special values:\n#log_connections = off\n"},
			want:  "looked at: /etc/postgresql/15/main/postgresql.conf",
		},
		"with the address":                 {files: map[string]string{conf: "log_line_prefix = '%m [%p] %h it''s '\n"}},
		"connections":                      {files: map[string]string{conf: "log_line_prefix = '%m [%p] '\nlog_connections = on\n"}},
		"padded":                           {files: map[string]string{conf: "log_line_prefix='%m [%p] %-15h %u '\n"}},
		"a percent sign":                   {files: map[string]string{conf: "log_line_prefix = '%m [%p] %%h '\n"}, want: "log_line_prefix"},
		"behind a name":                    {files: map[string]string{conf: "log_line_prefix = '%m [%p] %u@%d %h '\n"}, want: "before the first name"},
		"behind a name, and connections":   {files: map[string]string{conf: "log_line_prefix = '%m [%p] %u@%d %h '\nlog_connections = yes\n"}},
		"connections, %p without brackets": {files: map[string]string{conf: "log_line_prefix = '%m %p %u '\nlog_connections = on\n"}, want: "[%p] stands nowhere"},
		"connections, sessions only":       {files: map[string]string{conf: "log_line_prefix = '%m %c '\nlog_connections = on\n"}, want: "[%p] stands nowhere"},
		"a list of connections":            {files: map[string]string{conf: "log_line_prefix = '%m [%p] '\nlog_connections = 'receipt,authorization'\n"}},
		"a list without receipt":           {files: map[string]string{conf: "log_line_prefix = '%m [%p] '\nlog_connections = 'authorization'\n"}, want: "log_connections is off"},
		"cut short":                        {files: map[string]string{conf: "log_line_prefix = '%m [%p] '\nlog_connections = 't'\n"}},
		"its own":                          {files: map[string]string{conf: "shared_buffers = 128MB\nlog_connections = on\n"}},
		"names":                            {files: map[string]string{conf: "log_line_prefix = '%m [%p] %h '\nlog_hostname = on # or not\n"}, want: "log_hostname is on"},
		"the command line counts most": {
			files: map[string]string{
				"proc/9/comm": "postgres\n", "proc/9/cmdline": "postgres\x00-D\x00/srv/pg\x00-c\x00log_line_prefix=%m [%p] \x00",
				"srv/pg/postgresql.conf": "log_line_prefix = '%m [%p] %h '\n",
			},
			want: "the command line of postgres",
		},
		"connections without %p": {files: map[string]string{conf: "log_line_prefix = '%m '\nlog_connections = on\n"}, want: "log_line_prefix"},
		"connections off":        {files: map[string]string{conf: "log_line_prefix = '%m [%p] '\nlog_connections = off\n"}, want: "log_line_prefix"},
		"included": {files: map[string]string{
			conf:                                   "log_line_prefix = '%m '\ninclude_dir = 'conf.d'\n",
			"etc/postgresql/15/main/conf.d/a.conf": "LOG_LINE_PREFIX '%m %r '\n",
		}},
		"ALTER SYSTEM counts most": {
			files: map[string]string{
				conf: "data_directory = '/var/lib/postgresql/15/main'\nlog_line_prefix = '%m %h '\n",
				"var/lib/postgresql/15/main/postgresql.auto.conf": "log_line_prefix = '%m '\n",
			},
			want: "log_line_prefix",
		},
		"the one that runs": {
			files: map[string]string{
				"proc/9/comm": "postgres\n", "proc/9/cmdline": "postgres\x00-D\x00/srv/pg\x00", "srv/pg/postgresql.conf": "include 'postgresql.conf'\n",
			},
			want: "/srv/pg/postgresql.conf",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := texts(advice.Look(t.Context(), advice.Options{
				Formats: []native.Format{{Name: "postgres-stderr", Service: event.Postgres}, {Name: "postgres-csv", Service: event.Postgres}},
				Root:    host(t, test.files),
			}))
			if test.want == "" {
				require.Empty(t, got)
			}
			require.Contains(t, got, test.want)
		})
	}
}

func TestForgeable(t *testing.T) {
	t.Parallel()
	root := host(t, map[string]string{
		"var/log/auth.log":  "2026-11-22T18:00:00Z web sshd[1]: msg\n",
		"var/log/proof.log": "1 2026-11-22T18:00:00Z web sshd 1 - [kokkuri@32473 uid=\"0\"] msg\n",
		"var/log/empty.log": "",
	})
	files := []string{"/var/log/auth.log", "/var/log/proof.log", "/var/log/empty.log", "/var/log/none.log"}
	found := advice.Look(t.Context(), advice.Options{Files: files, Root: root})
	require.Len(t, found, 1)
	require.Equal(t, "/var/log/auth.log", found[0].Subject)
	require.Contains(t, found[0].Text, "forge")
	require.Empty(t, advice.Look(t.Context(), advice.Options{Files: files, Root: root, Journal: true}))
}
