package transfer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/honeypot/front/transfer"
)

// relayVariable names the socket of the test that started a client which runs this binary in ssh's place.
const relayVariable = "KOKKURI_TEST_RELAY"

func TestMain(m *testing.M) {
	if socket := os.Getenv(relayVariable); socket != "" {
		if err := relay(socket); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// relay stands for ssh: it connects a client's pipes with the test.
func relay(socket string) error {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket})
	if err != nil {
		return err
	}
	if err := json.NewEncoder(conn).Encode(os.Args); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(conn, os.Stdin)
		_ = conn.CloseWrite()
	}()
	_, err = io.Copy(os.Stdout, conn)
	return err
}

// front stands between a client and a server as the pot's front does.
type front struct {
	tap     func(args []string) (tap, error)
	command func(args []string) []string
	dir     string // in which the server runs
	cut     int64  // bytes after which the connection is lost, if not 0

	listener *net.UnixListener
	wrapper  string
	ended    chan served
}

func (f *front) start(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	self, err := os.Executable()
	require.NoError(t, err)
	f.listener, f.wrapper, f.ended = listener, filepath.Join(dir, "wrapper"), make(chan served, 1)
	script := fmt.Sprintf("#!/bin/sh\n%s='%s' exec '%s' \"$@\"\n", relayVariable, socket, self)
	require.NoError(t, os.WriteFile(f.wrapper, []byte(script), 0o700))
	go f.serve()
}

// served is how a session ended.
type served struct {
	lost bool
	err  error
}

// serve serves one client.
func (f *front) serve() {
	lost, err := f.serveOne()
	f.ended <- served{lost, err}
}

func (f *front) serveOne() (lost bool, err error) {
	conn, err := f.listener.AcceptUnix()
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close() }()
	head, err := readLine(conn)
	if err != nil {
		return false, err
	}
	var args []string
	if err := json.Unmarshal(head, &args); err != nil {
		return false, err
	}
	tap, err := f.tap(args)
	if err != nil {
		return false, err
	}
	err = f.run(conn, tap, f.command(args))
	tap.End()
	return tap.Lost(), err
}

func (f *front) run(conn *net.UnixConn, tap tap, command []string) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir, cmd.Stderr = f.dir, os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var both sync.WaitGroup
	both.Go(func() {
		if err := pass(stdin, conn, tap.In, f.cut); err != nil {
			cancel()
			_ = conn.Close()
		}
		_ = stdin.Close()
	})
	both.Go(func() {
		_ = pass(conn, stdout, tap.Out, 0)
		_ = conn.Close()
	})
	both.Wait()
	_ = cmd.Wait() // scp fails where it refused a file
	return nil
}

var errCut = errors.New("cut")

func pass(to io.Writer, from io.Reader, watch func([]byte), cut int64) error {
	buf := make([]byte, 32<<10)
	for passed := int64(0); ; {
		n, err := from.Read(buf)
		watch(buf[:n])
		if _, err := to.Write(buf[:n]); err != nil {
			return nil //nolint:nilerr // the server has ended
		}
		if passed += int64(n); cut > 0 && passed >= cut {
			return errCut
		}
		if err != nil {
			return nil //nolint:nilerr // the end
		}
	}
}

// readLine reads a line and no more.
func readLine(r io.Reader) ([]byte, error) {
	var line []byte
	for b := make([]byte, 1); ; {
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, err
		}
		if b[0] == '\n' {
			return line, nil
		}
		line = append(line, b[0])
	}
}

// client runs a client to its end; it reports whether the tap was lost.
func (f *front) client(t *testing.T, fails bool, stdin string, command ...string) (lost bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	in, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	_, err = in.WriteString(stdin)
	require.NoError(t, err)
	_, err = in.Seek(0, 0)
	require.NoError(t, err)
	cmd.Stdin = in
	out, err := cmd.CombinedOutput()
	if !fails {
		require.NoError(t, err, "%s", out)
	}
	select {
	case served := <-f.ended:
		require.NoError(t, served.err)
		return served.lost
	case <-ctx.Done():
		require.Fail(t, "the server did not end", "%s", out)
		return true
	}
}

// sftp runs a batch against OpenSSH's server.
func sftp(t *testing.T, s *sinks, dir string, cut int64, batch string, args ...string) (lost bool) {
	t.Helper()
	program := server(t)
	f := &front{
		dir: dir, cut: cut,
		tap:     func([]string) (tap, error) { return transfer.NewSFTP(s.create), nil },
		command: func([]string) []string { return []string{program} },
	}
	f.start(t)
	return f.client(t, cut > 0, batch, append(append([]string{"sftp", "-q", "-b", "-"}, args...), "-D", f.wrapper)...)
}

func server(t *testing.T) string {
	t.Helper()
	for _, path := range []string{"/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server"} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	t.Fatal("no sftp-server: scripts/deps.sh test installs openssh-server")
	return ""
}

// scp runs OpenSSH's scp with the old protocol on both sides.
func scp(t *testing.T, s *sinks, dir string, cut int64, fails bool, args ...string) (lost bool) {
	t.Helper()
	if _, err := exec.LookPath("scp"); err != nil {
		t.Fatal("no scp: scripts/deps.sh test installs openssh-client")
	}
	f := &front{dir: dir, cut: cut}
	f.tap = func(args []string) (tap, error) {
		words, _ := transfer.Words(args[len(args)-1])
		target, folder, ok := transfer.ParseSCP(words)
		if !ok {
			return nil, fmt.Errorf("%q is no scp", args)
		}
		return transfer.NewSCP(target, folder, s.create, func(path string) bool {
			if !filepath.IsAbs(path) {
				path = filepath.Join(dir, path)
			}
			info, err := os.Stat(path)
			return err == nil && info.IsDir()
		}), nil
	}
	f.command = func(args []string) []string { return []string{"sh", "-c", args[len(args)-1]} }
	f.start(t)
	return f.client(t, cut > 0 || fails, "", append([]string{"scp", "-O", "-q", "-S", f.wrapper}, args...)...)
}
