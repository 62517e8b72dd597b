package transfer

import (
	"path"
	"slices"
	"strings"
)

// maxCommand bounds a command in bytes.
const maxCommand = 64 << 10

// Words splits a command as a POSIX shell does (XCU 2.2 and 2.3). It returns false where the shell would do more
// than to run one program with these words: operators, substitutions, comments; and where a quote is not
// closed. Patterns and tildes stay as they are.
func Words(command string) ([]string, bool) {
	if len(command) > maxCommand {
		return nil, false
	}
	s := splitter{rest: command}
	for s.rest != "" {
		if !s.next() {
			return nil, false
		}
	}
	s.endWord()
	return s.words, true
}

type splitter struct {
	rest  string
	word  []byte
	begun bool // a word, be it empty
	words []string
}

func (s *splitter) endWord() {
	if s.begun {
		s.words = append(s.words, string(s.word))
	}
	s.word, s.begun = s.word[:0], false
}

func (s *splitter) add(text string) {
	s.word = append(s.word, text...)
	s.begun = true
}

// next takes what comes next outside of quotes.
func (s *splitter) next() bool {
	c := s.rest[0]
	s.rest = s.rest[1:]
	switch c {
	case ' ', '\t':
		s.endWord()
	case '\'':
		text, rest, closed := strings.Cut(s.rest, "'")
		s.rest = rest
		s.add(text)
		return closed && !strings.Contains(text, "\x00")
	case '"':
		return s.quoted()
	case '\\':
		return s.escaped()
	case ';', '|', '&', '$', '`', '<', '>', '\n', '(', ')', 0:
		return false
	case '#':
		s.add("#")
		return len(s.word) > 1
	default:
		s.add(string([]byte{c}))
	}
	return true
}

// escaped takes what follows a backslash outside of quotes.
func (s *splitter) escaped() bool {
	if s.rest == "" || s.rest[0] == 0 {
		return false
	}
	if s.rest[0] != '\n' {
		s.add(s.rest[:1])
	}
	s.rest = s.rest[1:]
	return true
}

// quoted takes what follows a double quote, to the next.
func (s *splitter) quoted() bool {
	s.add("")
	for {
		i := strings.IndexAny(s.rest, "\"\\$`\x00")
		if i < 0 || strings.IndexByte("$`\x00", s.rest[i]) >= 0 {
			return false
		}
		s.add(s.rest[:i])
		c := s.rest[i]
		s.rest = s.rest[i+1:]
		if c == '"' {
			return true
		}
		if s.rest == "" || s.rest[0] == 0 {
			return false
		}
		s.escapedInQuotes()
	}
}

// escapedInQuotes takes what follows a backslash: there it escapes few characters and stands for itself before others.
func (s *splitter) escapedInQuotes() {
	switch s.rest[0] {
	case '\n':
		s.rest = s.rest[1:]
	case '"', '\\', '$', '`':
		s.add(s.rest[:1])
		s.rest = s.rest[1:]
	default:
		s.add(`\`)
	}
}

// scpValues are the options of OpenSSH's scp that take a value.
const scpValues = "DFJMPSXcilo"

// ParseSCP recognises a command that receives files by the old scp protocol (`scp -t target`): folder says that the
// target has to be a folder (-d).
func ParseSCP(command []string) (target string, folder, ok bool) {
	if len(command) == 0 || path.Base(command[0]) != "scp" {
		return "", false, false
	}
	flags, rest := options(command[1:], scpValues)
	if !strings.Contains(flags, "t") || strings.Contains(flags, "f") || len(rest) != 1 {
		return "", false, false
	}
	return rest[0], strings.Contains(flags, "d"), true
}

// options reads words as getopt(3) does, up to the first that is none; it returns the letters.
func options(words []string, withValue string) (letters string, rest []string) {
	var flags strings.Builder
	for len(words) > 0 {
		word := words[0]
		if len(word) < 2 || word[0] != '-' {
			break
		}
		words = words[1:]
		if word == "--" {
			break
		}
		word = word[1:]
		i := strings.IndexAny(word, withValue)
		if i < 0 {
			flags.WriteString(word)
			continue
		}
		flags.WriteString(word[:i])
		if i == len(word)-1 && len(words) > 0 { // its value is the next word
			words = words[1:]
		}
	}
	return flags.String(), words
}

// IsRsyncServer recognises what rsync runs on the far side (`rsync --server … . target`) and whether it
// receives files. Target is empty where the client sends it later (--secluded-args).
func IsRsyncServer(words []string) (target string, receiving bool) {
	if len(words) < 2 || path.Base(words[0]) != "rsync" || words[1] != "--server" {
		return "", false
	}
	if slices.Contains(words, "--sender") {
		return "", false
	}
	if n := len(words); n >= 4 && words[n-2] == "." {
		return words[n-1], true
	}
	return "", true
}
