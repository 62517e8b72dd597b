package api

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/kokkuri/kokkuri/internal/config"
	"github.com/kokkuri/kokkuri/internal/event"
)

func (h *handler) operator() {
	h.handle("POST "+PathRedirects, h.addRedirects)
	h.handle("DELETE "+PathRedirects+"/{id}", func(r *http.Request) (any, error) {
		id := r.PathValue("id")
		s := Selector{ID: id}
		if source, err := config.ParsePrefix(id); err == nil {
			s = Selector{Source: source}
		}
		released, err := h.b.Release(r.Context(), s)
		if err == nil && len(released) == 0 {
			return nil, NotFound("nothing to release: there is no live redirect "+strconv.Quote(id), "kokkuri redirects ls lists them")
		}
		return released, err
	})
	h.handle("POST "+PathPause, func(r *http.Request) (any, error) {
		released, err := h.b.Pause(r.Context())
		if released == nil {
			released = []event.Redirect{}
		}
		return released, err
	})
	h.handle("POST "+PathResume, func(r *http.Request) (any, error) {
		return struct{}{}, h.b.Resume(r.Context())
	})
}

func (h *handler) addRedirects(r *http.Request) (any, error) {
	var in struct {
		Source   string `json:"source"`
		Service  string `json:"service"`
		Host     string `json:"host"`
		AllHosts bool   `json:"all_hosts"`
		TTL      string `json:"ttl"`
		Egress   string `json:"egress"`
	}
	if err := body(r, &in); err != nil {
		return nil, err
	}
	source, err := Source(in.Source)
	if err != nil {
		return nil, err
	}
	if !config.ValidName(in.Service) {
		return nil, badRequest("service: found "+strconv.Quote(in.Service), "allowed: a service, such as ssh")
	}
	if in.AllHosts == (in.Host != "") {
		return nil, badRequest("which host?", "allowed: either one host, or all hosts")
	}
	ttl, err := duration("ttl", in.TTL, defaultTTL, maxTTL)
	if err != nil {
		return nil, err
	}
	egress := event.EgressPolicy(in.Egress)
	if egress != "" && !slices.Contains(event.EgressPolicies(), egress) {
		return nil, badRequest("egress: found "+strconv.Quote(in.Egress), "allowed: none, sinkhole, record")
	}
	return h.b.AddRedirects(r.Context(), AddRedirect{
		Source: source, Service: event.Service(in.Service), Host: in.Host, AllHosts: in.AllHosts, TTL: ttl, Egress: egress,
	})
}

func (h *handler) allow() {
	h.handle("GET "+PathAllow, func(r *http.Request) (any, error) {
		entries, err := h.b.AllowList(r.Context())
		if entries == nil {
			entries = []AllowEntry{}
		}
		return entries, err
	})
	h.handle("POST "+PathAllow, func(r *http.Request) (any, error) {
		var in struct {
			Prefix string `json:"prefix"`
			Note   string `json:"note"`
		}
		if err := body(r, &in); err != nil {
			return nil, err
		}
		p, err := config.ParsePrefix(in.Prefix)
		if err != nil {
			return nil, badRequest("prefix: found "+strconv.Quote(in.Prefix), "allowed: "+err.Error())
		}
		if len(in.Note) > maxNote {
			return nil, badRequest("note: it is too long", "allowed: "+strconv.Itoa(maxNote)+" bytes")
		}
		released, err := h.b.AllowAdd(r.Context(), Allowed{Prefix: p, Note: in.Note, CreatedAt: time.Now()})
		if released == nil {
			released = []event.Redirect{}
		}
		return released, err
	})
	h.handle("DELETE "+PathAllow+"/{id}", func(r *http.Request) (any, error) {
		id := r.PathValue("id")
		p, err := config.ParsePrefix(id)
		if err != nil {
			return nil, badRequest("prefix: found "+strconv.Quote(id), "allowed: "+err.Error())
		}
		err = h.b.AllowRemove(r.Context(), p)
		if told, ok := errors.AsType[*Error](err); !ok && told == nil && errors.Is(err, fs.ErrNotExist) {
			err = NotFound(p.String()+" is not on the allow-list", "kokkuri allow ls lists it")
		}
		return struct{}{}, err
	})
}

// tail streams events until who asked is gone or the server stops. A quiet stream sends empty lines.
func (h *handler) tail(w http.ResponseWriter, r *http.Request) {
	events, stop := h.b.Tail()
	defer stop()
	w.Header().Set("Content-Type", "application/x-ndjson")
	flush := http.NewResponseController(w)
	if err := flush.Flush(); err != nil { // so that who asked knows that it began
		return
	}
	tick := time.NewTicker(tailInterval)
	defer tick.Stop()
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for {
		var err error
		select {
		case <-r.Context().Done():
			return
		case <-h.closing:
			return
		case <-tick.C:
			_, err = w.Write([]byte("\n"))
		case e, ok := <-events:
			if !ok {
				return
			}
			err = enc.Encode(inUTC(e))
		}
		if err != nil || flush.Flush() != nil {
			return
		}
	}
}
