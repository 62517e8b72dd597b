package broker

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// logBurst is how many warnings of the server are written in a second; anyone may connect and cause them.
const logBurst = 10

// serverLog hands the server's messages on to slog and remembers the one that kept it from starting.
type serverLog struct {
	log *slog.Logger

	mu       sync.Mutex
	fatalErr error
	second   int64
	written  int

	started    atomic.Bool // before, its warnings are about the configuration, which is ours
	suppressed atomic.Uint64
}

func newServerLog(log *slog.Logger) *serverLog { return &serverLog{log: log} }

// allow reports whether one more warning may be written in this second.
func (l *serverLog) allow() bool {
	now := time.Now().Unix()
	l.mu.Lock()
	defer l.mu.Unlock()
	if now != l.second {
		l.second, l.written = now, 0
	}
	l.written++
	if l.written > logBurst {
		l.suppressed.Add(1)
		return false
	}
	return true
}

func (l *serverLog) warn(format string, v []any) {
	if !l.started.Load() {
		l.Noticef(format, v...)
		return
	}
	if !l.allow() {
		return
	}
	l.log.Warn("bus server", "text", fmt.Sprintf(format, v...), "suppressed_before", l.suppressed.Load())
}

// fatal returns the error that made the server give up, if one did.
func (l *serverLog) fatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fatalErr
}

// Noticef implements server.Logger.
func (l *serverLog) Noticef(format string, v ...any) {
	l.log.Debug("bus server", "text", fmt.Sprintf(format, v...))
}

// Warnf implements server.Logger.
func (l *serverLog) Warnf(format string, v ...any) { l.warn(format, v) }

// Errorf implements server.Logger.
func (l *serverLog) Errorf(format string, v ...any) { l.warn(format, v) }

// Fatalf implements server.Logger. The server expects it to end the process; here Start returns the error.
func (l *serverLog) Fatalf(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fatalErr == nil {
		l.fatalErr = fmt.Errorf(format, v...) //nolint:err113 // the server's own words
	}
}

// Debugf implements server.Logger.
func (l *serverLog) Debugf(string, ...any) {}

// Tracef implements server.Logger.
func (l *serverLog) Tracef(string, ...any) {}
