package api

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"

	"github.com/kokkuri/kokkuri/internal/config"
	"github.com/kokkuri/kokkuri/internal/event"
)

// PathPersonas has the personas: by host what the host's pots are to be, by name what was written. POST to a host assigns one.
const PathPersonas = "/v1/personas"

// Persona is a persona and whose it is.
type Persona struct {
	event.PersonaOf

	Name  string   `json:"name"`
	Hosts []string `json:"hosts"`           // whose pots have it
	Error string   `json:"error,omitempty"` // why a written one is not used
}

// Personas are what pots can be.
type Personas interface {
	Personas(ctx context.Context) ([]Persona, error)
	// Persona returns what a host's pots are to be, or a written persona by its name; learnt: what the host's agent learnt.
	Persona(ctx context.Context, name string, learnt bool) (Persona, error)
	// AssignPersona says what a host's pots are to be; the empty name takes that back.
	AssignPersona(ctx context.Context, host, persona string) (Persona, error)
}

func (h *handler) personas() {
	h.handle("GET "+PathPersonas, func(r *http.Request) (any, error) { return h.b.Personas(r.Context()) })
	get := func(learnt bool) func(r *http.Request) (any, error) {
		return func(r *http.Request) (any, error) {
			id := r.PathValue("id")
			p, err := h.b.Persona(r.Context(), id, learnt)
			if told, ok := errors.AsType[*Error](err); !ok && told == nil && errors.Is(err, fs.ErrNotExist) {
				return nil, NotFound("there is no persona "+strconv.Quote(id), "kokkuri personas ls lists them")
			}
			return p, err
		}
	}
	h.handle("GET "+PathPersonas+"/{id}", get(false))
	h.handle("GET "+PathPersonas+"/{id}/learnt", get(true))
	h.handle("POST "+PathPersonas+"/{id}", func(r *http.Request) (any, error) {
		var in struct {
			Persona string `json:"persona"`
		}
		if err := body(r, &in); err != nil {
			return nil, err
		}
		if in.Persona != "" && !config.ValidName(in.Persona) {
			return nil, badRequest("persona: found "+strconv.Quote(in.Persona), "allowed: the name of a persona: lower-case letters, digits and hyphens, at most 63 long")
		}
		return h.b.AssignPersona(r.Context(), r.PathValue("id"), in.Persona)
	})
}

// Persona asks for a persona; learnt: what a host's agent learnt, whatever was written.
func (c *Client) Persona(ctx context.Context, name string, learnt bool) (Persona, error) {
	path := PathPersonas + "/" + url.PathEscape(name)
	if learnt {
		path += "/learnt"
	}
	return call[Persona](ctx, c, http.MethodGet, path, nil)
}

// AssignPersona says what a host's pots are to be; the empty name takes that back.
func (c *Client) AssignPersona(ctx context.Context, host, persona string) (Persona, error) {
	return call[Persona](ctx, c, http.MethodPost, PathPersonas+"/"+url.PathEscape(host), map[string]string{"persona": persona})
}
