package credential_test

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/credential"
)

func keyOf(i int) event.PotKey {
	a := netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)})
	return event.PotKey{Attacker: netip.PrefixFrom(a, 32), Host: "web"}
}

func open(t require.TestingT, dir string, least, most int) *credential.Policy {
	p, err := credential.Open(credential.Options{
		Dir: dir, Least: least, Most: most, Hash: func(s string) (string, error) { return "hash of " + s, nil },
	})
	require.NoError(t, err)
	return p
}

func try(t require.TestingT, p *credential.Policy, k event.PotKey, account, password string) bool {
	g, ok, err := p.Try(k, event.SSH, account, password)
	require.NoError(t, err)
	if ok {
		require.Equal(t, credential.Guest{Account: account, Hash: "hash of " + password}, g)
	}
	return ok
}

func TestTheFirstDistinctGuessesAreRefusedThenOneIsAccepted(t *testing.T) {
	p := open(t, t.TempDir(), 3, 3)
	k := keyOf(1)
	assert.False(t, try(t, p, k, "root", "a"))
	assert.False(t, try(t, p, k, "root", "b"))
	for range 20 {
		assert.False(t, try(t, p, k, "root", "a"), "a repeated guess counts nothing")
	}
	assert.False(t, try(t, p, k, "admin", "a"), "another account is another guess")
	assert.False(t, try(t, p, k, "root", ""), "an empty password is no guess")
	assert.False(t, try(t, p, k, "root", "b"), "what was refused stays refused")
	assert.True(t, try(t, p, k, "oracle", "c"))
	assert.True(t, try(t, p, k, "oracle", "c"), "it goes on working")
	assert.False(t, try(t, p, k, "oracle", "d"), "and nothing else does")
	assert.False(t, try(t, p, k, "root", "a"))
	assert.False(t, try(t, p, keyOf(2), "oracle", "c"), "for nobody else")
	assert.False(t, try(t, p, event.PotKey{Attacker: k.Attacker, Host: "db"}, "oracle", "c"), "on no other host")
}

// A client with a stale password repeats it for ever.
func TestAClientThatRepeatsOnePairIsNeverLetIn(t *testing.T) {
	p := open(t, t.TempDir(), 1, 6)
	for range 1000 {
		require.False(t, try(t, p, keyOf(1), "app", "stale"))
	}
}

func TestWhatNoPotCanHaveIsNeverAccepted(t *testing.T) {
	p := open(t, t.TempDir(), 0, 0+1)
	for i, account := range []string{"", "a b", "-x", "x:y", "x/y", "\x1b[2J", strings.Repeat("a", 33), "1st", "ü"} {
		for j := range 10 {
			require.False(t, try(t, p, keyOf(i), account, "pw"+strconv.Itoa(j)), "%q", account)
		}
	}
	for j := range 10 {
		require.False(t, try(t, p, keyOf(100), "root", strings.Repeat("x", 1025+j)))
	}
}

func TestHowManyAreRefusedDiffersFromAttackerToAttacker(t *testing.T) {
	p := open(t, t.TempDir(), 2, 6)
	seen := map[int]int{}
	for i := range 500 {
		n := 0
		for !try(t, p, keyOf(i), "root", strconv.Itoa(n)) {
			n++
		}
		seen[n]++
	}
	assert.Len(t, seen, 5)
	for n := range seen {
		assert.GreaterOrEqual(t, n, 2)
		assert.LessOrEqual(t, n, 6)
	}
}

// Whatever is guessed in whatever order, with restarts: the model of the policy is four lines.
func TestPolicyIsItsModel(t *testing.T) {
	dirs := t.TempDir()
	var run atomic.Int64
	rapid.Check(t, func(t *rapid.T) {
		dir := filepath.Join(dirs, strconv.FormatInt(run.Add(1), 10))
		require.NoError(t, os.Mkdir(dir, 0o700))
		k := rapid.IntRange(0, 3).Draw(t, "k")
		p := open(t, dir, k, max(k, 1))
		if k == 0 {
			k = -1 // zero or one: only what holds for both is looked at
		}
		refused, accepted := map[string]bool{}, ""
		for range rapid.IntRange(1, 30).Draw(t, "guesses") {
			if rapid.IntRange(0, 9).Draw(t, "restart") == 0 {
				require.NoError(t, p.Close())
				p = open(t, dir, max(k, 0), max(k, 1))
			}
			guess := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"}).Draw(t, "guess")
			got := try(t, p, keyOf(1), "root", guess)
			switch {
			case accepted != "":
				require.Equal(t, guess == accepted, got)
			case refused[guess]:
				require.False(t, got)
			case k >= 0:
				require.Equal(t, len(refused) >= k, got)
			}
			if got {
				accepted = guess
			} else {
				refused[guess] = true
			}
		}
		require.NoError(t, p.Close())
	})
}

func TestForgottenAttackersBeginAnew(t *testing.T) {
	dir := t.TempDir()
	p := open(t, dir, 1, 1)
	k := keyOf(1)
	require.False(t, try(t, p, k, "root", "a"))
	require.True(t, try(t, p, k, "root", "b"))
	require.NoError(t, p.At(event.SSH).Entered(k, "container"))
	require.NoError(t, p.Close())
	p = open(t, dir, 1, 1)
	account, pot := p.At(event.SSH).Guest(k)
	assert.Equal(t, []string{"root", "container"}, []string{account, pot})
	_, pot = p.At(event.Redis).Guest(k)
	assert.Empty(t, pot, "at the others nobody has got in")
	require.NoError(t, p.Forget(k))
	_, pot = p.At(event.SSH).Guest(k)
	assert.Empty(t, pot)
	require.NoError(t, p.Close())
	p = open(t, dir, 1, 1)
	assert.False(t, try(t, p, k, "root", "b"))
	require.NoError(t, p.Close())
}

func TestADamagedJournalCostsOnlyWhatIsDamaged(t *testing.T) {
	dir := t.TempDir()
	p := open(t, dir, 1, 1)
	try(t, p, keyOf(1), "root", "a")
	require.True(t, try(t, p, keyOf(1), "root", "b"))
	require.NoError(t, p.Close())
	path := filepath.Join(dir, "credentials.jsonl")
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NotContains(t, string(data), `"b"`, "no password is kept")
	require.NoError(t, os.WriteFile(path, append(data, "{\"key\":{\"att\n{}junk\n"...), 0o600))
	p = open(t, dir, 1, 1)
	assert.True(t, try(t, p, keyOf(1), "root", "b"))
	require.NoError(t, p.Close())
}

func TestAttackersAreBounded(t *testing.T) {
	p, err := credential.Open(credential.Options{
		Dir: t.TempDir(), Least: 1, Most: 1, MaxAttackers: 10, Hash: func(s string) (string, error) { return s, nil },
	})
	require.NoError(t, err)
	require.False(t, try2(t, p, keyOf(0), "a"))
	require.True(t, try2(t, p, keyOf(0), "b"))
	for i := 1; i < 200; i++ {
		try2(t, p, keyOf(i), "a")
	}
	assert.True(t, try2(t, p, keyOf(0), "b"), "who is in is not displaced by who guesses")
}

func try2(t *testing.T, p *credential.Policy, k event.PotKey, password string) bool {
	t.Helper()
	_, ok, err := p.Try(k, event.SSH, "root", password)
	require.NoError(t, err)
	return ok
}

// The child accepts one attacker after the other and says so; then it is killed.
func TestSIGKILLForgetsNobodyWhoWasLetIn(t *testing.T) {
	if dir := os.Getenv("KOKKURI_TEST_POLICY"); dir != "" {
		p := open(t, dir, 1, 1)
		for i := range 10_000 {
			try(t, p, keyOf(i), "root", "a")
			if try(t, p, keyOf(i), "root", "b") {
				fmt.Println("in", i)
			}
		}
		return
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestSIGKILLForgetsNobodyWhoWasLetIn$")
	cmd.Env = append(os.Environ(), "KOKKURI_TEST_POLICY="+dir)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	in := -1
	for scan := bufio.NewScanner(out); scan.Scan(); {
		if text, ok := strings.CutPrefix(scan.Text(), "in "); ok {
			in, err = strconv.Atoi(text)
			require.NoError(t, err)
		}
		if in == 100 {
			require.NoError(t, cmd.Process.Kill())
		}
	}
	_ = cmd.Wait()
	require.GreaterOrEqual(t, in, 100)
	p := open(t, dir, 1, 1)
	for i := range in + 1 {
		assert.True(t, try(t, p, keyOf(i), "root", "b"), "%d", i)
	}
	require.NoError(t, p.Close())
}

func TestConcurrentGuessesLetOnePairIn(t *testing.T) {
	p := open(t, t.TempDir(), 2, 2)
	var accepted atomic.Int64
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if try(t, p, keyOf(1), "root", strconv.Itoa(i)) {
				accepted.Add(1)
			}
		})
	}
	wg.Wait()
	assert.Equal(t, int64(1), accepted.Load())
}

// A pair that was accepted at one service opens the attacker's others; what is refused counts for each of them.
func TestServicesOfAnAttacker(t *testing.T) {
	dir := t.TempDir()
	p := open(t, dir, 2, 2)
	try := func(k event.PotKey, service event.Service, password string) bool {
		t.Helper()
		_, ok, err := p.Try(k, service, "admin", password)
		require.NoError(t, err)
		return ok
	}
	one, other := keyOf(1), keyOf(2)
	require.False(t, try(one, event.FTP, "a"))
	require.False(t, try(one, event.SSH, "a"))
	require.False(t, try(one, event.SSH, "b"))
	require.True(t, try(one, event.SSH, "c"))
	require.True(t, in(p, one, event.SSH))
	require.False(t, in(p, one, event.FTP))
	require.False(t, try(one, event.FTP, "b"), "it is the second there")
	require.True(t, try(one, event.FTP, "c"), "it opened SSH")
	require.False(t, try(one, event.FTP, "d"))
	require.False(t, try(other, event.FTP, "c"), "who comes from elsewhere is another attacker")
	require.NoError(t, p.Close())
	p = open(t, dir, 2, 2)
	require.True(t, in(p, one, event.FTP), "it survives a restart")
	require.True(t, try(one, event.Redis, "c"))
	require.NoError(t, p.Forget(one))
	for _, service := range []event.Service{event.SSH, event.FTP, event.Redis} {
		require.False(t, in(p, one, service))
		require.False(t, try(one, service, "c"))
	}
	require.NoError(t, p.Close())
}

// in reports whether somebody got in.
func in(p *credential.Policy, k event.PotKey, service event.Service) bool {
	account, _ := p.At(service).Guest(k)
	return account != ""
}
