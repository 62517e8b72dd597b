package collect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/native"
	"github.com/kokkuri/kokkuri/internal/tail"
	"github.com/kokkuri/kokkuri/internal/trouble"
)

// Container names containers whose log is followed.
type Container struct {
	Name   string // or a pattern of names, as path.Match has them
	Format native.Format
}

const (
	containersPoll  = 5 * time.Second  // how often to look where the engine says nothing
	containerLinger = 10 * time.Second // how long a removed container's log is read on
	engineTimeout   = 10 * time.Second
	maxContainers   = 256
)

// containers follows the logs of a Docker Engine's containers. The engine is asked which they are and where their
// logs lie; the files themselves are followed, since what the engine hands out can only be asked for anew by time, and
// times are neither unique nor in order.
type containers struct {
	o        []Container
	options  *Options
	client   *http.Client
	dir      string // keeps the cursors
	problems *trouble.Kept
	log      *slog.Logger

	began map[string]time.Time // by Container.Name: what was made before was there before

	mu        sync.Mutex
	following map[string]*containerLog // by ID
}

// containerLog is one container whose log is followed.
type containerLog struct {
	name string
	log  *nativeLog
	stop context.CancelFunc
	done chan struct{}
}

func newContainers(o []Container, socket string, c *Options, dir string) *containers {
	var d net.Dialer
	return &containers{
		o: o, options: c, dir: dir, log: c.Log, problems: trouble.New(c.Log, "a road for logs"),
		began: map[string]time.Time{}, following: map[string]*containerLog{},
		client: &http.Client{Transport: &http.Transport{
			DialContext:           func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", socket) },
			ResponseHeaderTimeout: engineTimeout, MaxIdleConns: 2, IdleConnTimeout: time.Minute,
		}},
	}
}

// run follows until ctx ends.
func (c *containers) run(ctx context.Context, watcher *tail.Watcher) error {
	defer c.client.CloseIdleConnections()
	if err := c.load(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wake := make(chan struct{}, 1)
	var listener sync.WaitGroup
	listener.Go(func() { c.listen(ctx, wake) })
	tick := time.NewTicker(containersPoll)
	defer tick.Stop()
	for first := true; ctx.Err() == nil; {
		if err := c.look(ctx, watcher, &first); err != nil && ctx.Err() == nil {
			c.problems.Set("engine", event.Finding{
				Level: trouble.Error, Subject: "containers", Text: fmt.Sprintf("the Docker Engine is not asked which there are: %v; tried again", err),
				Mend: "does the engine run, and is agent.docker_socket its socket? Logs that are followed already are followed on",
			})
		} else {
			c.problems.Clear("engine")
		}
		select {
		case <-ctx.Done():
		case <-wake:
		case <-tick.C:
		}
	}
	for _, f := range c.following {
		f.stop()
		<-f.done
	}
	listener.Wait()
	return nil
}

func (c *containers) beganFile() string { return filepath.Join(c.dir, "containers.json") }

func (c *containers) load() error {
	b, err := os.ReadFile(c.beganFile())
	if err == nil && json.Unmarshal(b, &c.began) == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("since when containers are followed: %w", err)
	}
	return nil // damaged: they are followed from now on
}

// begin notes names that are followed from now on.
func (c *containers) begin(now time.Time) error {
	changed := false
	for _, o := range c.o {
		if _, ok := c.began[o.Name]; !ok {
			c.began[o.Name], changed = now, true
		}
	}
	if !changed {
		return nil
	}
	b, err := json.Marshal(c.began)
	if err != nil {
		return fmt.Errorf("note which containers are followed: %w", err)
	}
	tmp := c.beganFile() + ".new"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return fmt.Errorf("note which containers are followed: %w", err)
	}
	return os.Rename(tmp, c.beganFile()) //nolint:wrapcheck // names both
}

// listed is a container as the engine lists it.
type listed struct {
	ID      string   `json:"Id"`
	Names   []string `json:"Names"`
	Created int64    `json:"Created"` // seconds since 1970
}

// look compares the containers that are followed with those that should be.
func (c *containers) look(ctx context.Context, w *tail.Watcher, first *bool) error {
	asked := time.Now()
	var list []listed
	if err := c.get(ctx, "/containers/json?all=1", &list); err != nil {
		return err
	}
	if err := c.begin(asked); err != nil {
		return err
	}
	there := map[string]bool{}
	var errs []error
	for _, l := range list {
		o, name, ok := c.wanted(l.Names)
		there[l.ID] = ok
		if ok {
			errs = append(errs, c.add(ctx, o, name, l, w))
		}
	}
	c.drop(there)
	if *first {
		*first = false
		c.sweep(there)
	}
	return errors.Join(errs...)
}

// wanted finds what is configured for a container with these names.
func (c *containers) wanted(names []string) (o Container, name string, ok bool) {
	for _, o := range c.o {
		for _, n := range names {
			n = strings.TrimPrefix(n, "/")
			if match, err := path.Match(o.Name, n); err == nil && match || n == o.Name {
				return o, n, true
			}
		}
	}
	return o, "", false
}

// add follows a container that isn't yet.
func (c *containers) add(ctx context.Context, o Container, name string, l listed, w *tail.Watcher) error {
	c.mu.Lock()
	_, ok := c.following[l.ID]
	full := len(c.following) >= maxContainers
	c.mu.Unlock()
	if ok {
		return nil
	}
	if full {
		c.problems.Set("many", event.Finding{
			Level: trouble.Error, Subject: "containers", Text: fmt.Sprintf("more than %d are named: the others are not followed", maxContainers),
			Mend: "name fewer in agent.containers",
		})
		return nil
	}
	var info struct {
		Created    time.Time `json:"Created"`
		LogPath    string    `json:"LogPath"`
		HostConfig struct {
			LogConfig struct {
				Type string `json:"Type"`
			} `json:"LogConfig"`
		} `json:"HostConfig"`
	}
	if err := c.get(ctx, "/containers/"+url.PathEscape(l.ID)+"/json", &info); err != nil {
		return err
	}
	problem := "container " + name
	if driver := info.HostConfig.LogConfig.Type; driver != "json-file" {
		c.problems.Set(problem, event.Finding{
			Level: trouble.Error, Subject: problem, Text: fmt.Sprintf("its log driver %s keeps no file that others can read", driver),
			Mend: "start it with --log-driver json-file; with the driver syslog, let it send to the server",
		})
		return nil
	}
	c.problems.Clear(problem)
	if info.LogPath == "" {
		return nil // never started
	}
	f, err := c.follow(ctx, o, name, l.ID, info.LogPath, info.Created.After(c.began[o.Name]), w)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.following[l.ID] = f
	return nil
}

func (c *containers) cursor(id string) string {
	return filepath.Join(c.dir, "container-"+path.Base(id)+".json")
}

// follow begins to follow a container's log, where it is new from the beginning.
func (c *containers) follow(
	ctx context.Context, o Container, name, id, file string, isNew bool, w *tail.Watcher,
) (*containerLog, error) {
	cursor := c.cursor(id)
	follower, err := tail.New(tail.Options{Path: literalPath(file), Cursor: cursor, FromHead: isNew, Watcher: w, Log: c.log})
	if err != nil {
		return nil, fmt.Errorf("follow the log of container %s: %w", name, err)
	}
	n := &nativeLog{follower: follower, problems: trouble.New(c.log, "a road for logs")}
	n.converter = newConverter(dockerFormat(o.Format), "container "+name, cursor+".open", c.options, n.problems)
	ctx, cancel := context.WithCancel(ctx)
	f := &containerLog{name: name, log: n, stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(f.done)
		if err := n.run(ctx, w); err != nil {
			n.problems.Set("run", event.Finding{Level: trouble.Error, Subject: "container " + name, Text: err.Error(), Mend: "mend what it says and restart the agent"})
		}
	}()
	return f, nil
}

// literalPath makes a path a pattern for itself.
func literalPath(path string) string { return strings.ReplaceAll(path, "%", "%%") }

// drop lets go of containers that are no more, once their logs were read to the end.
func (c *containers) drop(there map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, f := range c.following {
		if there[id] || !f.log.converter.quiet(containerLinger) {
			continue
		}
		f.stop()
		<-f.done
		delete(c.following, id)
		_ = os.Remove(c.cursor(id))
		_ = os.Remove(c.cursor(id) + ".open")
	}
}

// sweep removes cursors of containers that were removed while the agent was away.
func (c *containers) sweep(there map[string]bool) {
	found, _ := filepath.Glob(c.cursor("*"))
	for _, path := range found {
		id := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "container-"), ".json")
		if !there[id] {
			_ = os.Remove(path)
			_ = os.Remove(path + ".open")
		}
	}
}

// get asks the engine (API 1.24 and later).
func (c *containers) get(ctx context.Context, what string, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	resp, err := c.ask(ctx, what)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // only read from
	if err := json.NewDecoder(http.MaxBytesReader(nil, resp.Body, 16<<20)).Decode(answer); err != nil {
		return fmt.Errorf("what the engine answers: %w", err)
	}
	return nil
}

var errEngine = errors.New("the engine answers")

func (c *containers) ask(ctx context.Context, what string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://engine"+what, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("ask the engine: %w", err)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the engine: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("%w %s", errEngine, resp.Status)
	}
	return resp, nil
}

// listen wakes at the engine's own words of containers that come and go.
func (c *containers) listen(ctx context.Context, wake chan<- struct{}) {
	const filter = `{"type":["container"],"event":["create","start","destroy","rename"]}`
	for ctx.Err() == nil {
		resp, err := c.ask(ctx, "/events?filters="+url.QueryEscape(filter))
		if err == nil {
			dec := json.NewDecoder(resp.Body)
			for {
				select {
				case wake <- struct{}{}:
				default:
				}
				var e struct{}
				if dec.Decode(&e) != nil {
					break
				}
			}
			_ = resp.Body.Close()
		}
		wait(ctx, time.Second)
	}
}

// findings are what hinders the following now.
func (c *containers) findings() []event.Finding {
	out := c.problems.List()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.following {
		for _, finding := range f.log.findings() {
			finding.Subject = "container " + f.name
			out = append(out, finding)
		}
	}
	return out
}

// stats sums up those of the containers that are there.
func (c *containers) stats() (out tail.Stats) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.following {
		out.Add(f.log.stats())
	}
	return out
}
