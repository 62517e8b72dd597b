package mysql_test

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

	"github.com/kokkuri/kokkuri/internal/honeypot/front/fronttest"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/mysql"
)

// wire is a client that shows every byte.
type wire struct {
	conn      net.Conn
	r         *bufio.Reader
	challenge []byte
}

// connect logs in; a client that says another plugin is asked to switch.
func connect(t *testing.T, address, password, plugin string) *wire {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	w := &wire{conn: conn, r: bufio.NewReader(conn)}
	const own = "mysql_native_password"
	w.challenge = mysql.ReadChallenge(w.packet(t)[4:])
	response := mysql.Native(password, w.challenge)
	if plugin != own {
		response = []byte("of another kind")
	}
	w.send(t, 1, mysql.LoginBody("root", plugin, response))
	p := w.packet(t)
	if plugin != own {
		require.Equal(t, byte(0xfe), p[4], "%q", p)
		wants, challenge := mysql.ReadSwitch(p[4:])
		require.Equal(t, own, wants)
		w.send(t, p[3]+1, mysql.Native(password, challenge))
		p = w.packet(t)
	}
	require.Equal(t, byte(0), p[4], "%q", p)
	return w
}

func (w *wire) send(t *testing.T, seq byte, body []byte) {
	t.Helper()
	n := len(body)
	_, err := w.conn.Write(append([]byte{byte(n), byte(n >> 8), byte(n >> 16), seq}, body...))
	require.NoError(t, err)
}

func (w *wire) packet(t *testing.T) []byte {
	t.Helper()
	require.NoError(t, w.conn.SetReadDeadline(time.Now().Add(time.Minute)))
	b := make([]byte, 4)
	_, err := io.ReadFull(w.r, b)
	require.NoError(t, err)
	b = append(b, make([]byte, int(b[0])|int(b[1])<<8|int(b[2])<<16)...)
	_, err = io.ReadFull(w.r, b[4:])
	require.NoError(t, err)
	return b
}

// ask sends a command and reads all that it is answered.
func (w *wire) ask(t *testing.T, body []byte) (all []byte) {
	t.Helper()
	w.send(t, 0, body)
	until := func() {
		for {
			p := w.packet(t)
			all = append(all, p...)
			if p[4] == 0xff || p[4] == 0xfe && len(p) < 13 {
				return
			}
		}
	}
	const fieldList, prepare = 4, 22
	if body[0] == fieldList {
		until()
		return all
	}
	p := w.packet(t)
	all = append(all, p...)
	switch first := p[4]; {
	case first == 0xff || first == 0xfe:
	case first == 0 && body[0] == prepare:
		columns, parameters := binary.LittleEndian.Uint16(p[9:]), binary.LittleEndian.Uint16(p[11:])
		for _, n := range []uint16{parameters, columns} {
			if n > 0 {
				until()
			}
		}
	case first == 0:
	default:
		until()
		if all[len(all)-1] != 0 || all[len(all)-5] == 0xfe { // no error ended the columns
			until()
		}
	}
	return all
}

// TestAnswersAreTheServers sends the same requests to the server and through the front, and compares every byte.
func TestAnswersAreTheServers(t *testing.T) {
	address := server(t)
	s := open(t, address)
	letIn(t, s)
	text := rapid.OneOf(rapid.StringN(0, 40, 200), rapid.SampledFrom([]string{"", "0", "-7", "\x00", "'", `\`, "%", strings.Repeat("x", 70_000)}))
	shape := rapid.SampledFrom([]string{
		"SELECT {v}", "SELECT {n}, {v}, NULL, {n} / 3", "SELECT LENGTH({v}), HEX({v})", "CREATE TEMPORARY TABLE {t} (id INT, v LONGTEXT)", "DROP TEMPORARY TABLE {t}",
		"INSERT INTO {t} VALUES ({n}, {v}), ({n}, NULL)", "SELECT * FROM {t} ORDER BY id, v LIMIT {n}", "SELECT COUNT(*), MAX(id) FROM {t}", "UPDATE {t} SET v = {v} WHERE id = {n}",
		"DELETE FROM {t} WHERE id < {n}", "SET @a = {v}", "SELECT @a", "SELEKT {v}", "SHOW VARIABLES LIKE 'max_allowed%'", "BEGIN", "COMMIT", "ROLLBACK", "SELECT * FROM nosuch",
		"SELECT REPEAT({v}, {n})", "DO 1", "EXPLAIN SELECT * FROM {t}", "SHOW CREATE TABLE {t}", "SELECT 1 WHERE FALSE", "PREPARE p FROM 'SELECT ? + {n}'", "EXECUTE p USING @a",
		"SELECT JSON_OBJECT('k', {v})", "SELECT {n} REGEXP '[0-9]'", "USE shop", "USE nosuch", "KILL 999999",
	})
	const requests = 10_000
	for _, plugin := range []string{"mysql_native_password", "caching_sha2_password"} {
		straight, through := connect(t, address, own, "mysql_native_password"), connect(t, s.Address, right, plugin)
		for i := range requests / 2 {
			statement := strings.NewReplacer(
				"{v}", "'"+strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(text.Example(rand.Int()))+"'",
				"{n}", strconv.Itoa(rand.IntN(50)), "{t}", "shop.t"+strconv.Itoa(rand.IntN(3)),
			)
			sql := statement.Replace(shape.Example(rand.Int()))
			body := append([]byte{3}, sql...)
			switch rand.IntN(12) {
			case 0:
				body = []byte{14} // ping
			case 1:
				body = append([]byte{22}, sql...) // prepare
			case 2:
				body = binary.LittleEndian.AppendUint32([]byte{23}, uint32(rand.IntN(i+1))) // execute
				body = append(body, 0, 1, 0, 0, 0)
			case 3:
				body = []byte{byte(100 + rand.IntN(50))} // no command
			case 4:
				body = append([]byte{2}, "shop"...) // use
			}
			require.Equal(t, straight.ask(t, body), through.ask(t, body), "%q", body)
		}
	}
}

// become is COM_CHANGE_USER.
func (w *wire) become(t *testing.T, account, password, plugin string) []byte {
	t.Helper()
	body := append(append([]byte{17}, account...), 0, 20)
	body = append(append(body, mysql.Native(password, w.challenge)...), "shop\x00\x21\x00"...)
	p := w.ask(t, append(append(body, plugin...), 0))
	require.Equal(t, byte(0xfe), p[4], "%q", p)
	require.Len(t, p, 4+1+len(plugin)+1+20+1)
	wants, challenge := mysql.ReadSwitch(p[4:])
	require.Equal(t, plugin, wants)
	w.send(t, p[3]+1, mysql.Native(password, challenge))
	return w.packet(t)
}

// A client that becomes somebody else on its connection meets the same decision.
func TestChangeOfAccount(t *testing.T) {
	address := server(t)
	s := open(t, address)
	letIn(t, s)
	const plugin = "mysql_native_password"
	current := append([]byte{3}, "SELECT CURRENT_USER(), DATABASE()"...)
	straight, through := connect(t, address, own, plugin), connect(t, s.Address, right, plugin)
	require.Equal(t, straight.become(t, "root", own, plugin), through.become(t, "root", right, plugin))
	require.Equal(t, straight.ask(t, current), through.ask(t, current))
	require.Equal(t, straight.become(t, "root", "wrong", plugin), through.become(t, "root", "wrong", plugin))
	require.NoError(t, through.conn.Close())
	session := s.Ended(t, 3)[2]
	require.Equal(t, []string{"root true", "root true", "root false"}, fronttest.Guessed(session))
	require.Len(t, fronttest.Asked(session), 1)
}
