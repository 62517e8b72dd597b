package door

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
)

const (
	helloWithin  = 30 * time.Second // of a door that was started
	firstMessage = 5 * time.Second
	maxStrangers = 4096 // connections at once that have not said yet what they want; more wait

	firstRetry = 200 * time.Millisecond
	lastRetry  = 10 * time.Second

	doorDir  = "/run/door" // where a door has the folder that it shares with the node
	keysName = "keys"
)

// Engine runs doors.
type Engine interface {
	// StartDoor removes the node's door of this name, starts another, and returns its id and its first process.
	StartDoor(ctx context.Context, s engine.DoorSpec) (id string, pid int, err error)
	// RemoveDoors removes all doors of the node.
	RemoveDoors(ctx context.Context) error
}

// house holds the door: it starts it, and starts it again when it ends.
type house struct {
	engine  Engine
	suite   string
	spec    func(context.Context, string) (engine.DoorSpec, error)
	dir     string // shared with the door
	methods []string
	log     *slog.Logger

	mu      sync.Mutex
	up      chan struct{} // closed while the door is up
	control *line         // to its first process
	shift   uint32        // of its user ids
	pid     int
	failure error
	uids    map[uint32]*connection
	next    uint32
	// subsystem is what marks a subsystem's command, which nobody else knows.
	subsystem string
	socket    string          // where the door finds the node
	spoilt    map[string]bool // configurations that sshd does not take
}

func newHouse(o Options, suite string) *house {
	return &house{
		engine: o.Engine, suite: suite, spec: o.Spec, dir: filepath.Join(o.Dir, suite), log: o.Log, up: make(chan struct{}), uids: make(map[uint32]*connection), next: firstUID,
		methods: o.Methods, spoilt: make(map[string]bool),
	}
}

// run keeps a door running until ctx is done; then there is none.
func (h *house) run(ctx context.Context) {
	retry := firstRetry
	for ctx.Err() == nil {
		began := time.Now()
		err := h.once(ctx)
		if ctx.Err() != nil {
			break
		}
		h.mu.Lock()
		known := h.failure != nil && h.failure.Error() == err.Error()
		h.failure = err
		h.mu.Unlock()
		if !known {
			h.log.ErrorContext(ctx, "the door of SSH is not up", "suite", h.suite, "error", err)
		}
		if time.Since(began) > lastRetry {
			retry = firstRetry
		}
		timer := time.NewTimer(retry)
		select {
		case <-ctx.Done():
			timer.Stop()
		case <-timer.C:
		}
		retry = min(2*retry, lastRetry)
	}
}

// once runs one door until it ends.
func (h *house) once(ctx context.Context) error {
	spec, err := h.spec(ctx, h.suite)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(h.dir); err != nil {
		return fmt.Errorf("empty the door's folder: %w", err)
	}
	// Only root may look for what accounts of the door can reach.
	if err := os.MkdirAll(filepath.Dir(filepath.Dir(filepath.Dir(h.dir))), 0o755); err != nil { //nolint:gosec // as /run is
		return fmt.Errorf("make the door's folder: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(h.dir), 0o700); err != nil {
		return fmt.Errorf("make the door's folder: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(h.dir, keysName), 0o711); err != nil { //nolint:gosec // accounts have to reach the socket
		return fmt.Errorf("make the door's folder: %w", err)
	}
	if err := os.Chmod(h.dir, 0o711); err != nil { //nolint:gosec // see above
		return fmt.Errorf("make the door's folder: %w", err)
	}
	// Nobody in a door can list the folder, and who forwards connections can connect to what it knows the name of only.
	socket := random()
	path := filepath.Join(h.dir, socket)
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return fmt.Errorf("listen for the door: %w", err)
	}
	defer l.Close()                               //nolint:errcheck // its end
	if err := os.Chmod(path, 0o666); err != nil { //nolint:gosec // whoever connects is asked for its user id
		return fmt.Errorf("listen for the door: %w", err)
	}
	subsystem := random()
	at := filepath.Join(doorDir, socket)
	spec.Name, spec.Dir, spec.At, spec.Args = h.suite, h.dir, doorDir, []string{at}
	_, pid, err := h.engine.StartDoor(ctx, spec)
	if err != nil {
		return err
	}
	shift, err := shiftOf(pid)
	if err != nil {
		return err
	}
	if err := h.own(int(shift)); err != nil {
		return err
	}
	h.mu.Lock()
	h.shift, h.pid, h.subsystem, h.socket = shift, pid, subsystem, at
	h.mu.Unlock()
	return h.serve(ctx, l)
}

// own gives what lies in the folder to the door's root.
func (h *house) own(uid int) error {
	if uid == 0 {
		return nil
	}
	for _, name := range []string{".", keysName} {
		if err := os.Chown(filepath.Join(h.dir, name), uid, uid); err != nil {
			return fmt.Errorf("give the door its files: %w", err)
		}
	}
	return nil
}

func random() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// shiftOf returns by how much the user ids in a process's namespace are higher outside.
func shiftOf(pid int) (uint32, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/uid_map")
	if err != nil {
		return 0, fmt.Errorf("look who is who in the door: %w", err)
	}
	f := strings.Fields(string(data))
	if len(f) < 3 || f[0] != "0" {
		return 0, fmt.Errorf("look who is who in the door: %q", data)
	}
	n, err := strconv.ParseUint(f[1], 10, 32)
	if err != nil {
		return 0, fmt.Errorf("look who is who in the door: %w", err)
	}
	return uint32(n), nil
}

// serve answers what comes from the door until its first process has gone, or ctx is done.
func (h *house) serve(ctx context.Context, l *net.UnixListener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	waiting := time.AfterFunc(helloWithin, func() { cancel(errors.New("the door does not answer")) })
	defer waiting.Stop()
	strangers := make(chan struct{}, maxStrangers)
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return fmt.Errorf("the door has closed: %w", err)
		}
		strangers <- struct{}{} // each goes within firstMessage
		wg.Go(func() {
			once := sync.OnceFunc(func() { <-strangers })
			defer once()
			h.answer(ctx, conn, once, func() {
				waiting.Stop()
			}, cancel)
		})
	}
}

// answer hears what somebody in the door wants, and gives it.
func (h *house) answer(ctx context.Context, conn *net.UnixConn, known, up func(), down context.CancelCauseFunc) {
	defer conn.Close() //nolint:errcheck // its end
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	h.mu.Lock()
	shift, pid := h.shift, h.pid
	h.mu.Unlock()
	l, err := newLine(conn, shift)
	if err != nil {
		return
	}
	_ = conn.SetReadDeadline(time.Now().Add(firstMessage))
	fields, files, err := l.receive()
	if err != nil {
		return
	}
	_ = conn.SetReadDeadline(time.Time{})
	known()
	got, err := parse(fields)
	if err == nil && got == any(msgDoor) && l.uid == 0 && l.pid == pid {
		closeAll(files)
		up()
		h.follow(ctx, l)
		down(errors.New("its first process has ended"))
		return
	}
	if err == nil {
		err = h.dispatch(ctx, l, got, files)
	}
	if err != nil {
		closeAll(files)
		h.log.WarnContext(ctx, "something in the door was not answered", "uid", l.uid, "error", err)
	}
}

// dispatch gives a message to the connection that it is about. What says which connection is, for root, the message, and
// for all others the user id, which the kernel vouches for. The files are the connection's where there is no error.
func (h *house) dispatch(ctx context.Context, l *line, got any, files []*os.File) error {
	uid := l.uid
	switch m := got.(type) {
	case guess:
		uid = m.uid
	case offer:
		uid = m.uid
	case uint32:
		uid = m
	}
	c := h.connectionOf(uid)
	if c == nil {
		return fmt.Errorf("%w: no connection has user id %d", errStranger, uid)
	}
	switch m := got.(type) {
	case guess:
		if l.uid == 0 && len(files) == 0 {
			return c.decide(l, m)
		}
	case uint32:
		if l.uid == 0 && len(files) == 0 {
			return c.enterNetwork(l)
		}
	case offer:
		if l.uid == keysUID && len(files) == 0 {
			c.offered(m)
			return l.send(nil, msgOK)
		}
	case start:
		if len(files) == maxFiles {
			c.session(ctx, l, m, files)
			return nil
		}
	}
	return fmt.Errorf("%w: %T from user id %d", errStranger, got, l.uid)
}

// follow hears from the first process which of its sshd have ended.
func (h *house) follow(ctx context.Context, l *line) {
	h.mu.Lock()
	h.control, h.failure = l, nil
	close(h.up)
	h.mu.Unlock()
	h.log.InfoContext(ctx, "the door of SSH is up", "suite", h.suite)
	for {
		fields, files, err := l.receive()
		closeAll(files)
		if err != nil {
			break
		}
		got, err := parse(fields)
		if m, ok := got.(exit); ok && err == nil {
			if c := h.connectionOf(m.uid); c != nil {
				c.sshdEnded(m.status)
			}
		}
	}
	h.mu.Lock()
	h.control, h.up = nil, make(chan struct{})
	for _, c := range h.uids {
		c.sshdEnded(-1)
	}
	h.mu.Unlock()
}

// await returns when the door is up, or says why it is not.
func (h *house) await(ctx context.Context, within time.Duration) (*line, error) {
	timer := time.NewTimer(within)
	defer timer.Stop()
	for {
		h.mu.Lock()
		control, up, failure := h.control, h.up, h.failure
		h.mu.Unlock()
		if control != nil {
			return control, nil
		}
		select {
		case <-up:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the door: %w", context.Cause(ctx))
		case <-timer.C:
			if failure == nil {
				failure = errors.New("it is still being made")
			}
			return nil, fmt.Errorf("the door is not up: %w", failure)
		}
	}
}

// enrol gives a connection a user id that no other has, and none had for long.
func (h *house) enrol(c *connection) (uint32, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for range lastUID - firstUID + 1 {
		uid := h.next
		if h.next++; h.next > lastUID {
			h.next = firstUID
		}
		if h.uids[uid] == nil {
			h.uids[uid] = c
			return uid, nil
		}
	}
	return 0, errors.New("the door has no user id left")
}

func (h *house) dismiss(uid uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.uids, uid)
}

func (h *house) connectionOf(uid uint32) *connection {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.uids[uid]
}

func (h *house) mark() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.subsystem
}

// fault says why there is no door; nil where there is one.
func (h *house) fault() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.control != nil {
		return nil
	}
	return h.failure
}
