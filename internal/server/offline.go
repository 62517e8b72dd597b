package server

import (
	"fmt"
	"net/netip"
	"path/filepath"

	"github.com/kokkuri/kokkuri/internal/config"
	"github.com/kokkuri/kokkuri/internal/server/detect"
	"github.com/kokkuri/kokkuri/internal/server/lists"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// Offline is what a server of a configuration reads and detects by, without a server.
type Offline struct {
	Rules  detect.Rules // as their files say: what operators said of them later is the running server's
	HTTP   parse.HTTPOptions
	OnList func(list string, source netip.Addr) bool
	Faults []string // of lists
}

// LoadOffline reads rules, and lists from their files or what the server kept of their URLs. It asks no network, and changes nothing.
func LoadOffline(c config.Server) (Offline, error) {
	rules, err := loadRules(c.Rules)
	if err != nil {
		return Offline{}, err
	}
	sources := listsOf(rules)
	set := lists.New(lists.Options{Dir: listsDir(c)})
	set.Configure(sources)
	o := Offline{Rules: rules, HTTP: httpOptions(c.HTTP), OnList: set.Contains}
	for _, f := range set.Findings() {
		o.Faults = append(o.Faults, f.Subject+": "+f.Text)
	}
	entries := set.Entries()
	for _, s := range sources {
		if s.URL != "" && entries[s.Name] == 0 {
			o.Faults = append(o.Faults, fmt.Sprintf("list %s: nobody is on it: the server on this machine kept nothing of %s", s.Name, s.URL))
		}
	}
	return o, nil
}

func listsDir(c config.Server) string { return filepath.Join(Dir(c), "lists") }
