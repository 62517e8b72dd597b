package web

import (
	"encoding/base64"
	"net/url"
	"strings"
)

// guess is an account and a password that a request brings, and where they stand.
type guess struct {
	method            string // basic or form
	account, password string
}

// basicOf reads the value of an Authorization field (RFC 7617).
func basicOf(value string) (g guess, ok bool) {
	scheme, text, _ := strings.Cut(value, " ")
	if !strings.EqualFold(scheme, "Basic") {
		return g, false
	}
	pair, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil {
		return g, false
	}
	g.method = "basic"
	g.account, g.password, ok = strings.Cut(string(pair), ":")
	return g, ok
}

func basic(account, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(account+":"+password))
}

// formOf reads a form that was sent (application/x-www-form-urlencoded): a field whose name speaks of a password, and one that speaks
// of who has it. with returns the form with others in their place.
func formOf(form string) (g guess, with func(account, password string) string, ok bool) {
	fields := strings.Split(form, "&")
	account, password := -1, -1
	for i, f := range fields {
		name, value, _ := strings.Cut(f, "=")
		name, err := url.QueryUnescape(name)
		text, err2 := url.QueryUnescape(value)
		if err != nil || err2 != nil {
			continue
		}
		switch name = strings.ToLower(name); {
		case password < 0 && speaksOf(name, "pass", "pwd"):
			password, g.password = i, text
		case account < 0 && speaksOf(name, "user", "login", "mail", "account", "name", "log"):
			account, g.account = i, text
		}
	}
	if account < 0 || password < 0 {
		return g, nil, false
	}
	g.method = "form"
	return g, func(a, p string) string {
		out := append([]string(nil), fields...)
		for i, value := range map[int]string{account: a, password: p} {
			name, _, _ := strings.Cut(fields[i], "=")
			out[i] = name + "=" + url.QueryEscape(value)
		}
		return strings.Join(out, "&")
	}, true
}

func speaksOf(name string, words ...string) bool {
	for _, w := range words {
		if strings.Contains(name, w) {
			return true
		}
	}
	return false
}
