package api

import (
	"io/fs"
	"net/http"
)

// Error is what went wrong, for people: what, and what to do about it.
type Error struct {
	Status  int    `json:"-"` // of HTTP
	Message string `json:"error"`
	Hint    string `json:"hint,omitempty"`
}

func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Message
	}
	return e.Message + "\n" + e.Hint
}

// Is makes what is not there an fs.ErrNotExist.
func (e *Error) Is(target error) bool {
	return target == fs.ErrNotExist && e.Status == http.StatusNotFound
}

// Refused is an error about what the server will not do though it was asked correctly, with a hint.
func Refused(message, hint string) error {
	return &Error{Status: http.StatusConflict, Message: message, Hint: hint}
}

// NotFound is an error about something that is not there, with a hint.
func NotFound(message, hint string) error {
	return &Error{Status: http.StatusNotFound, Message: message, Hint: hint}
}

func badRequest(message, hint string) error {
	return &Error{Status: http.StatusBadRequest, Message: message, Hint: hint}
}
