package collect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gomodule/redigo/redis"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/native"
	"github.com/kokkuri/kokkuri/internal/tail"
	"github.com/kokkuri/kokkuri/internal/trouble"
)

// Redis is a server whose ACL LOG is read: its own log says nothing of logins that failed.
type Redis struct {
	Address      string // host:port, or the path of a Unix socket
	Username     string // empty: default
	PasswordFile string // empty: none; read at every connection
	TLS          bool
	CAFile       string // empty: the system's
	ServerName   string // in its certificate; empty: the address's host
	CertFile     string // the client's; empty: none
	KeyFile      string
}

const (
	redisPoll    = 250 * time.Millisecond
	redisTimeout = 5 * time.Second
	redisFew     = 10   // entries that are asked for first: those that changed stand first
	redisAll     = 1000 // entries that are looked at at most
	redisBlur    = 4 * time.Millisecond
	redisTries   = 20      // polls that are left out for being too blurred
	redisAnswer  = 8 << 20 // bytes of an answer: who may not log in may choose long names
)

// redisLog polls one server.
type redisLog struct {
	o        Redis
	host     string
	out      outbox[aclPosition]
	problems *trouble.Kept
	log      *slog.Logger

	longest int // of the server's ACL LOG; 0: not known
	blurred int // polls that were left out, one after the other

	polls, guesses, missed, overflows atomic.Int64
	lost                              *losses
}

func newRedisLog(o Redis, c *Options, dir string) *redisLog {
	r := &redisLog{o: o, host: c.Host, log: c.Log, problems: trouble.New(c.Log, "a road for logs"), lost: c.lost}
	r.out = outbox[aclPosition]{
		host: c.Host, origin: "redis " + o.Address, name: "redis/" + o.Address, road: event.RoadAgent, publish: c.Publish,
		file: stateFile{path: filepath.Join(dir, "redis-"+tail.FileName(o.Address))}, problems: r.problems, log: c.Log,
	}
	return r
}

// run polls until ctx ends.
func (r *redisLog) run(ctx context.Context, _ *tail.Watcher) error {
	if err := r.out.open(); err != nil {
		return err
	}
	defer r.out.close()
	if r.out.resend(ctx) != nil {
		return nil // ctx ended
	}
	// A server that refuses us notes that in the very log that is read: don't fill it.
	const shortest, longest = time.Second, 30 * time.Second
	for pause := shortest; ctx.Err() == nil; pause = min(2*pause, longest) {
		began := time.Now()
		err := r.session(ctx)
		if ctx.Err() != nil {
			break
		}
		if time.Since(began) > longest {
			pause = shortest
		}
		if _, refused := errors.AsType[redis.Error](err); refused {
			pause = longest
		}
		r.complain(err)
		wait(ctx, pause)
	}
	return nil
}

// session polls over one connection until that fails.
func (r *redisLog) session(ctx context.Context) error {
	conn, raw, err := r.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()                                         //nolint:errcheck // nothing is lost
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() }) // what waits for an answer waits no more
	defer stop()
	position, err := r.identify(conn)
	if err != nil {
		return err
	}
	tick := time.NewTicker(redisPoll)
	defer tick.Stop()
	for {
		if position, err = r.poll(ctx, conn, position); err != nil {
			return err
		}
		r.polls.Add(1)
		r.problems.Clear("redis")
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// identify learns which run of the server this is. A log of another run has nothing in common with what was seen.
func (r *redisLog) identify(conn redis.Conn) (aclPosition, error) {
	at := r.out.state.Position
	info, err := redis.String(conn.Do("INFO", "server"))
	if fatal(err) {
		return at, fmt.Errorf("INFO: %w", err)
	}
	run := ""
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "run_id:"); ok {
			run = value
		}
	}
	if run != "" && at.Run != "" && run != at.Run {
		at.Entries = nil
	}
	at.Run = run
	r.longest = 0
	pair, err := redis.Strings(conn.Do("CONFIG", "GET", "acllog-max-len"))
	if fatal(err) {
		return at, fmt.Errorf("CONFIG GET acllog-max-len: %w", err)
	}
	if len(pair) == 2 {
		r.longest, _ = strconv.Atoi(pair[1])
	}
	return at, nil
}

// fatal reports whether a command failed for another reason than that the server refuses it.
func fatal(err error) bool {
	_, refused := errors.AsType[redis.Error](err)
	return err != nil && !refused
}

// poll reads what is new and hands it on.
func (r *redisLog) poll(ctx context.Context, conn redis.Conn, at aclPosition) (aclPosition, error) {
	known := r.out.known
	got, err := r.read(conn, redisFew)
	if err != nil {
		return at, err
	}
	if !known || !at.enough(got) {
		if got, err = r.read(conn, redisAll); err != nil {
			return at, err
		}
	}
	if got.blur > redisBlur && r.blurred < redisTries { // a busy server: entries are hard to tell from each other
		r.blurred++
		return at, nil
	}
	r.blurred = 0
	news := at.compare(got, r.longest)
	if !known {
		r.out.move(news.next)
		return news.next, nil
	}
	if news.overflow {
		r.overflow(news.lost)
	}
	if !news.changed {
		return news.next, nil
	}
	var lines [][]byte
	for i, e := range slices.Backward(got.entries) { // the oldest stands last
		r.guesses.Add(int64(min(news.counts[i], 1<<40)))
		for _, record := range e.Records(news.counts[i], got.at) {
			lines = append(lines, native.Encode(record, r.host, native.RedisACLApp))
		}
	}
	if len(lines) == 0 {
		r.out.move(news.next)
		return news.next, nil
	}
	return news.next, r.out.put(ctx, lines, news.next)
}

func (r *redisLog) overflow(lost uint64) {
	r.overflows.Add(1)
	n := int64(min(lost, 1<<40))
	r.lost.redis.Add(max(n, 1)) // before 7.2 it does not tell how many
	total := r.missed.Add(n)
	text := fmt.Sprintf("its ACL LOG overflowed between two polls, %d times since the agent started", r.overflows.Load())
	if total > 0 {
		text += fmt.Sprintf("; %d entries were lost", total)
	} else {
		text += "; how many entries were lost this version does not tell"
	}
	r.problems.Set("overflow", event.Finding{
		Level: trouble.Warning, Subject: "redis " + r.o.Address, Text: text,
		Mend: "make it longer: acllog-max-len 1000 in redis.conf, and redis-cli CONFIG SET acllog-max-len 1000",
	})
}

// complain says what hinders the polling, and what to do about it.
func (r *redisLog) complain(err error) {
	mend := "does the server run, is agent.redis[].address right, and does it speak TLS there (agent.redis[].tls)?"
	if r.o.TLS {
		mend = "does the server run, does it speak TLS there (tls-port), and are ca_file, server_name, cert_file and key_file of agent.redis[] right?"
	}
	if refusal, ok := errors.AsType[redis.Error](err); ok {
		code, _, _ := strings.Cut(string(refusal), " ")
		switch code {
		case "NOPERM":
			mend = "let its user: redis-cli ACL SETUSER " + userOf(r.o) + " +acl|log +time +info +config|get"
		case "NOAUTH", "WRONGPASS":
			mend = "set agent.redis[].username and agent.redis[].password_file to a user with: +acl|log +time +info +config|get"
		default:
			mend = "ACL LOG came with Redis 6: an older server tells of failed logins nowhere; update it"
		}
	} else if errors.Is(err, errRedisAnswer) {
		mend = "somebody filled it with overlong names: redis-cli ACL LOG RESET; Redis 6.2 and later bound them"
	}
	r.problems.Set("redis", event.Finding{
		Level: trouble.Error, Subject: "redis " + r.o.Address, Text: fmt.Sprintf("its ACL LOG is not read: %v", err), Mend: mend,
	})
}

func userOf(o Redis) string {
	if o.Username == "" {
		return "default"
	}
	return o.Username
}

// findings are what hinders the polling now.
func (r *redisLog) findings() []event.Finding { return r.problems.List() }
