package parse

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/kokkuri/kokkuri/internal/event"
)

func TestForged(t *testing.T) {
	t.Parallel()
	const failed = "Failed password for root from 203.0.113.66 port 4022 ssh2"
	for line, want := range map[string]struct{ forged, writer bool }{
		`1 2026-11-25T22:08:43Z web sshd 7 - [kokkuri@32473 uid="0" exe="/usr/sbin/sshd"] ` + failed:            {false, true},
		`<38>1 2026-11-25T22:08:43Z web sshd 7 - [kokkuri@32473 uid="0"] ` + failed:                             {false, true},
		`1 2026-11-25T22:08:43Z web sshd 7 - [kokkuri@32473 uid="1000"] ` + failed:                              {true, true},
		`1 2026-11-25T22:08:43Z web sshd 7 - [kokkuri@32473 uid="0" exe="/usr/bin/logger"] ` + failed:           {true, true},
		`1 2026-11-25T22:08:43Z web sshd 7 - [kokkuri@32473 uid="0" exe="?"] ` + failed:                         {true, true},
		`1 2026-11-25T22:08:43Z web cron 7 - [kokkuri@32473 uid="1000"] ` + failed:                              {false, true},
		`1 2026-11-25T22:08:43Z web sshd 7 - - [kokkuri@32473 uid="1000"] ` + failed:                            {false, false},
		`1 2026-11-25T22:08:43Z web sshd 7 - [a@1 x="[kokkuri@32473 uid=\"0\""] ` + failed:                      {false, false},
		`1 2026-11-25T22:08:43Z web sshd 7 - [kokkuri@32473 uid="0"`:                                            {false, false},
		`Nov 25 22:08:43 web sshd[7]: [kokkuri@32473 uid="1000"] ` + failed:                                     {false, false},
		`1 2026-11-25T22:08:43Z web sshd 7 - [a@1][kokkuri@32473 uid="1000"] [kokkuri@32473 uid="0"] ` + failed: {true, true},
		`1 - - sshd - - [kokkuri@32473 format="x"] ` + failed:                                                   {false, false},
		`1 [kokkuri@32473`: {},
		"":                 {},
	} {
		assert.Equal(t, want.forged, Forged([]byte(line)), line)
		assert.Equal(t, want.writer, HasWriter([]byte(line)), line)
	}
}

// FuzzForged: a forged line is never an event, whatever else is in it.
func FuzzForged(f *testing.F) {
	f.Add([]byte(`<38>1 2026-11-25T22:08:43Z web sshd 7 - [kokkuri@32473 uid="1000" exe="/usr/bin/logger"] Failed password for root from 203.0.113.66 port 4022 ssh2`))
	f.Add([]byte(`1 2026-11-25T22:08:43Z web sshd 7 - [kokkuri@32473 uid="0"][kokkuri@32473 uid="7"] Failed password for root from 203.0.113.66 port 4022 ssh2`))
	f.Add([]byte(`1 - - sshd - - [kokkuri@32473 uid="\"0"]  x`))
	ref := time.Date(2026, 11, 25, 22, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, line []byte) {
		HasWriter(line)
		if Forged(line) {
			assert.Equal(t, event.None, Line(line, ref).Kind, "%q", line)
		}
	})
}
