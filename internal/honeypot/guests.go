package honeypot

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/certificate"
	"github.com/kokkuri/kokkuri/internal/honeypot/credential"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/entry"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/ftp"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/inside"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/mysql"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/postgres"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/redis"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/ssh"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/telnet"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/web"
	"github.com/kokkuri/kokkuri/internal/honeypot/furnish"
	"github.com/kokkuri/kokkuri/internal/honeypot/hostkeys"
	"github.com/kokkuri/kokkuri/internal/honeypot/pool"
)

// evidencePiece bounds one answer to a request for evidence: a message carries it in base64.
const evidencePiece = 512 << 10

// openSecrets opens what decides who gets in, and what pots are known by.
func (n *Node) openSecrets(p *parts) (err error) {
	p.policy, err = credential.Open(credential.Options{
		Dir: n.o.StateDir, Least: n.o.Least, Most: n.o.Most, Hash: furnish.Hash, Log: n.log,
	})
	if err != nil {
		return err
	}
	if p.keys, err = hostkeys.Open(filepath.Join(n.o.StateDir, "hostkeys.secret")); err != nil {
		return err
	}
	if p.ca, err = inside.OpenAuthority(filepath.Join(n.o.StateDir, "authority")); err != nil {
		return err
	}
	if p.certs, err = certificate.Open(filepath.Join(n.o.StateDir, "certificates")); err != nil {
		return err
	}
	p.own, err = openOwnKeys(filepath.Join(n.o.StateDir, "ownkeys"), func(ctx context.Context, host string) (event.HostKeys, error) {
		return n.o.Bus.HostKeys(ctx, n.o.Name, host)
	}, n.log)
	return err
}

// handlers are what speaks the services' protocols.
func (n *Node) handlers(p *parts) (map[event.Service]front.Handler, error) {
	e := entry.New(entry.Options{Enter: p.enter, Admit: p.admit, Full: p.over.full, Policy: p.policy, Authority: p.ca, Hash: furnish.Hash, Log: n.log})
	builtin := ssh.New(ssh.Options{
		Entry: e, HostKeys: p.signers, Version: func(k event.PotKey) string { return n.version(p, k) },
		Methods: n.o.SSH.Methods, FailDelay: n.o.SSH.FailDelay, Idle: n.o.Idle, Log: n.log,
	})
	speaker, err := n.speaker(p, e, builtin)
	if err != nil {
		return nil, err
	}
	guard := func(s event.Service) front.Guard {
		return front.Guard{
			Reach: p.toPots(), Policy: p.policy.At(s), Hash: furnish.Hash, Admit: p.account, Certificates: certificates{p}, Idle: n.o.Idle, Log: n.log,
		}
	}
	return map[event.Service]front.Handler{
		event.SSH:      p.over.ssh(speaker),
		event.FTP:      ftp.New(guard(event.FTP)),
		event.HTTP:     web.New(guard(event.HTTP)),
		event.MySQL:    mysql.New(guard(event.MySQL)),
		event.Postgres: postgres.New(guard(event.Postgres)),
		event.Redis:    redis.New(guard(event.Redis)),
		event.Telnet:   telnet.New(guard(event.Telnet)),
	}, nil
}

// certificates are what hosts' services are known by.
type certificates struct{ p *parts }

// Of implements front.Certificates.
func (c certificates) Of(k event.PotKey) (tls.Certificate, error) {
	name := c.p.persona(k).Hostname
	if name == "" {
		name = k.Host
	}
	cert, err := c.p.certs.Of(name)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("what %s is known by: %w", k.Host, err)
	}
	return cert, nil
}

// toPots brings attackers to their pots.
func (p *parts) toPots() front.Reach { return front.Reach{Enter: p.enter, Full: p.over} }

// enter wakes, or makes, an attacker's pot.
func (p *parts) enter(ctx context.Context, k event.PotKey) (front.Stay, error) { //nolint:ireturn // the fronts know no pool
	stay, err := p.pots.Enter(ctx, k)
	if errors.Is(err, pool.ErrFull) {
		return nil, fmt.Errorf("%w: %w", front.ErrFull, err)
	}
	if err != nil {
		return nil, err
	}
	return stay, nil
}

// run runs a command in a pot, by the pot's own SSH server: the engine would have to start a program of its own
// among those of the attacker.
func (p *parts) run(ctx context.Context, conn net.Conn, command string) error {
	if err := p.ca.Run(ctx, conn, command); err != nil {
		return fmt.Errorf("as its administrator: %w", err)
	}
	return nil
}

// ask has a pot's first process run a command, and waits for its end.
func (p *parts) ask(ctx context.Context, id string, pid int, command string) error {
	pot, err := furnish.Open(pid)
	if err != nil {
		return err
	}
	defer pot.Close()
	if !engine.Runs(id, pid) { // looked at when it is open: what is open stays
		return engine.ErrGone
	}
	return pot.Ask(ctx, command, func() error { return unix.Kill(pid, unix.SIGUSR1) })
}

// admit gives a pot the guest's account, once: what the attacker makes of it later is the attacker's.
func (p *parts) admit(k event.PotKey, stay front.Stay, g credential.Guest) (settled func(), err error) {
	id := stay.Pot().ID
	ssh := p.policy.At(event.SSH)
	if _, pot := ssh.Guest(k); pot == id {
		return nil, nil //nolint:nilnil // nothing is left to do
	}
	pid := stay.PID()
	if err := setAccount(stay, g.Account, g.Hash); err != nil {
		return nil, err
	}
	// Its server reads the host keys anew when nobody waits for it any more.
	reload := func() {
		if engine.Runs(id, pid) {
			_ = unix.Kill(pid, unix.SIGHUP)
		}
	}
	return reload, ssh.Entered(k, id)
}

// account gives a pot an account with a password.
func (*parts) account(stay front.Stay, account, password string) error {
	hash, err := furnish.Hash(password)
	if err != nil {
		return err
	}
	return setAccount(stay, account, hash)
}

func setAccount(stay front.Stay, account, hash string) error {
	pid := stay.PID()
	pot, err := furnish.Open(pid)
	if err != nil {
		return err
	}
	defer pot.Close()
	if !engine.Runs(stay.Pot().ID, pid) { // looked at when it is open: what is open stays
		return engine.ErrGone
	}
	return pot.SetAccount(account, hash)
}

// removed forgets an attacker whose pot is gone, so that it has to guess again, unless it may come back.
func (n *Node) removed(p *parts, k event.PotKey) {
	p.watch.Drop(k)
	p.homes.Gone(k)
	if p.book.Wanted(k) {
		return
	}
	if err := p.personas.Unpin(k); err != nil {
		n.log.Warn("persona of a pot that is gone", "attacker", k.Attacker, "host", k.Host, "error", err)
	}
	if err := p.policy.Forget(k); err != nil {
		n.log.Warn("credentials of a pot that is gone", "attacker", k.Attacker, "host", k.Host, "error", err)
	}
}

// evidence answers a request for a piece of what the vault holds.
func (p *parts) evidence(_ context.Context, r event.EvidenceRequest) event.EvidenceReply {
	data, size, err := p.vault.Read(r.SHA256, r.Offset, evidencePiece)
	if err != nil {
		return event.EvidenceReply{Error: err.Error()}
	}
	return event.EvidenceReply{Data: data, Size: size}
}
