// Package catch keeps the files that come with the sessions of SSH's attackers, whichever way they come.
package catch

import (
	"bufio"
	"context"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/transfer"
	"github.com/kokkuri/kokkuri/internal/honeypot/harvest"
	"github.com/kokkuri/kokkuri/internal/honeypot/record"
)

// How files came.
const (
	howRsync = "rsync"

	harvestWithin  = 20 * time.Second
	harvestFiles   = 1000
	harvestEntries = 20_000
	harvestDepth   = 32
)

// Session is what an attacker runs in its pot.
type Session struct {
	Rec     *record.Recorder
	Channel uint32
	Start   event.Start
	Account string // as which it runs
	PID     int    // of the pot's first process
}

// Observe returns what looks at the session's bytes for files, and what is to be done when its program
// has ended. Both may be nil.
func (s Session) Observe(ctx context.Context) (transfer.Tap, func()) { //nolint:ireturn // there are many
	if s.Start.What == "subsystem" {
		if s.Start.Command == "sftp" {
			return transfer.NewSFTP(s.create), nil
		}
		return nil, nil
	}
	if s.Start.Terminal() {
		return nil, nil
	}
	if s.Start.What == "exec" {
		if words, ok := transfer.Words(string(s.Start.Command)); ok && len(words) > 0 {
			switch path.Base(words[0]) {
			case "scp":
				return s.scp(words), nil
			case "rsync":
				return s.rsync(ctx, words)
			}
		}
	}
	return transfer.NewStdin(s.create), nil
}

func (s Session) scp(words []string) transfer.Tap { //nolint:ireturn // there are two kinds
	if target, folder, ok := transfer.ParseSCP(words); ok {
		return transfer.NewSCP(target, folder, s.create, s.isDir)
	}
	return quiet{} // what goes out is the pot's own
}

func (s Session) rsync(ctx context.Context, words []string) (transfer.Tap, func()) { //nolint:ireturn // what observe returns
	target, receiving := transfer.IsRsyncServer(words)
	if !receiving {
		return quiet{}, nil
	}
	began := time.Now()
	return quiet{}, func() { s.harvest(ctx, target, began) }
}

// quiet is the tap of a protocol whose files are looked for in the pot.
type quiet struct{}

func (quiet) In([]byte)  {}
func (quiet) Out([]byte) {}
func (quiet) End()       {}

func (s Session) create(how string, path event.Bytes) transfer.Sink { //nolint:ireturn // what transfer asks for
	return s.Rec.Create(s.Channel, how, path)
}

// root is the file system that the pot sees.
func (s Session) root() string { return "/proc/" + strconv.Itoa(s.PID) + "/root" }

// absolute resolves a path as the guest means it.
func (s Session) absolute(name string) string {
	if rest, ok := strings.CutPrefix(name, "~/"); ok || name == "~" {
		name = rest
	}
	if path.IsAbs(name) {
		return path.Clean(name)
	}
	return path.Join(s.home(), name)
}

func (s Session) home() string {
	f, err := harvest.Open(s.root(), "/etc/passwd")
	if err != nil {
		return "/"
	}
	defer f.Close() //nolint:errcheck // read-only
	scan := bufio.NewScanner(io.LimitReader(f, 1<<20))
	for scan.Scan() {
		if fields := strings.Split(scan.Text(), ":"); len(fields) > 5 && fields[0] == s.Account {
			return fields[5]
		}
	}
	return "/"
}

func (s Session) isDir(name string) bool {
	return harvest.IsDir(s.root(), s.absolute(name))
}

// harvest keeps the files that changed in the pot, where a program wrote them that speaks a protocol of
// its own.
func (s Session) harvest(ctx context.Context, target string, since time.Time) {
	ctx, cancel := context.WithTimeout(ctx, harvestWithin)
	defer cancel()
	err := harvest.Since(ctx, s.root(), s.absolute(target), since, func(name string, f *os.File, info harvest.Info) error {
		sink := s.Rec.Create(s.Channel, howRsync, event.Bytes(name))
		_, err := io.Copy(&writer{sink: sink}, f)
		sink.Close(info.Partial || err != nil)
		return nil
	}, harvest.Limits{Files: harvestFiles, Depth: harvestDepth, Entries: harvestEntries})
	if err != nil {
		s.Rec.Note(event.Evidence{Channel: s.Channel, Kind: event.EvidenceTruncated, Reason: "files that came by rsync: " + err.Error()})
	}
}

// writer writes to a sink from its start on.
type writer struct {
	sink transfer.Sink
	off  int64
}

func (w *writer) Write(p []byte) (int, error) {
	n, err := w.sink.WriteAt(p, w.off)
	w.off += int64(n)
	return n, err
}
