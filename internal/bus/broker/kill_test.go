package broker_test

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/bus"
	"github.com/kokkuri/kokkuri/internal/bus/broker"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/pki"
)

const childEnv = "KOKKURI_TEST_BROKER"

// runChild is the whole of the process that the kill test kills: a broker, nothing else.
func runChild() bool {
	dir := os.Getenv(childEnv)
	if dir == "" {
		return false
	}
	err := func() error {
		ca, err := pki.OpenCA(pki.Options{Dir: filepath.Join(dir, "pki")})
		if err != nil {
			return err
		}
		cfg, err := ca.ServerTLS(nil, nil)
		if err != nil {
			return err
		}
		b, err := broker.New(broker.Options{
			Listen: netip.MustParseAddrPort(os.Getenv(childEnv + "_LISTEN")), TLS: cfg, StoreDir: filepath.Join(dir, "bus"), Revoked: ca.Revoked,
		})
		if err != nil {
			return err
		}
		if err := b.Start(context.Background()); err != nil {
			return err
		}
		fmt.Println("listening", b.ClientURL())
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n') // the parent's end of the pipe closes when the parent ends
		return nil
	}()
	if err != nil {
		fmt.Println("failed", err)
	}
	return true
}

// startChild starts the broker as a process of its own and returns its address and what kills it.
func startChild(t *testing.T, dir, listen string) (addr string, kill func()) {
	t.Helper()
	cmd := exec.CommandContext(context.Background(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir, childEnv+"_LISTEN="+listen)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		_ = cmd.Process.Kill()
	}
	require.NoError(t, err)
	word, addr, _ := strings.Cut(strings.TrimSpace(line), " ")
	require.Equal(t, "listening", word, addr)
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill() // SIGKILL
		_ = cmd.Wait()
		_ = stdin.Close()
	})
	t.Cleanup(kill)
	return addr, kill
}

// TestKilledServerKeepsWhatItAcknowledged kills the server's process again and again while three hosts publish.
// Every acknowledged batch must be in the stream, once, in its host's order.
func TestKilledServerKeepsWhatItAcknowledged(t *testing.T) {
	dir := t.TempDir()
	ca, err := pki.OpenCA(pki.Options{Dir: filepath.Join(dir, "pki")})
	require.NoError(t, err)
	addr, kill := startChild(t, dir, "127.0.0.1:0")

	hosts := []string{"web", "db", "mail"}
	acked := make([]int, len(hosts)) // each publisher's own element
	conns := make([]*bus.Conn, len(hosts))
	publishing, stop := context.WithCancel(deadline(t))
	progress := make(chan struct{}, 1)
	var wg sync.WaitGroup
	for i, host := range hosts {
		id := filepath.Join(dir, host)
		require.NoError(t, ca.IssueIdentity(id, pki.RoleHost, host, []string{addr}))
		client, err := pki.LoadClient(id)
		require.NoError(t, err)
		conns[i], err = bus.Dial(t.Context(), bus.Options{URLs: client.Servers, TLS: client.TLS, Log: testLog(t)})
		require.NoError(t, err)
		defer conns[i].Close()
		wg.Go(func() {
			for publishing.Err() == nil {
				n := acked[i]
				if conns[i].PublishBatch(publishing, batch(host, strconv.Itoa(n), fmt.Sprint("line ", n), strings.Repeat("x", 500))) == nil {
					acked[i]++
					select {
					case progress <- struct{}{}:
					default:
					}
				}
			}
		})
	}
	const kills = 8
	for range kills {
		for range 100 {
			receive(t, progress)
		}
		kill()
		_, kill = startChild(t, dir, addr)
	}
	for range 100 {
		receive(t, progress)
	}
	kill() // in the middle of publishing, for good
	stop()
	wg.Wait()

	cfg, err := ca.ServerTLS(nil, nil)
	require.NoError(t, err)
	b, err := broker.New(broker.Options{Listen: netip.MustParseAddrPort(addr), TLS: cfg, StoreDir: filepath.Join(dir, "bus")})
	require.NoError(t, err)
	require.NoError(t, b.Start(t.Context()))
	defer func() { require.NoError(t, b.Stop(context.Background())) }()
	server, err := b.Dial(t.Context(), bus.Options{})
	require.NoError(t, err)
	defer server.Close()
	require.NoError(t, server.PublishBatch(deadline(t), batch("end", "end", "end")))

	stored := make(map[string]int)
	reading, done := context.WithCancel(deadline(t))
	defer done()
	require.NoError(t, server.ConsumeBatches(reading, "test", 0, func(_ context.Context, _ uint64, b event.Batch) error {
		if b.Host == "end" {
			done()
			return nil
		}
		require.Equal(t, strconv.Itoa(stored[b.Host]), b.ID, "%s: in order, none missing, none twice", b.Host)
		stored[b.Host]++
		return nil
	}))
	for i, host := range hosts {
		t.Logf("%s: %d acknowledged, %d stored", host, acked[i], stored[host])
		assert.Positive(t, acked[i])
		assert.GreaterOrEqual(t, stored[host], acked[i], "%s: acknowledged batches are missing", host)
		assert.LessOrEqual(t, stored[host], acked[i]+1, "%s: at most the one that was on its way", host)
	}
}
