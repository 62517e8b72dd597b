package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"

	"github.com/kokkuri/kokkuri/internal/event"
)

// evidence answers what sessions left: their evidence as a list, their recording and their files as bytes.
func (h *handler) evidence() {
	h.handle("GET "+PathSessions+"/{id}/evidence", func(r *http.Request) (any, error) {
		out, err := h.b.Evidence(r.Context(), r.PathValue("id"))
		if out == nil {
			out = []event.Evidence{} // [] in JSON
		}
		return out, noSession(err, r)
	})
	h.mux.HandleFunc("GET "+PathSessions+"/{id}/recording", func(w http.ResponseWriter, r *http.Request) {
		s, err := h.b.Session(r.Context(), r.PathValue("id"))
		switch {
		case err != nil:
			err = noSession(err, r)
		case s.EndedAt.IsZero():
			err = &Error{Status: http.StatusConflict, Message: "session " + s.ID + " is still open", Hint: "its recording is there when it has closed; kokkuri sessions show " + s.ID + " shows what it has left so far"}
		case s.Recording == "":
			err = NotFound("session "+s.ID+" was not recorded", "")
		}
		if err != nil {
			h.fail(w, r, err)
			return
		}
		h.content(w, r, s.ID, s.Recording)
	})
	h.mux.HandleFunc("GET "+PathSessions+"/{id}/files/{sha256}", func(w http.ResponseWriter, r *http.Request) {
		h.content(w, r, r.PathValue("id"), r.PathValue("sha256"))
	})
}

// noSession says what to do about a session that is not there.
func noSession(err error, r *http.Request) error {
	if errors.Is(err, fs.ErrNotExist) {
		return NotFound("there is no session "+strconv.Quote(r.PathValue("id")), "kokkuri sessions ls lists them")
	}
	return err
}

// content answers with bytes. What fails after the first of them can only be told by cutting the answer off.
func (h *handler) content(w http.ResponseWriter, r *http.Request, session, sum string) {
	out := &started{w: w}
	err := h.b.Content(r.Context(), session, sum, out)
	switch {
	case err == nil && !out.yes:
		w.Header().Set("Content-Type", "application/octet-stream")
		w.WriteHeader(http.StatusOK)
	case err == nil:
	case out.yes:
		h.log.WarnContext(r.Context(), "evidence was cut off", "session", session, "error", err)
		panic(http.ErrAbortHandler)
	default:
		h.fail(w, r, err)
	}
}

// started knows whether an answer has begun.
type started struct {
	w   http.ResponseWriter
	yes bool
}

func (s *started) Write(p []byte) (int, error) {
	if !s.yes {
		s.yes = true
		s.w.Header().Set("Content-Type", "application/octet-stream")
	}
	return s.w.Write(p) //nolint:wrapcheck // io.Writer's contract
}

// Evidence asks what a session left, in order.
func (c *Client) Evidence(ctx context.Context, session string) ([]event.Evidence, error) {
	return call[[]event.Evidence](ctx, c, http.MethodGet, PathSessions+"/"+url.PathEscape(session)+"/evidence", nil)
}

// Recording writes the recording of a session that has closed.
func (c *Client) Recording(ctx context.Context, session string, w io.Writer) error {
	return c.fetch(ctx, PathSessions+"/"+url.PathEscape(session)+"/recording", w)
}

// File writes a file that came with a session.
func (c *Client) File(ctx context.Context, session, sha256 string, w io.Writer) error {
	return c.fetch(ctx, PathSessions+"/"+url.PathEscape(session)+"/files/"+url.PathEscape(sha256), w)
}

func (c *Client) fetch(ctx context.Context, path string, w io.Writer) error {
	response, err := c.do(ctx, http.MethodGet, path, nil)
	if err == nil {
		_, err = io.Copy(w, response.Body)
		_ = response.Body.Close() // only read from
	}
	if told, ok := errors.AsType[*Error](err); ok {
		return told
	}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &Error{Message: "the node stopped sending midway", Hint: "try again; the server's log says why"}
	case err != nil:
		return fmt.Errorf("read evidence: %w", err)
	}
	return nil
}
