package api

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Paths of rules. POST to a rule changes it, POST to its preview says what it would have done, POST to PathReload reads the files again.
const (
	PathRules  = "/v1/rules"
	PathReload = "/v1/rules-reload"
)

// Rule is a rule and what holds of it.
type Rule struct {
	Name       string          `json:"name"`
	About      string          `json:"about,omitempty"`
	File       string          `json:"file"`
	Line       int             `json:"line"`
	Services   []event.Service `json:"services"` // empty: any
	Kinds      []event.Kind    `json:"kinds"`
	If         string          `json:"if,omitempty"`
	SourceIn   string          `json:"source_in,omitempty"`
	GroupBy    []string        `json:"group_by"`
	Count      int             `json:"count"`
	Distinct   string          `json:"distinct,omitempty"`
	Then       event.Kind      `json:"then,omitempty"`
	Within     string          `json:"within"`
	Severity   event.Severity  `json:"severity"`
	Scope      event.Scope     `json:"scope"`
	For        []string        `json:"for"`
	Action     event.Action    `json:"action"`      // in force
	FileAction event.Action    `json:"file_action"` // as the file says
	Disabled   bool            `json:"disabled"`
	Overridden bool            `json:"overridden"`          // an operator said otherwise than the file
	ChangedAt  time.Time       `json:"changed_at,omitzero"` // by whom it was overridden
	Redirects  int             `json:"redirects"`           // live ones
}

// SetRule is what an operator says of a rule.
type SetRule struct {
	Disabled bool `json:"disabled"`
	Redirect bool `json:"redirect"`
}

// RuleSet is what was changed.
type RuleSet struct {
	Rule     Rule             `json:"rule"`
	Released []event.Redirect `json:"released"` // since the rule does not redirect any more
}

// RulePreview is what a rule that redirects would have done over the log lines that the server still has.
type RulePreview struct {
	Rule     string           `json:"rule"`
	From     time.Time        `json:"from,omitzero"` // times of the lines
	To       time.Time        `json:"to,omitzero"`
	Lines    int              `json:"lines"`
	Events   int              `json:"events"` // that a rule can count
	Total    int              `json:"total"`  // offences
	Redirect int              `json:"redirect"`
	Spared   int              `json:"spared"`
	Offences []PreviewOffence `json:"offences"` // the first of them
}

// PreviewOffence is one of them.
type PreviewOffence struct {
	Source  netip.Prefix  `json:"source"`
	Host    string        `json:"host"` // empty: all
	Service event.Service `json:"service"`
	Account string        `json:"account,omitempty"`
	Count   int           `json:"count"`
	First   time.Time     `json:"first"`
	Last    time.Time     `json:"last"`
	Against string        `json:"against,omitempty"` // why it would not be redirected all the same
	Line    string        `json:"line"`              // that completed it; attacker's bytes
}

// Reloaded is the outcome of a reload.
type Reloaded struct {
	Rules int `json:"rules"`
}

// Rules are the server's.
type Rules interface {
	Rules(ctx context.Context) ([]Rule, error)
	// SetRule says what holds of a rule from now on. What is not there is an error that is fs.ErrNotExist.
	SetRule(ctx context.Context, name string, s SetRule) (RuleSet, error)
	// PreviewRule says what a rule would have done, had it redirected.
	PreviewRule(ctx context.Context, name string) (RulePreview, error)
	// ReloadRules reads the rules again; where they are bad the former ones hold.
	ReloadRules(ctx context.Context) (Reloaded, error)
}

func (h *handler) rules() {
	h.handle("GET "+PathRules, func(r *http.Request) (any, error) { return h.b.Rules(r.Context()) })
	h.handle("GET "+PathRules+"/{id}", func(r *http.Request) (any, error) {
		list, err := h.b.Rules(r.Context())
		id := r.PathValue("id")
		return one("rule", list, err, func(x Rule) bool { return x.Name == id }, id)
	})
	h.handle("POST "+PathRules+"/{id}", func(r *http.Request) (any, error) {
		var in SetRule
		if err := body(r, &in); err != nil {
			return nil, err
		}
		id := r.PathValue("id")
		out, err := h.b.SetRule(r.Context(), id, in)
		return out, noRule(id, err)
	})
	h.handle("POST "+PathRules+"/{id}/preview", func(r *http.Request) (any, error) {
		id := r.PathValue("id")
		out, err := h.b.PreviewRule(r.Context(), id)
		return out, noRule(id, err)
	})
	h.handle("POST "+PathReload, func(r *http.Request) (any, error) { return h.b.ReloadRules(r.Context()) })
}

func noRule(name string, err error) error {
	if told, ok := errors.AsType[*Error](err); !ok && told == nil && errors.Is(err, fs.ErrNotExist) {
		return NotFound("there is no rule "+strconv.Quote(name), "kokkuri rules ls lists them")
	}
	return err
}

// SetRule says what holds of a rule from now on.
func (c *Client) SetRule(ctx context.Context, name string, s SetRule) (RuleSet, error) {
	return call[RuleSet](ctx, c, http.MethodPost, PathRules+"/"+url.PathEscape(name), s)
}

// PreviewRule asks what a rule would have done, had it redirected.
func (c *Client) PreviewRule(ctx context.Context, name string) (RulePreview, error) {
	return call[RulePreview](ctx, c, http.MethodPost, PathRules+"/"+url.PathEscape(name)+"/preview", nil)
}

// ReloadRules has the server read its rules again.
func (c *Client) ReloadRules(ctx context.Context) (Reloaded, error) {
	return call[Reloaded](ctx, c, http.MethodPost, PathReload, nil)
}
