package mysql_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/fronttest"
)

const one = "SELECT 1"

func TestWhoGetsIn(t *testing.T) {
	s := open(t, server(t))
	for range 3 { // a client whose password is stale gets in never
		require.EqualError(t, client(t, s.Address, "root", "stale", "", "-e", one),
			"ERROR 1045 (28000): Access denied for user 'root'@'127.0.0.1' (using password: YES)")
	}
	require.EqualError(t, client(t, s.Address, "root", "", "", "-e", one),
		"ERROR 1045 (28000): Access denied for user 'root'@'127.0.0.1' (using password: NO)")
	require.NoError(t, client(t, s.Address, "root", right, "", "-e", one), "the second distinct guess")
	require.Error(t, client(t, s.Address, "root", "stale", "", "-e", one))
	require.Error(t, client(t, s.Address, "root", own, "", "-e", one), "the pot's own password is no attacker's")
	require.NoError(t, client(t, s.Address, "root", right, "", "-e", one))
	sessions := s.Ended(t, 8)
	assert.Equal(t, []string{
		"root false", "root false", "root false", "root false", "root true", "root false", "root false", "root true",
	}, fronttest.Guessed(sessions...))
}

// An account that the pot does not have is made when a guess at it is accepted.
func TestAccountOfTheAttackers(t *testing.T) {
	address := server(t)
	s := open(t, address)
	require.Error(t, client(t, s.Address, "admin", "wrong", "", "-e", one))
	out, err := run(t, "mariadb", s.Address, "admin", right, "", "-N", "-e", "SELECT CURRENT_USER(); CREATE TABLE shop.t (a INT)")
	require.NoError(t, err)
	assert.Equal(t, "admin@%\n", out)
	require.NoError(t, client(t, address, "root", own, "", "-e", "ALTER USER admin@'%' IDENTIFIED BY 'another'"))
	require.Error(t, client(t, s.Address, "admin", right, "", "-e", one), "it has changed its password")
	require.NoError(t, client(t, s.Address, "admin", "another", "", "-e", "SELECT 'still noted'", "--compress"), "and the pot's server decides by itself")
	last := s.Ended(t, 4)[3]
	assert.Equal(t, []string{"admin true"}, fronttest.Guessed(last))
	assert.Equal(t, event.Bytes("SELECT 'still noted'"), fronttest.Asked(last)[len(fronttest.Asked(last))-2].Args[1])
}

// An account that the pot has keeps what it may.
func TestAccountOfThePot(t *testing.T) {
	address := server(t)
	require.NoError(t, client(t, address, "root", own, "", "-e", "CREATE USER shop@'%' IDENTIFIED BY 'x'; GRANT SELECT ON shop.* TO shop@'%'"))
	s := open(t, address)
	require.Error(t, client(t, s.Address, "shop", "wrong", "", "-e", one))
	require.NoError(t, client(t, s.Address, "shop", right, "", "-e", one))
	require.ErrorContains(t, client(t, s.Address, "shop", right, "", "-e", "CREATE TABLE shop.t (a INT)"), "denied")
}

// A guess is kept in the form in which password crackers read it, and of people who may be honest not at all.
func TestResponsesAreKept(t *testing.T) {
	address := server(t)
	s := open(t, address)
	require.Error(t, client(t, s.Address, "root", "wrong", "", "-e", one))
	require.Error(t, client(t, s.Address, "root", "wrong", "", "-e", one))
	sessions := s.Ended(t, 2)
	var responses []string
	for _, session := range sessions {
		for _, e := range session.Evidence {
			if e.Login != nil {
				responses = append(responses, string(e.Login.Response))
				assert.Empty(t, e.Login.Password)
				assert.Equal(t, "mysql_native_password", e.Login.Method)
			}
		}
	}
	require.Len(t, responses, 2)
	assert.Regexp(t, `^\$mysqlna\$[0-9a-f]{40}\*[0-9a-f]{40}$`, responses[0])
	assert.Equal(t, responses[0], responses[1], "the same guess is the same response")

	// What is guessed often is told by its response.
	require.NoError(t, client(t, s.Address, "root", "qwerty", "", "-e", one))
	for _, e := range s.Ended(t, 3)[2].Evidence {
		if e.Login != nil {
			assert.Equal(t, event.Bytes("qwerty"), e.Login.Password)
			assert.NotEmpty(t, e.Login.Response)
		}
	}

	honest := open(t, address, fronttest.Known)
	require.Error(t, client(t, honest.Address, "root", "wrong", "", "-e", one))
	session := honest.Ended(t, 1)[0]
	for _, e := range session.Evidence {
		if e.Login != nil {
			assert.Empty(t, e.Login.Response)
			assert.Equal(t, fronttest.Hashed, e.Login.Hash)
		}
	}
}

// An image that does not say how one logs in has its own accounts open.
func TestServerOfWhichNothingIsKnown(t *testing.T) {
	address := server(t)
	s := openTo(t, func() front.Stay { return fronttest.Stay{Address: address} })
	require.Error(t, client(t, s.Address, "root", "wrong", "", "-e", one))
	require.NoError(t, client(t, s.Address, "root", own, "", "-e", one))
	sessions := s.Ended(t, 2)
	assert.Equal(t, []string{"root false", "root true"}, fronttest.Guessed(sessions...))
	assert.Contains(t, fmt.Sprint(fronttest.Asked(sessions[1])), one)
}

func TestStatementsAreEvidence(t *testing.T) {
	s := open(t, server(t))
	letIn(t, s)
	file := filepath.Join(t.TempDir(), "passwords")
	content := strings.Repeat("root:x\n", 300_000) // many packets: their numbers begin anew
	require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
	script := fmt.Sprintf(`USE shop;
CREATE TABLE loot (line VARCHAR(200));
LOAD DATA LOCAL INFILE '%s' INTO TABLE loot;
SELECT COUNT(*) FROM loot;
SELECT '<?php system($_GET[0]); ?>' INTO OUTFILE '/nowhere/shell.php';
CREATE FUNCTION sys_exec RETURNS INTEGER SONAME 'udf.so';
SELECT 'after';
`, file)
	for _, more := range []string{"--skip-compress", "--compress"} {
		require.NoError(t, client(t, s.Address, "root", right, strings.ReplaceAll(script, "loot", "loot_"+strings.Trim(more, "-")[:4]), "--local-infile=1", "--force", more))
	}
	for _, session := range s.Ended(t, 4)[2:] {
		var got []event.Request
		for _, r := range fronttest.Asked(session) {
			if len(r.Args) > 1 && r.Args[1] != "SELECT DATABASE()" && !strings.Contains(string(r.Args[1]), "@@") { // the client's own
				got = append(got, r)
			}
		}
		require.Len(t, got, 7)
		assert.Equal(t, []event.Bytes{"COM_INIT_DB", "shop"}, got[0].Args)
		assert.Equal(t, event.Bytes("COM_QUERY"), got[1].Args[0])
		assert.Contains(t, string(got[1].Args[1]), "CREATE TABLE loot")
		assert.Equal(t, int64(len(got[2].Args[1])+len(content)), got[2].Size)
		assert.True(t, got[2].Truncated)
		assert.True(t, strings.HasPrefix(content, string(got[2].Args[2])), "the start of what was sent")
		assert.Positive(t, got[3].Answered)
		assert.Contains(t, string(got[4].Args[1]), "INTO OUTFILE '/nowhere/shell.php'")
		assert.True(t, got[4].Failed)
		assert.Contains(t, string(got[5].Args[1]), "SONAME")
		assert.True(t, got[5].Failed)
		assert.Equal(t, event.Bytes("SELECT 'after'"), got[6].Args[1])
	}
}

func TestRealClients(t *testing.T) {
	address := server(t)
	s := open(t, address)
	letIn(t, s)
	out, err := run(t, "mariadb", s.Address, "root", right, "SHOW DATABASES;\n", "-N")
	require.NoError(t, err)
	assert.Contains(t, out, "shop\n")
	require.NoError(t, client(t, s.Address, "root", right, "CREATE TABLE t (id INT, text LONGTEXT); INSERT INTO t VALUES (1, REPEAT('x', 12000000)), (2, NULL);\n", "shop", "--max-allowed-packet=64M"))
	through, err := run(t, "mysqldump", s.Address, "root", right, "", "--skip-dump-date", "--max-allowed-packet=64M", "shop")
	require.NoError(t, err)
	straight, err := run(t, "mysqldump", address, "root", own, "", "--skip-dump-date", "--max-allowed-packet=64M", "shop")
	require.NoError(t, err)
	assert.Len(t, through, len(straight))
	through, err = run(t, "mysqldump", s.Address, "root", right, "", "--skip-dump-date", "--max-allowed-packet=64M", "--compress", "shop")
	require.NoError(t, err)
	assert.Len(t, through, len(straight))
	goClient(t, s.Address)
	pythonClient(t, s.Address)
}

func goClient(t *testing.T, address string) {
	t.Helper()
	cfg := driver.NewConfig()
	cfg.Net, cfg.Addr, cfg.User, cfg.Passwd, cfg.DBName = "tcp", address, "root", right, "shop"
	cfg.MaxAllowedPacket = 64 << 20
	connector, err := driver.NewConnector(cfg)
	require.NoError(t, err)
	db := sql.OpenDB(connector)
	defer db.Close() //nolint:errcheck // a test's connections
	ctx := t.Context()
	tx, err := db.BeginTx(ctx, nil)
	require.NoError(t, err)
	stmt, err := tx.PrepareContext(ctx, "SELECT ? + 1, ?, LENGTH(?)")
	require.NoError(t, err)
	defer stmt.Close() //nolint:errcheck // ends with its transaction
	var n, size int
	var text string
	require.NoError(t, stmt.QueryRowContext(ctx, 41, "it's", strings.Repeat("y", 17<<20)).Scan(&n, &text, &size)) // more than a packet holds
	assert.Equal(t, 42, n)
	assert.Equal(t, "it's", text)
	assert.Equal(t, 17<<20, size)
	require.NoError(t, tx.Rollback())
}

func pythonClient(t *testing.T, address string) {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	out, err := exec.CommandContext(t.Context(), "/usr/bin/python3", "-c", `
import sys, pymysql
c = pymysql.connect(host=sys.argv[1], port=int(sys.argv[2]), user="root", password=sys.argv[3], database="shop")
with c.cursor() as k:
    k.execute("SELECT %s, COUNT(*) FROM t", ("a'b",))
    print(k.fetchall())
c.close()
`, host, port, right).CombinedOutput()
	require.NoError(t, err, string(out))
	assert.Equal(t, "((\"a'b\", 2),)\n", string(out))
}

func TestTenThousandGarbageConnections(t *testing.T) {
	fronttest.Garbage(t, open(t, server(t)),
		"\x00", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\xff\xff\xff\x01", "\x20\x00\x00\x01\x85\xae\x0f\x00", "\x16\x03\x01", "\x01\x00\x00\x00\x0e",
		"\x40\x00\x00\x01\x85\xa6\xff\x01\x00\x00\x00\x01!"+strings.Repeat("\x00", 23)+"root\x00\xff", "\xff\xff\x00\x01")
}

// Who is silent, or sends a login byte by byte, is cut off by the pot's server as by any.
func TestSlowLoginEndsWhenTheServersPatienceDoes(t *testing.T) {
	address := server(t)
	require.NoError(t, client(t, address, "root", own, "", "-e", "SET GLOBAL connect_timeout = 2"))
	s := open(t, address)
	for _, says := range []string{"", "\x40\x00\x00\x01\x85\xa6"} {
		conn := s.Dial(t)
		_, err := io.WriteString(conn, says)
		require.NoError(t, err)
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
		_, err = io.Copy(io.Discard, conn)
		require.NoError(t, err)
		require.NoError(t, conn.Close())
	}
	s.Ended(t, 2)
}

// greetingOf is what a server says first.
func greetingOf(t *testing.T, address string) []byte {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer conn.Close() //nolint:errcheck // a test's connection
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
	b := make([]byte, 4)
	_, err = io.ReadFull(conn, b)
	require.NoError(t, err)
	b = append(b, make([]byte, int(b[0]))...)
	_, err = io.ReadFull(conn, b[4:])
	require.NoError(t, err)
	return b
}

// The front greets as the server does, but for the number of the thread and the challenge.
func TestGreetingIsTheServers(t *testing.T) {
	address := server(t)
	s := open(t, address)
	straight, through := greetingOf(t, address), greetingOf(t, s.Address)
	blank := func(b []byte) []byte {
		end := bytes.IndexByte(b[5:], 0) + 6
		clear(b[end : end+12])
		clear(b[end+31 : end+43])
		return b
	}
	assert.Equal(t, blank(straight), blank(through))
}
