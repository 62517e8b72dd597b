package honeypot_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
)

// attack is what somebody sends who got in, and what is left of it.
type attack struct {
	Name    string   `yaml:"name"`
	Of      string   `yaml:"of"`
	Send    []string `yaml:"send"`
	Refused []string `yaml:"refused"`
	Wrote   string   `yaml:"wrote"`  // in a file of the pot
	Called  string   `yaml:"called"` // by the pot
}

// client is how attackers speak with a service.
type client struct {
	send  func(*testing.T, []string)
	asked func(event.Request) (text string, of bool)           // what of a request is theirs
	sent  func(t *testing.T, send []string, evidence []string) // compares
}

// attacks makes the published attacks on a service.
func (f *fixture) attacks(t *testing.T, l event.Lease, c client) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", string(l.Service), "attacks.yaml"))
	require.NoError(t, err)
	var all []attack
	require.NoError(t, yaml.UnmarshalWithOptions(data, &all, yaml.Strict()))
	for _, a := range all {
		t.Run(a.Name, func(t *testing.T) {
			c.send(t, a.Send)
			var sent, refused []string
			for _, e := range f.leftBy(t, l) {
				if e.Request == nil {
					continue
				}
				text, ok := c.asked(*e.Request)
				if !ok {
					continue
				}
				sent = append(sent, text)
				if e.Request.Failed {
					refused = append(refused, text)
				}
			}
			c.sent(t, a.Send, sent)
			assert.Equal(t, a.Refused, refused)
			if a.Wrote != "" {
				require.Eventually(t, func() bool { return f.wrote(a.Wrote) }, time.Minute, 50*time.Millisecond, "no file has %q", a.Wrote)
			}
			if a.Called != "" {
				f.called(t, a.Called, func(e event.Egress) bool { return e.Destination.String() == a.Called })
			}
		})
	}
}
