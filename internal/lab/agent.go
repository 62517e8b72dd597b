package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/api"
)

const (
	agentProgram = "/usr/local/bin/kokkuri-agent"
	agentConfig  = "/etc/kokkuri/agent.yaml"
	agentLog     = "/var/log/kokkuri-agent.log"
)

// installAgent puts the agent and its configuration into web, enrolls it where it is not, and starts it.
func (l *Lab) installAgent(ctx context.Context) error {
	program, err := os.ReadFile(filepath.Join(l.o.Bin, "kokkuri-agent"))
	if err != nil {
		return fmt.Errorf("read the agent's binary (make build makes it): %w", err)
	}
	if err := l.StopAgent(ctx); err != nil {
		return err
	}
	if err := l.Web.WriteFile(ctx, agentProgram, program, 0o755); err != nil {
		return err
	}
	if err := l.SetAgentConfig(ctx, l.AgentConfig()); err != nil {
		return err
	}
	if err := l.forwardLog(ctx); err != nil {
		return err
	}
	if err := l.enrollAgent(ctx); err != nil {
		return err
	}
	return l.StartAgent(ctx)
}

// SetAgentConfig writes the agent's configuration; it is read at the agent's next start.
func (l *Lab) SetAgentConfig(ctx context.Context, text string) error {
	return l.Web.WriteFile(ctx, agentConfig, []byte(text), 0o600)
}

func (l *Lab) enrollAgent(ctx context.Context) error {
	if _, err := l.Web.Exec(ctx, "test", "-e", "/var/lib/kokkuri/agent/identity/cert.pem"); err == nil {
		return nil
	}
	token, err := l.API().Enroll(ctx, api.RoleHost, HostName, 0)
	if err != nil {
		return fmt.Errorf("get a token for %s: %w", HostName, err)
	}
	server := fmt.Sprintf("%s:%d", serverAddrs()[0], busPort)
	_, err = l.Web.Exec(ctx, agentProgram, "enroll", "--config", agentConfig, "--server", server, "--token", token.Token)
	return err
}

// StartAgent starts web's agent and waits until the server sees it connected.
func (l *Lab) StartAgent(ctx context.Context) error {
	command := fmt.Sprintf("exec %s run --config %s >>%s 2>&1", agentProgram, agentConfig, agentLog)
	began := time.Now()
	if err := l.Web.Spawn(ctx, "sh", "-c", command); err != nil {
		return err
	}
	var last error
	err := wait(ctx, 20*time.Second, func() (bool, error) {
		last = connectedSince[api.Host](ctx, l, api.PathHosts, HostName, began)
		return last == nil, nil
	})
	if errors.Is(err, errDeadline) {
		tail, _ := l.Web.Exec(ctx, "tail", "-n", "20", agentLog)
		return fmt.Errorf("the agent of %s does not connect: %w; the end of its log:\n%s", HostName, last, tail)
	}
	return err
}

// StopAgent ends web's agent with SIGTERM; none is fine.
func (l *Lab) StopAgent(ctx context.Context) error { return l.endAgent(ctx, "TERM") }

// KillAgent ends web's agent with SIGKILL, as a crash would.
func (l *Lab) KillAgent(ctx context.Context) error { return l.endAgent(ctx, "KILL") }

func (l *Lab) endAgent(ctx context.Context, signal string) error {
	// pkill says 1 where there is no such process; the name is cut to 15 characters by the kernel.
	_, err := l.Web.Shell(ctx, "pkill -"+signal+" -x kokkuri-agent; [ $? -le 1 ]")
	if err != nil {
		return fmt.Errorf("end the agent: %w", err)
	}
	return wait(ctx, patience, func() (bool, error) {
		_, err := l.Web.Exec(ctx, "pgrep", "-x", "kokkuri-agent")
		var exit *ExitError
		return errors.As(err, &exit), nil
	})
}

// AgentMemory is the agent's resident memory in bytes.
func (l *Lab) AgentMemory(ctx context.Context) (int64, error) {
	out, err := l.Web.Shell(ctx, "awk '/^VmRSS:/ {print $2}' /proc/$(pgrep -x kokkuri-agent)/status")
	if err != nil {
		return 0, err
	}
	var kib int64
	if _, err := fmt.Sscan(strings.TrimSpace(out), &kib); err != nil {
		return 0, fmt.Errorf("read the agent's memory from %q: %w", out, err)
	}
	return kib << 10, nil
}
