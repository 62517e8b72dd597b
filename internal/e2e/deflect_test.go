package e2e

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/lab"
)

func TestFifthFailureDeflects(t *testing.T) {
	from := source(t)
	guess(t, from, wrong()[:4]...)
	pipelineDrained(t)
	untouched(t, from)
	realKey, err := the.User.HostKey(t.Context(), lab.UserAddr(), lab.WebSSH())
	require.NoError(t, err)
	seen, err := the.Attacker.HostKey(t.Context(), from, lab.WebSSH())
	require.NoError(t, err)
	require.Equal(t, realKey, seen, "four failures are no offence")

	_, err = the.Attacker.Guess(t.Context(), from, "admin", "foxtrot") // other account, other connection
	require.Error(t, err)
	r := deflected(t, from)
	assert.Equal(t, netip.PrefixFrom(from, 32), r.Source)
	assert.Equal(t, uint16(22), r.Port)

	seen, err = the.Attacker.HostKey(t.Context(), from, lab.WebSSH())
	require.NoError(t, err)
	assert.NotEqual(t, realKey, seen, "a pot has keys of its own")
	pot(t, from)
	onRealHost(t, the.Attacker, lab.OtherAddr())
	onRealHost(t, the.User, lab.UserAddr())
}

func TestFifthFailureDeflectsIPv6ByNetwork(t *testing.T) {
	from := source6(t)
	guess(t, from, wrong()[:4]...)
	pipelineDrained(t)
	untouched(t, from)

	// The fifth from another address of the same network, which then is the attacker's as a whole.
	neighbour, err := the.Neighbour(t.Context(), from)
	require.NoError(t, err)
	_, err = the.Attacker.Guess(t.Context(), neighbour, "root", "foxtrot")
	require.Error(t, err)
	r := deflected(t, from)
	assert.Equal(t, 64, r.Source.Bits())
	pot(t, from)
	pot(t, neighbour)
	onRealHost(t, the.Attacker, lab.OtherAddr6())
	onRealHost(t, the.User, lab.UserAddr6())
}

// A brute-forcer that keeps its connection is cut; a colleague behind the same address who logged in before
// the offence stays. The source offended before, so that its login exempts it from nothing.
func TestOpenConnectionIsCutColleagueStays(t *testing.T) {
	from := source(t)
	offend(t, from)
	deflected(t, from)
	release(t, from)
	colleague := onRealHost(t, the.Attacker, from)

	// Six passwords on a connection that sshd would hold open for a seventh.
	refused, err := the.Attacker.Guess(t.Context(), from, "root", append(wrong(), "foxtrot", "golf", "hotel")...)
	require.Error(t, err)
	require.NotErrorIs(t, err, lab.ErrRefused, "the connection must be cut, not end by itself")
	assert.GreaterOrEqual(t, refused, 5)
	deflected(t, from)

	pot(t, from)
	isReal, err := colleague.Real(t.Context())
	require.NoError(t, err, "the colleague's session was cut")
	assert.True(t, isReal)
}

func TestHydraAndOpenSSH(t *testing.T) {
	told := watch(t, "events", "tail", "--format", "cowrie")
	report, err := the.Attack(t.Context())
	require.NoError(t, err)
	assert.Empty(t, report.Problems)
	assert.True(t, report.OK)
	assert.True(t, report.Deflected)
	assert.True(t, report.BystandersOK)
	assert.NotEmpty(t, report.Pot)
	assert.NotEmpty(t, report.Session)
	names := make([]string, 0, len(report.Steps))
	for _, s := range report.Steps {
		names = append(names, s.Name)
	}
	assert.Equal(t, []string{"log_written", "event", "offence", "lease", "redirect_active", "front_first_byte", "login", "shell", "commands", "upload"}, names)
	evidenceReachesTheOperator(t, report.Session)
	for _, id := range []string{"session.connect", "client.kex", "login.failed", "login.success", "command.input", "session.file_upload", "log.closed", "session.closed"} {
		eventually(t, "cowrie."+id+" is told as it happens", func() (bool, error) {
			return strings.Contains(told(), `"eventid":"cowrie.`+id+`"`), nil
		})
	}
}

// evidenceReachesTheOperator asks, as an operator would, for what a session of the lab's attacker left.
func evidenceReachesTheOperator(t *testing.T, shell string) {
	t.Helper()
	for args, want := range map[string]string{
		"show " + shell:   "cat /etc/passwd | head -n 3",
		"replay " + shell: "root@web:~# uname -a",
		"export " + shell + " --format asciicast": `{"version":2,`,
		"export " + shell + " --format ttylog":    "root@web",
		"export " + shell + " --format raw":       "KKREC2",
		"export " + shell + " --format cowrie":    `"eventid":"cowrie.log.closed"`,
	} {
		text, code := kokkuri(t, append([]string{"sessions"}, strings.Fields(args)...)...)
		assert.Zero(t, code, text)
		assert.Contains(t, text, want, args)
	}
	text, code := kokkuri(t, "sessions", "show", shell)
	assert.Zero(t, code)
	assert.Contains(t, text, "(/usr/bin/uname, pid ", "what ran is seen from the node")
	all, err := the.SessionsOf(t.Context(), lab.AttackerAddr())
	require.NoError(t, err)
	i := slices.IndexFunc(all, func(s event.Session) bool { return s.Files > 0 })
	require.GreaterOrEqual(t, i, 0)
	left, err := the.API().Evidence(t.Context(), all[i].ID)
	require.NoError(t, err)
	i2 := slices.IndexFunc(left, func(e event.Evidence) bool { return e.File != nil })
	text, code = kokkuri(t, "sessions", "file", all[i].ID, left[i2].File.SHA256[:12])
	assert.Zero(t, code)
	words, err := the.Attacker.ReadFile(t.Context(), "/usr/share/words")
	require.NoError(t, err)
	assert.Equal(t, string(words), text, "the file that the attacker brought")
	text, code = kokkuri(t, "sessions", "show", "000000000000")
	assert.Equal(t, 1, code)
	assert.Contains(t, text, "kokkuri sessions ls")
}

func TestTwoAttackersTwoPots(t *testing.T) {
	first, second := source(t), source(t)
	for _, from := range []netip.Addr{first, second} {
		offend(t, from)
		deflected(t, from)
	}
	one, two := pot(t, first), pot(t, second)
	assert.NotEqual(t, potOf(t, first).ID, potOf(t, second).ID)
	out(t, one, "echo first was here >/root/note")
	assert.Contains(t, out(t, two, "cat /root/note 2>&1"), "No such file")

	// Neither knows of the other, and naming its address does not help.
	other := potOf(t, second).Address.String()
	assert.Contains(t, out(t, one, reach(other, "22")), "out of reach")

	require.NoError(t, one.Close())
	again := pot(t, first)
	assert.Equal(t, "first was here\n", out(t, again, "cat /root/note"))
}

// What let one attacker in lets in nobody else, and nobody has a pot who has not got in.
func TestWhoGetsInIsAlone(t *testing.T) {
	first, second := source(t), source6(t)
	for _, from := range []netip.Addr{first, second} {
		offend(t, from)
		deflected(t, from)
	}
	pot(t, first)
	try := func(from netip.Addr, password string) error {
		shell, err := the.Attacker.Login(t.Context(), lab.Login{From: from, Account: lab.PotAccount, Passwords: []string{password}})
		if err == nil {
			err = shell.Close()
		}
		return err
	}
	require.ErrorIs(t, try(second, lab.PotPassword), lab.ErrRefused, "its first guess")
	pots, err := the.PotsOf(t.Context(), second)
	require.NoError(t, err)
	assert.Empty(t, pots)
	require.NoError(t, try(second, "another"))
	require.ErrorIs(t, try(second, lab.PotPassword), lab.ErrRefused, "the first attacker's pair")
	require.ErrorIs(t, try(first, "another"), lab.ErrRefused, "the second attacker's pair")
	require.NoError(t, try(first, lab.PotPassword), "it goes on working")
	assert.NotEqual(t, potOf(t, first).ID, potOf(t, second).ID)
	one, err := the.Attacker.HostKey(t.Context(), first, lab.WebSSH())
	require.NoError(t, err)
	two, err := the.Attacker.HostKey(t.Context(), second, lab.WebSSH6())
	require.NoError(t, err)
	assert.NotEqual(t, one, two, "each sees a host key of its own")
	again, err := the.Attacker.HostKey(t.Context(), first, lab.WebSSH())
	require.NoError(t, err)
	assert.Equal(t, one, again, "always the same")
}

func TestFiftyAttackersAtOnce(t *testing.T) {
	const many = 50
	from := make([]netip.Addr, many)
	for i := range from {
		from[i] = source6(t)
	}
	realKey, err := the.User.HostKey(t.Context(), lab.UserAddr(), lab.WebSSH())
	require.NoError(t, err)
	eachAtOnce(t, from, func(t *testing.T, a netip.Addr) {
		t.Helper()
		_, err := the.Attacker.Guess(t.Context(), a, "root", wrong()...)
		assert.Error(t, err)
	})
	for _, a := range from {
		deflected(t, a)
	}
	eachAtOnce(t, from, func(t *testing.T, a netip.Addr) {
		t.Helper()
		key, err := the.Attacker.HostKey(t.Context(), a, lab.WebSSH6())
		if assert.NoError(t, err) {
			assert.NotEqual(t, realKey, key, "%s is on the real host", a)
		}
	})
	onRealHost(t, the.User, lab.UserAddr6())
}
