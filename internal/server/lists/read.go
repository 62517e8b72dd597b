package lists

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gaissmai/bart"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Bounds of what is read.
const (
	maxLine      = 4096
	bytesAnEntry = 128 // a list may have so many bytes for each entry that it may have
	// Networks that are wider than these would put half the world on a list by one slip.
	widest4, widest6 = 8, 19
)

// Errors of lists.
var (
	errUnchanged = errors.New("it has not changed")
	errTooLong   = errors.New("it has more entries than max_entries")
	errNoList    = errors.New("most of its lines are no addresses: is it a list?")
)

// content is what reading a list gave.
type content struct {
	table   *bart.Lite
	entries int
	skipped int
	tag     string
	at      time.Time
}

// parse reads one address or network a line; what follows it after a blank, a comma or a semicolon, and what begins with # or ;, is
// left out.
func parse(r io.Reader, most int) (content, error) {
	out := content{table: &bart.Lite{}}
	lines := bufio.NewScanner(io.LimitReader(r, int64(most)*bytesAnEntry+maxLine))
	lines.Buffer(make([]byte, 0, maxLine), maxLine)
	for lines.Scan() {
		text := strings.TrimSpace(lines.Text())
		if i := strings.IndexAny(text, " \t,;#"); i >= 0 {
			text = text[:i]
		}
		if text == "" {
			continue
		}
		p, ok := network(text)
		if !ok {
			out.skipped++
			continue
		}
		out.table.Insert(p)
		if out.entries++; out.entries > most {
			return content{}, fmt.Errorf("%w (%d)", errTooLong, most)
		}
	}
	if err := lines.Err(); err != nil {
		return content{}, fmt.Errorf("read it: %w", err)
	}
	if out.skipped > out.entries {
		return content{}, fmt.Errorf("%w (%d of %d)", errNoList, out.skipped, out.skipped+out.entries)
	}
	return out, nil
}

func network(text string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return netip.Prefix{}, false
		}
		a = event.Canonical(a)
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if p.Addr().Is4() && p.Bits() < widest4 || p.Addr().Is6() && p.Bits() < widest6 || p.Addr().Is4In6() {
		return netip.Prefix{}, false
	}
	return p.Masked(), true
}

func (s *Set) readFile(src Source) (content, error) {
	f, err := os.Open(src.File)
	if errors.Is(err, fs.ErrNotExist) && src.Optional {
		return content{table: &bart.Lite{}, at: s.opts.Now()}, nil
	}
	if err != nil {
		return content{}, err //nolint:wrapcheck // it names the file
	}
	defer f.Close() //nolint:errcheck // only read from
	c, err := parse(f, src.MaxEntries)
	if err != nil {
		return content{}, fmt.Errorf("%s: %w", src.File, err)
	}
	c.at = s.opts.Now()
	return c, nil
}

// fetch asks a URL for its list, and keeps what it gives for the next start.
func (s *Set) fetch(ctx context.Context, src Source, tag string) (content, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchWithin)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, src.URL, http.NoBody)
	if err != nil {
		return content{}, fmt.Errorf("ask for it: %w", err)
	}
	if tag != "" {
		request.Header.Set("If-None-Match", tag)
	}
	answer, err := s.opts.Client.Do(request)
	if err != nil {
		return content{}, fmt.Errorf("ask for it: %w", err)
	}
	defer answer.Body.Close() //nolint:errcheck // only read from
	switch {
	case answer.StatusCode == http.StatusNotModified && tag != "":
		return content{}, errUnchanged
	case answer.StatusCode != http.StatusOK:
		return content{}, fmt.Errorf("%s answers %s", src.URL, answer.Status) //nolint:err113 // told to people
	}
	var kept bytes.Buffer
	c, err := parse(io.TeeReader(answer.Body, &kept), src.MaxEntries)
	if err != nil {
		return content{}, fmt.Errorf("%s: %w", src.URL, err)
	}
	c.tag, c.at = answer.Header.Get("ETag"), s.opts.Now()
	if err := s.keep(src, kept.Bytes()); err != nil {
		s.opts.Log.WarnContext(ctx, "list not kept for the next start", "list", src.Name, "error", err)
	}
	return c, nil
}

func (s *Set) kept(src Source) string { return filepath.Join(s.opts.Dir, src.Name+".txt") }

// keep writes a list so that it is there whole or not at all. Its first line says where it is from.
func (s *Set) keep(src Source, data []byte) error {
	if err := os.MkdirAll(s.opts.Dir, 0o700); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	f, err := os.CreateTemp(s.opts.Dir, src.Name+".*")
	if err != nil {
		return fmt.Errorf("make file: %w", err)
	}
	_, err = f.Write(append([]byte("# "+src.URL+"\n"), data...))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), s.kept(src))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", s.kept(src), err), os.Remove(f.Name()))
	}
	return nil
}

var errOther = errors.New("it was kept of another URL")

func (s *Set) readKept(src Source) (content, error) {
	f, err := os.Open(s.kept(src))
	if err != nil {
		return content{}, err //nolint:wrapcheck // it names the file
	}
	defer f.Close() //nolint:errcheck // only read from
	info, err := f.Stat()
	if err != nil {
		return content{}, err //nolint:wrapcheck // it names the file
	}
	r := bufio.NewReader(f)
	first, err := r.ReadString('\n')
	if err != nil || first != "# "+src.URL+"\n" {
		return content{}, errOther
	}
	c, err := parse(r, src.MaxEntries)
	c.at = info.ModTime()
	return c, err
}
