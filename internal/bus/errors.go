package bus

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// Errors of this package; match with errors.Is.
var (
	// ErrForbidden: the certificate does not allow the subject.
	ErrForbidden = errors.New("not allowed by the certificate")
	// ErrNoResponder: nobody serves the subject now.
	ErrNoResponder = errors.New("nobody answers")
	// ErrDisconnected: the connection was lost while an answer was awaited.
	ErrDisconnected = errors.New("connection to the bus lost")
	// ErrClosed: Close was called.
	ErrClosed = errors.New("connection to the bus closed")
	// ErrBatch: a batch that can't travel: too large, or a line with a newline in it.
	ErrBatch = errors.New("invalid batch")
	// ErrMalformed: bytes from the bus that are not what its subject carries.
	ErrMalformed = errors.New("malformed message")
)

// RemoteError is the error that the answering side returned.
type RemoteError struct {
	Subject string `json:"-"`
	Code    string `json:"code"` // for programs; "error" unless the handler returned a RemoteError
	Text    string `json:"text"` // for people
}

func (e *RemoteError) Error() string {
	if e.Subject == "" {
		return e.Text
	}
	return fmt.Sprintf("%s: %s", e.Subject, e.Text)
}

// maxErrorText bounds the text of a remote error, in bytes.
const maxErrorText = 1024

// printable makes bytes of the other side safe for logs and terminals.
func printable(s string) string {
	if len(s) > maxErrorText {
		s = s[:maxErrorText] + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, s)
}
