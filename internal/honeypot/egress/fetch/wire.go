package fetch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	maxMessage = 64 << 10
	maxWaiting = 64 // requests at once; more wait in the descriptor
)

var errClosed = errors.New("the proxy is gone")

// Pair makes the descriptor that leads to a proxy: one end is the client's, one the proxy's.
func Pair() (client, proxy *net.UnixConn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make the way to the proxy: %w", err)
	}
	var conns [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "proxy")
		c, connErr := net.FileConn(f) // has a descriptor of its own
		err = errors.Join(err, connErr, f.Close())
		conns[i], _ = c.(*net.UnixConn)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("make the way to the proxy: %w", err)
	}
	return conns[0], conns[1], nil
}

// Serve answers what comes over its end of a pair until ctx is done or the other end is closed.
func (p *Proxy) Serve(ctx context.Context, conn *net.UnixConn) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer conn.Close() //nolint:errcheck // nothing is in it
	waiting := make(chan struct{}, maxWaiting)
	buf := make([]byte, maxMessage)
	for {
		n, err := conn.Read(buf)
		if err != nil || n == 0 {
			return
		}
		var r Request
		if err := json.Unmarshal(buf[:n], &r); err != nil {
			p.o.Log.ErrorContext(ctx, "request to the proxy", "error", err)
			return
		}
		select {
		case waiting <- struct{}{}:
		case <-ctx.Done():
			return
		}
		wg.Go(func() {
			defer func() { <-waiting }()
			reply, body := p.fetch(ctx, r)
			if err := send(conn, reply, body); err != nil && ctx.Err() == nil {
				p.o.Log.ErrorContext(ctx, "answer of the proxy", "error", err)
			}
		})
	}
}

// send passes a reply on, with its body as a descriptor.
func send(conn *net.UnixConn, reply Reply, body *os.File) error {
	var rights []byte
	if body != nil {
		defer body.Close() //nolint:errcheck // the other end has it then
		rights = unix.UnixRights(int(body.Fd()))
	}
	data, err := json.Marshal(reply)
	if err == nil {
		_, _, err = conn.WriteMsgUnix(data, rights, nil)
	}
	if err != nil {
		return fmt.Errorf("pass on what was fetched: %w", err)
	}
	return nil
}

// Client asks a proxy. Its methods may be called concurrently.
type Client struct {
	conn *net.UnixConn
	done chan struct{}

	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan arrived
}

type arrived struct {
	reply Reply
	body  *os.File
}

// NewClient asks over its end of a pair; Close ends it.
func NewClient(conn *net.UnixConn) *Client {
	c := &Client{conn: conn, done: make(chan struct{}), waiting: make(map[uint64]chan arrived)}
	go c.read()
	return c
}

// Close ends the client.
func (c *Client) Close() error {
	err := c.conn.Close()
	<-c.done
	if err != nil {
		return fmt.Errorf("close the way to the proxy: %w", err)
	}
	return nil
}

// Do has something fetched. The file, nil where nothing came, is the caller's.
func (c *Client) Do(ctx context.Context, r Request) (Reply, *os.File, error) {
	came := make(chan arrived, 1)
	c.mu.Lock()
	c.next++
	r.ID = c.next
	c.waiting[r.ID] = came
	c.mu.Unlock()
	data, err := json.Marshal(r)
	if err == nil {
		_, err = c.conn.Write(data)
	}
	if err != nil {
		c.forget(r.ID)
		return Reply{}, nil, fmt.Errorf("ask the proxy: %w", err)
	}
	select {
	case a := <-came:
		return a.reply, a.body, nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-c.done:
		err = errClosed
	}
	c.forget(r.ID)
	select {
	case a := <-came: // it came nevertheless
		if a.body != nil {
			_ = a.body.Close()
		}
	default:
	}
	return Reply{}, nil, fmt.Errorf("ask the proxy: %w", err)
}

func (c *Client) forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, id)
}

// read hands out replies.
func (c *Client) read() {
	defer close(c.done)
	buf, oob := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4))
	for {
		n, no, _, _, err := c.conn.ReadMsgUnix(buf, oob)
		if err != nil || n == 0 {
			return
		}
		a := arrived{body: fileIn(oob[:no])}
		if err := json.Unmarshal(buf[:n], &a.reply); err != nil {
			a.reply = Reply{}
		}
		c.mu.Lock()
		came := c.waiting[a.reply.ID]
		delete(c.waiting, a.reply.ID)
		if came != nil {
			came <- a
		}
		c.mu.Unlock()
		if came == nil && a.body != nil {
			_ = a.body.Close()
		}
	}
}

// fileIn is the descriptor that came with a message.
func fileIn(oob []byte) *os.File {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for _, m := range messages {
		if fds, err := unix.ParseUnixRights(&m); err == nil && len(fds) == 1 {
			unix.CloseOnExec(fds[0])
			return os.NewFile(uintptr(fds[0]), "fetched")
		}
	}
	return nil
}
