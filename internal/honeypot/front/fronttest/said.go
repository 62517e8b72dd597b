package fronttest

import (
	"strconv"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Asked is what a session asked for.
func Asked(s Session) (out []event.Request) {
	for _, e := range s.Evidence {
		if e.Request != nil {
			out = append(out, *e.Request)
		}
	}
	return out
}

// Logins are the guesses of sessions.
func Logins(sessions ...Session) (out []event.Login) {
	for _, s := range sessions {
		for _, e := range s.Evidence {
			if e.Login != nil {
				out = append(out, *e.Login)
			}
		}
	}
	return out
}

// Guessed are the same as "ACCOUNT SUCCESS".
func Guessed(sessions ...Session) (out []string) {
	for _, l := range Logins(sessions...) {
		out = append(out, string(l.Account)+" "+strconv.FormatBool(l.Success))
	}
	return out
}
