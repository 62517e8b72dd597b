package postgres_test

import (
	"bufio"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// wire is a client that shows every byte.
type wire struct {
	conn net.Conn
	r    *bufio.Reader
}

func connectWire(t *testing.T, address, password string) *wire {
	t.Helper()
	conn, err := connect(t, address, password).PgConn().Hijack()
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Conn.Close() })
	return &wire{conn.Conn, bufio.NewReader(conn.Conn)}
}

// ask sends messages, and reads all up to the server's word that it is ready.
func (w *wire) ask(t *testing.T, messages []byte) (all []byte) {
	t.Helper()
	_, err := w.conn.Write(messages)
	require.NoError(t, err)
	require.NoError(t, w.conn.SetReadDeadline(time.Now().Add(time.Minute)))
	for {
		head := make([]byte, 5)
		_, err := io.ReadFull(w.r, head)
		require.NoError(t, err)
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		_, err = io.ReadFull(w.r, body)
		require.NoError(t, err)
		all = append(append(all, head...), body...)
		switch head[0] {
		case 'Z':
			return all
		case 'G': // it wants to be copied to
			_, err := w.conn.Write(message('d', "7\tcopied\n"))
			require.NoError(t, err)
			_, err = w.conn.Write(message('c', ""))
			require.NoError(t, err)
		}
	}
}

func message(kind byte, body string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)+4)), body...)
}

// TestAnswersAreTheServers sends the same requests to the server and through the front, and compares every byte.
func TestAnswersAreTheServers(t *testing.T) {
	address := server(t, "scram-sha-256")
	s := open(t, address)
	letIn(t, s)
	text := rapid.OneOf(rapid.StringN(0, 40, 200), rapid.SampledFrom([]string{"", "0", "-7", "'", `\`, "%", strings.Repeat("x", 70_000)}))
	shape := rapid.SampledFrom([]string{
		"SELECT {v}", "SELECT {n}, {v}, NULL, {n} / 3.0", "SELECT length({v}), md5({v})", "CREATE TEMP TABLE {t} (id int, v text)", "DROP TABLE {t}",
		"INSERT INTO {t} VALUES ({n}, {v}), ({n}, NULL)", "SELECT id + 0, v || '' FROM {t} ORDER BY 1, 2 LIMIT {n}", "SELECT count(*), max(id) FROM {t}", "UPDATE {t} SET v = {v} WHERE id = {n}",
		"DELETE FROM {t} WHERE id < {n}", "SET application_name = {v}", "SHOW application_name", "SELEKT {v}", "BEGIN", "COMMIT", "ROLLBACK", "SELECT * FROM nosuch",
		"SELECT repeat({v}, {n})", "EXPLAIN (COSTS OFF) SELECT * FROM {t}", "SELECT 1 WHERE false", "PREPARE p AS SELECT $1::int + {n}", "EXECUTE p({n})", "DEALLOCATE ALL",
		"SELECT json_build_object('k', {v})", "SELECT '{n}' ~ '[0-9]'", "SELECT {n} / 0", "DO $$BEGIN RAISE NOTICE '%', {n}; END$$", "LISTEN a", "NOTIFY nobody", "SAVEPOINT s", "ROLLBACK TO s",
		"COPY {t} FROM STDIN", "COPY {t} TO STDOUT", "SELECT {v}; SELECT {n}; SELECT nosuch; SELECT 3", "", "SELECT generate_series(1, {n})", "COPY {t} FROM PROGRAM 'echo 1'",
		"SELECT lo_create(0) > 0", "FETCH 3 FROM c", "DECLARE c CURSOR FOR SELECT generate_series(1, 9)", "CREATE EXTENSION nosuch", "DISCARD TEMP",
	})
	straight, through := connectWire(t, address, own), connectWire(t, s.Address, right)
	const requests = 10_000
	for range requests {
		sql := strings.NewReplacer(
			"{v}", "'"+strings.NewReplacer(`'`, `''`, "\x00", "").Replace(text.Example(rand.Int()))+"'",
			"{n}", strconv.Itoa(rand.IntN(50)), "{t}", "t"+strconv.Itoa(rand.IntN(3)),
		).Replace(shape.Example(rand.Int()))
		sql = strings.ReplaceAll(sql, "\x00", "")
		ask := message('Q', sql+"\x00")
		if rand.IntN(3) == 0 && !strings.HasPrefix(sql, "COPY") {
			value := strconv.Itoa(rand.IntN(100))
			ask = message('P', "s\x00"+sql+"\x00\x00\x00")
			ask = append(ask, message('B', "\x00s\x00\x00\x00\x00\x01\x00\x00\x00"+string(rune(len(value)))+value+"\x00\x00")...)
			if rand.IntN(2) == 0 {
				ask = message('P', "s\x00"+sql+"\x00\x00\x00")
				ask = append(ask, message('B', "\x00s\x00\x00\x00\x00\x00\x00\x00")...)
			}
			for _, more := range [][]byte{message('D', "P\x00"), message('E', "\x00\x00\x00\x00\x05"), message('C', "Ss\x00"), message('H', "")} {
				if rand.IntN(4) > 0 {
					ask = append(ask, more...)
				}
			}
			ask = append(ask, message('S', "")...)
		}
		require.Equal(t, string(straight.ask(t, ask)), string(through.ask(t, ask)), "%q", ask)
	}
}
