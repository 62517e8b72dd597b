package transfer

import (
	"bytes"
	"strconv"
	"strings"
	"sync"
)

const (
	maxRecord  = 8 << 10 // bytes of a record's line
	maxFolders = 256     // depth of folders
	maxAwaited = 4096    // records without a reply
)

// scpState is what comes next from the client.
type scpState int

const (
	scpRecord scpState = iota // a line
	scpData                   // the file's content
	scpStatus                 // whether the source could read all of it
	scpEnded                  // nothing: the server has ended or the stream is none of scp
)

// record is a C or D line.
type record struct {
	path string
	size uint64
}

// SCP watches the old scp protocol for files that are sent, as OpenSSH's scp.c takes them (sink).
type SCP struct {
	mu     sync.Mutex
	create Create
	isDir  func(path string) bool
	target string
	folder bool // the target is a folder
	known  bool // that is known
	ended  bool
	lost   bool

	state   scpState
	line    []byte   // of a record or a status
	folders []string // that were entered, each with its path
	file    *file    // nil between files, and while the server has not yet taken it
	offered record   // the file as its C line says
	left    uint64   // bytes of it that are still to come

	awaited []byte // kinds of the records that the server did not yet reply to, oldest first
	message byte   // not 0: an error's text passes; it began with this
}

// Kinds of what the server replies to, besides the letters of records.
const (
	replyStart = 's' // the server is ready
	replyFile  = 'f' // a file came
)

// NewSCP returns the tap of `scp -t target`; folder says that the target is one (-d). isDir, asked once before the
// first record, says whether the target is a folder in the pot now; where it is nil, that is guessed
// from what comes.
func NewSCP(target string, folder bool, create Create, isDir func(path string) bool) *SCP {
	return &SCP{create: create, isDir: isDir, target: target, folder: folder, known: folder, awaited: []byte{replyStart}}
}

// In takes records and content.
func (s *SCP) In(p []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(p) > 0 && !s.ended && s.state != scpEnded {
		switch s.state {
		case scpRecord:
			p = s.takeLine(p, s.record)
		case scpData:
			p = s.takeData(p)
		default:
			p = s.takeStatus(p)
		}
	}
}

// Out takes the server's replies.
func (s *SCP) Out(p []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range p {
		if s.ended || s.state == scpEnded {
			return
		}
		s.reply(b)
	}
}

// End closes what is open: as partial unless all that was announced came.
func (s *SCP) End() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.closeFile(s.state != scpStatus)
	}
	s.ended = true
}

// Lost reports whether files may be missing.
func (s *SCP) Lost() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}

// giveUp stops.
func (s *SCP) giveUp() {
	s.lost = true
	s.closeFile(true)
	s.state = scpEnded
}

func (s *SCP) closeFile(partial bool) {
	if s.file != nil {
		s.file.close(partial)
	}
	s.file = nil
}

// takeLine collects a line and hands it to do without its end.
func (s *SCP) takeLine(p []byte, do func(line []byte)) (rest []byte) {
	i := bytes.IndexByte(p, '\n')
	n := i + 1
	if i < 0 {
		n = len(p)
	}
	if len(s.line)+n > maxRecord {
		s.giveUp()
		return nil
	}
	s.line = append(s.line, p[:n]...)
	if i >= 0 {
		line := s.line[:len(s.line)-1]
		s.line = s.line[:0]
		do(line)
	}
	return p[n:]
}

// takeData takes the content. It comes without the server's consent where the client does not wait for it.
func (s *SCP) takeData(p []byte) (rest []byte) {
	s.beginFile()
	n := len(p)
	if uint64(n) > s.left {
		n = int(s.left)
	}
	s.file.write(p[:n])
	s.left -= uint64(n)
	if s.left == 0 {
		s.state = scpStatus
	}
	return p[n:]
}

// takeStatus takes what follows the content: 0, or 1 and why the source could not read all of it.
func (s *SCP) takeStatus(p []byte) (rest []byte) {
	s.beginFile()
	if len(s.line) == 0 && p[0] == 0 {
		s.fileDone(false)
		return p[1:]
	}
	return s.takeLine(p, func([]byte) { s.fileDone(true) })
}

func (s *SCP) fileDone(partial bool) {
	s.closeFile(partial)
	s.state = scpRecord
	s.await(replyFile)
}

func (s *SCP) beginFile() {
	if s.file == nil {
		s.file = begin(s.create, HowSCP, s.offered.path)
	}
}

func (s *SCP) await(kind byte) {
	if len(s.awaited) >= maxAwaited {
		s.giveUp()
		return
	}
	s.awaited = append(s.awaited, kind)
}

// record takes a line between files.
func (s *SCP) record(line []byte) {
	if len(line) == 0 {
		s.giveUp()
		return
	}
	switch kind := line[0]; kind {
	case 1, 2: // the source could not read something
		if kind == 2 {
			s.state = scpEnded
		}
	case 'T':
		s.await(kind)
	case 'E':
		s.leave()
	case 'C', 'D':
		s.offer(kind, line)
	default:
		s.giveUp()
	}
}

func (s *SCP) leave() {
	if len(s.folders) == 0 {
		s.state = scpEnded // so does the server
		return
	}
	s.folders = s.folders[:len(s.folders)-1]
	s.await('E')
}

func (s *SCP) offer(kind byte, line []byte) {
	size, name, ok := parseRecord(line)
	if !ok || len(s.folders) >= maxFolders {
		s.giveUp()
		return
	}
	path := s.path(name, kind == 'D')
	s.await(kind)
	if kind == 'D' {
		s.folders = append(s.folders, path)
		return
	}
	s.offered, s.left, s.state = record{path: path, size: size}, size, scpData
	if size == 0 {
		s.state = scpStatus
	}
}

// path returns where the server puts what comes with a name.
func (s *SCP) path(name string, folder bool) string {
	if n := len(s.folders); n > 0 {
		return join(s.folders[n-1], name)
	}
	if !s.known {
		s.known = true
		if s.isDir == nil {
			s.folder = true // for all but a first file, which may be the only one
			return s.guess(name, folder)
		}
		s.folder = s.isDir(s.target)
	}
	if s.folder {
		return join(s.target, name)
	}
	return bounded(s.target)
}

func (s *SCP) guess(name string, folder bool) string {
	if folder {
		return join(s.target, name)
	}
	return bounded(s.target)
}

func join(folder, name string) string {
	return bounded(strings.TrimSuffix(folder, "/") + "/" + name)
}

func bounded(path string) string { return path[:min(len(path), maxPath)] }

// parseRecord reads "C0644 12 name".
func parseRecord(line []byte) (size uint64, name string, ok bool) {
	mode, rest, ok := strings.Cut(string(line[1:]), " ")
	if !ok || len(mode) != 4 || strings.Trim(mode, "01234567") != "" {
		return 0, "", false
	}
	digits, name, ok := strings.Cut(rest, " ")
	if !ok {
		return 0, "", false
	}
	size, err := strconv.ParseUint(digits, 10, 63)
	name, _, _ = strings.Cut(name, "\x00") // where C sees its end
	if err != nil || name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
		return 0, "", false
	}
	return size, name, true
}

// reply takes the next byte from the server: 0 is consent, 1 and 2 begin an error's line, all else a line that
// somebody else has written.
func (s *SCP) reply(b byte) {
	switch {
	case s.message != 0:
		if b != '\n' {
			return
		}
		if s.message <= 2 {
			s.replied(s.refused)
		}
		s.message = 0
	case b == 0:
		s.replied(s.accepted)
	default:
		s.message = b
		if b == '\n' {
			s.message = 0
		}
	}
}

func (s *SCP) replied(do func(kind byte)) {
	if len(s.awaited) == 0 {
		return
	}
	kind := s.awaited[0]
	s.awaited = s.awaited[:copy(s.awaited, s.awaited[1:])]
	do(kind)
}

func (s *SCP) accepted(kind byte) {
	if kind == 'C' && len(s.awaited) == 0 {
		s.beginFile()
	}
}

// refused handles an error. A client that waited for it goes on with the next record.
func (s *SCP) refused(kind byte) {
	switch waited := len(s.awaited) == 0; {
	case kind == 'C' && waited && s.file == nil:
		s.state = scpRecord
	case kind == 'D' && waited && len(s.folders) > 0:
		s.folders = s.folders[:len(s.folders)-1]
	case kind == 'C', kind == 'D':
		s.giveUp()
	}
}
