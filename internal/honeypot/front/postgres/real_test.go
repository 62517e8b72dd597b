package postgres_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/fronttest"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/relay"
)

func TestWhoGetsIn(t *testing.T) {
	for _, method := range []string{"scram-sha-256", "md5", "password"} {
		address := server(t, method)
		for _, more := range []string{"sslmode=disable", "sslmode=require", "sslmode=prefer gssencmode=disable"} {
			t.Run(method+" "+more, func(t *testing.T) {
				s := open(t, address)
				refused := func(password string) {
					t.Helper()
					_, err := psql(t, s.Address, "postgres", password, more, one)
					require.ErrorContains(t, err, `FATAL:  password authentication failed for user "postgres"`)
				}
				for range 3 { // a client whose password is stale gets in never
					refused(stale)
				}
				if method == "scram-sha-256" { // nobody knows what was guessed, so that it counts nothing
					for range 3 {
						refused(wrong)
					}
				}
				_, err := psql(t, s.Address, "postgres", "", more, one)
				require.ErrorContains(t, err, "fe_sendauth: no password supplied")
				out, err := psql(t, s.Address, "postgres", right, more, "SELECT 1, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
				require.NoError(t, err, "the second distinct guess")
				assert.Equal(t, map[bool]string{true: "1|f\n", false: "1|t\n"}[more == "sslmode=disable"], out)
				refused(wrong)
				refused(own)
				_, err = psql(t, s.Address, "postgres", right, more, one)
				require.NoError(t, err)
				var guesses []string
				require.Eventually(t, func() bool { // a client that prefers TLS tries each again without
					guesses = fronttest.Guessed(s.Ended(t, 8)...)
					return guesses[len(guesses)-1] == "postgres true"
				}, time.Minute, 10*time.Millisecond)
				assert.Equal(t, 2, strings.Count(strings.Join(guesses, ","), "postgres true"), guesses)
			})
		}
	}
}

// A client that asks for its channel to be bound is let in, with the host's certificate.
func TestBoundChannel(t *testing.T) {
	s := open(t, server(t, "scram-sha-256"))
	letIn(t, s)
	_, err := psql(t, s.Address, "postgres", right, "sslmode=require channel_binding=require", one)
	require.NoError(t, err)
	var client *event.Client
	for _, e := range s.Ended(t, 3)[2].Evidence {
		if e.Client != nil {
			client = e.Client
		}
	}
	require.NotNil(t, client)
	assert.Regexp(t, `^t13i\d{4}[0-9a-z]{2}_[0-9a-f]{12}_[0-9a-f]{12}$`, client.JA4)
}

// An account that the pot does not have is made when a guess at it is accepted.
func TestAccountOfTheAttackers(t *testing.T) {
	for _, method := range []string{"scram-sha-256", "md5"} {
		t.Run(method, func(t *testing.T) {
			address := server(t, method)
			s := open(t, address)
			in := func(account, password string) (string, error) {
				return psql(t, s.Address, account, password, "sslmode=disable", "SELECT current_user")
			}
			_, err := in("admin", wrong)
			require.EqualError(t, err, fmt.Sprintf(`psql: error: connection to server at "127.0.0.1", port %s failed: FATAL:  password authentication failed for user "admin"`, portOf(t, s.Address)))
			out, err := in("admin", right)
			require.NoError(t, err)
			assert.Equal(t, "admin\n", out)
			_, err = psql(t, s.Address, "admin", right, "sslmode=disable", "ALTER USER admin PASSWORD 'of their own'")
			require.NoError(t, err)
			_, err = in("admin", right)
			require.Error(t, err, "it has changed its password")
			_, err = psql(t, s.Address, "admin", "of their own", "sslmode=disable", "SELECT 'still noted'")
			require.NoError(t, err, "and the pot's server decides by itself")
			sessions := s.Ended(t, 5)
			assert.Equal(t, "SELECT 'still noted'", string(fronttest.Asked(sessions[4])[0].Args[1]))
		})
	}
}

func portOf(t *testing.T, address string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	return port
}

// An account that the pot has keeps what it may.
func TestAccountOfThePot(t *testing.T) {
	address := server(t, "scram-sha-256")
	_, err := psql(t, address, "postgres", own, "", "CREATE USER shop PASSWORD 'x'")
	require.NoError(t, err)
	s := open(t, address)
	_, err = psql(t, s.Address, "shop", wrong, "sslmode=disable", one)
	require.Error(t, err)
	_, err = psql(t, s.Address, "shop", right, "sslmode=disable", one)
	require.NoError(t, err)
	_, err = psql(t, s.Address, "shop", right, "sslmode=disable", "CREATE ROLE other")
	require.ErrorContains(t, err, "permission denied to create role")
}

// Of a guess the password is kept where it can be told, and what was made of it in the form in which it can be guessed; of people who
// may be honest neither.
func TestWhatIsKeptOfGuesses(t *testing.T) {
	for method, want := range map[string][]string{
		"scram-sha-256": {"admin", `^\$scram-sha-256\$n=.*,r=.+,r=.+,s=.+,i=4096,c=biws,r=.+,p=.+$`, "", `^\$scram-sha-256\$`},
		"md5":           {"admin", `^\$postgres\$postgres\*[0-9a-f]{8}\*[0-9a-f]{32}$`, "", `^\$postgres\$postgres\*`},
		"password":      {"admin", "^$", stale, "^$"},
	} {
		t.Run(method, func(t *testing.T) {
			address := server(t, method)
			s := open(t, address)
			for _, password := range []string{wrong, stale} {
				_, _ = psql(t, s.Address, "postgres", password, "sslmode=disable", one)
			}
			var got []event.Login
			for _, session := range s.Ended(t, 2) {
				for _, e := range session.Evidence {
					if e.Login != nil {
						got = append(got, *e.Login)
					}
				}
			}
			require.Len(t, got, 2)
			for i, login := range got {
				assert.Equal(t, want[2*i], string(login.Password))
				assert.Regexp(t, want[2*i+1], string(login.Response))
				assert.Equal(t, event.Bytes("postgres"), login.Account)
			}

			honest := open(t, address, fronttest.Known)
			for range 2 {
				_, err := psql(t, honest.Address, "postgres", stale, "sslmode=disable", one)
				require.Error(t, err)
			}
			for _, session := range honest.Ended(t, 2) {
				for _, e := range session.Evidence {
					if e.Login != nil {
						assert.Empty(t, e.Login.Response)
						assert.Empty(t, e.Login.Password)
						assert.Equal(t, fronttest.Hashed, e.Login.Hash)
					}
				}
				data, err := os.ReadFile(session.Recording)
				require.NoError(t, err)
				assert.NotContains(t, string(data), stale)
			}
		})
	}
}

// An image that does not say how one logs in has its own accounts open.
func TestServerOfWhichNothingIsKnown(t *testing.T) {
	address := server(t, "scram-sha-256")
	s := openTo(t, func() front.Stay { return fronttest.Stay{Address: address} })
	_, err := psql(t, s.Address, "postgres", wrong, "sslmode=require", one)
	require.Error(t, err)
	_, err = psql(t, s.Address, "postgres", own, "sslmode=require", one)
	require.NoError(t, err)
	assert.Equal(t, event.Bytes(one), fronttest.Asked(s.Ended(t, 2)[1])[0].Args[1])
}

func TestQueriesAreEvidence(t *testing.T) {
	s := open(t, server(t, "scram-sha-256"))
	letIn(t, s)
	file := filepath.Join(t.TempDir(), "loot")
	content := strings.Repeat("root:x\n", 30_000)
	require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
	for i, more := range []string{"sslmode=disable", "sslmode=require"} {
		_, err := psql(t, s.Address, "postgres", right, more, "CREATE TEMP TABLE loot (line text)", "-v", "ON_ERROR_STOP=0",
			"-c", `\copy loot FROM '`+file+`'`, "-c", "SELECT count(*) FROM loot", "-c", "COPY loot FROM PROGRAM 'exit 7'", "-c", "SELECT lo_import('/nowhere')",
			"-c", "SELECT 'after'")
		require.NoError(t, err)
		got := fronttest.Asked(s.Ended(t, 3+i)[2+i])
		require.Len(t, got, 6)
		assert.Equal(t, []event.Bytes{"Query", "CREATE TEMP TABLE loot (line text)"}, got[0].Args)
		assert.Equal(t, event.Bytes("CREATE TABLE"), got[0].Answer)
		assert.True(t, strings.HasPrefix(content, string(got[1].Args[2])), "the start of what was copied")
		assert.True(t, got[1].Truncated)
		assert.Greater(t, got[1].Size, int64(len(content)))
		assert.Equal(t, event.Bytes("COPY 30000"), got[1].Answer)
		assert.Equal(t, event.Bytes("SELECT 1"), got[2].Answer)
		assert.Equal(t, event.Bytes("COPY loot FROM PROGRAM 'exit 7'"), got[3].Args[1])
		assert.Equal(t, event.Bytes(`ERROR 38000: program "exit 7" failed`), got[3].Answer)
		assert.True(t, got[3].Failed)
		assert.True(t, got[4].Failed)
		assert.False(t, got[5].Failed)
		assert.Positive(t, got[5].Answered)
	}
}

// connect is a connection of a Go driver.
func connect(t *testing.T, address, password string) *pgx.Conn {
	t.Helper()
	cfg, err := pgx.ParseConfig("postgres://postgres@" + address + "/shop?sslmode=disable")
	require.NoError(t, err)
	cfg.Password = password
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func TestRealClients(t *testing.T) {
	address := server(t, "scram-sha-256")
	s := open(t, address)
	letIn(t, s)
	ctx := t.Context()
	conn := connect(t, s.Address, right)
	_, err := conn.Exec(ctx, "CREATE TABLE t (id int, body text)")
	require.NoError(t, err)
	_, err = conn.Exec(ctx, "INSERT INTO t VALUES ($1, $2), ($3, $4)", 1, strings.Repeat("y", 17<<20), 2, "it's")
	require.NoError(t, err)
	var n, size int
	var text string
	require.NoError(t, conn.QueryRow(ctx, "SELECT $1::int + 1, $2::text, length(body) FROM t WHERE id = 1", 41, "a'b").Scan(&n, &text, &size))
	assert.Equal(t, []any{42, "a'b", 17 << 20}, []any{n, text, size})
	batch := &pgx.Batch{}
	for i := range 100 {
		batch.Queue("SELECT $1::int", i)
	}
	results := conn.SendBatch(ctx, batch)
	for i := range 100 {
		require.NoError(t, results.QueryRow().Scan(&n))
		assert.Equal(t, i, n)
	}
	require.NoError(t, results.Close())
	copied, err := conn.CopyFrom(ctx, pgx.Identifier{"t"}, []string{"id", "body"}, pgx.CopyFromRows([][]any{{3, "x"}, {4, nil}}))
	require.NoError(t, err)
	assert.Equal(t, int64(2), copied)

	// A query is cancelled by another connection.
	sleeping, cancel := context.WithCancel(ctx)
	defer cancel()
	time.AfterFunc(200*time.Millisecond, func() { _ = conn.PgConn().CancelRequest(ctx) })
	_, err = conn.Exec(sleeping, "SELECT pg_sleep(60)")
	require.ErrorContains(t, err, "canceling statement due to user request")

	dump := func(address, password, more string) string {
		t.Helper()
		out, err := run(t, "pg_dump", address, "postgres", password, "dbname=shop "+more)
		require.NoError(t, err)
		return regexp.MustCompile(`(?m)^\\(un)?restrict .*$`).ReplaceAllString(out, "")
	}
	straight := dump(address, own, "")
	for _, more := range []string{"sslmode=disable", "sslmode=require"} {
		assert.True(t, straight == dump(s.Address, right, more), "the same dump with %s", more) //nolint:testifylint // it is 17 MiB
	}
	require.NoError(t, conn.Close(ctx))
	var values []string
	require.Eventually(t, func() bool {
		for _, session := range s.Ended(t, 3) {
			for _, q := range fronttest.Asked(session) {
				if q.Args[0] == "Bind" && len(q.Args) == 3 && q.Args[1] == "\x00\x00\x00)" {
					values = append(values, string(q.Args[2]))
				}
			}
		}
		return len(values) > 0
	}, time.Minute, 20*time.Millisecond)
	assert.Equal(t, "a'b", values[0], "the parameters of a statement are evidence")
}

func TestTenThousandGarbageConnections(t *testing.T) {
	fronttest.Garbage(t, open(t, server(t, "scram-sha-256")),
		"\x00", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\xff\xff\xff\xff", "\x00\x00\x00\x08\x04\xd2\x16\x2f", "\x00\x00\x00\x08\x04\xd2\x16\x30", "\x16\x03\x01",
		"\x00\x00\x00\x08\x04\xd2\x16\x2f\x16\x03\x01\x00\x05", "\x00\x00\x00\x19\x00\x03\x00\x00user\x00postgres\x00\x00p\x00\x00\x00\x10SCRAM", "\x00\x00\x00\x07")
}

// Who is silent, or begins byte by byte, is cut off by the pot's server as by any.
func TestSlowLoginEndsWhenTheServersPatienceDoes(t *testing.T) {
	s := open(t, server(t, "scram-sha-256", "authentication_timeout=1s"))
	for _, says := range []string{"", "\x00\x00\x00", "\x00\x00\x00\x19\x00\x03\x00\x00user\x00postgres\x00\x00", "\x00\x00\x00\x19\x00\x03\x00\x00user"} {
		conn := s.Dial(t)
		_, err := io.WriteString(conn, says)
		require.NoError(t, err)
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
		_, err = io.Copy(io.Discard, conn)
		require.NoError(t, err)
		require.NoError(t, conn.Close())
	}
	for _, session := range s.Ended(t, 4) {
		assert.Equal(t, relay.PotClosed, session.Reason)
	}
}

// What a client says of itself is evidence, and no command.
func TestParametersOfAClient(t *testing.T) {
	s := open(t, server(t, "scram-sha-256"))
	_, err := psql(t, s.Address, "postgres", wrong, "sslmode=disable application_name=nmap", one)
	require.Error(t, err)
	session := s.Ended(t, 1)[0]
	said := map[string]string{}
	for _, e := range session.Evidence {
		if e.Variable != nil {
			said[string(e.Variable.Name)] = string(e.Variable.Value)
		}
	}
	assert.Equal(t, []string{"postgres", "postgres", "nmap"}, []string{said["user"], said["database"], said["application_name"]})
	assert.Empty(t, fronttest.Asked(session))
}
