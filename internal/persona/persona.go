// Package persona reads and writes personas as YAML files, for operators to write, check and share.
package persona

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/config"
	"github.com/kokkuri/kokkuri/internal/event"
)

// Ending is that of the files in a folder of personas.
const Ending = ".yaml"

// Parse reads a persona; file is for errors only. Errors are config.Errors: where, key, found, allowed. One that
// has no name is called like its file.
func Parse(file string, data []byte) (event.Persona, error) {
	var p event.Persona
	doc, errs := config.Decode(file, data, &p)
	if p.Name == "" {
		p.Name = NameOf(file)
	}
	if len(errs) == 0 {
		for _, e := range p.Check() {
			errs = append(errs, &config.Error{
				Origin: doc.Origin(file, e.Key), Key: e.Key, Problem: `found "` + e.Found.Escaped() + `"`, Allowed: e.Allowed,
			})
		}
	}
	if len(errs) > 0 {
		return event.Persona{}, errs
	}
	return p, nil
}

// NameOf is the name of a persona that says none itself.
func NameOf(file string) string { return strings.TrimSuffix(filepath.Base(file), Ending) }

// Load reads a file.
func Load(file string) (event.Persona, error) {
	info, err := os.Stat(file)
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("is no ordinary file")
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(file)
	}
	if err != nil {
		problem := err.Error()
		if errors.Is(err, fs.ErrNotExist) {
			problem = "there is no such file"
		}
		return event.Persona{}, config.Errors{{Origin: config.Origin{File: file}, Problem: problem, Allowed: "a persona in YAML; kokkuri personas export NAME writes one"}}
	}
	return Parse(file, data)
}

// Format writes a persona as YAML that Parse reads.
func Format(p event.Persona) []byte {
	head := fmt.Sprintf("# Persona %s. It has what is listed here and nothing else: no password or hash, no key, no path of one.\n", p.Name)
	return append([]byte(head), config.Encode(p)...)
}

// Shareable returns a persona without what tells whose host it is: its names, addresses, people's accounts and
// texts, and when it was booted.
func Shareable(p event.Persona) event.Persona {
	p.Hostname, p.Domain, p.Motd, p.SSH.Banner = "", "", "", ""
	p.Network.Addresses = nil
	p.Machine.BootedAt = time.Time{}
	var accounts []event.PersonaAccount
	people := map[string]bool{}
	for _, a := range p.Accounts {
		if a.UID >= 1000 && a.UID < 65534 {
			people[a.Name] = true
			continue
		}
		accounts = append(accounts, a)
	}
	p.Accounts = accounts
	var groups []event.PersonaGroup
	for _, g := range p.Groups {
		if people[g.Name] || g.GID >= 1000 && g.GID < 65534 {
			continue
		}
		var members []string
		for _, m := range g.Members {
			if !people[m] {
				members = append(members, m)
			}
		}
		g.Members = members
		groups = append(groups, g)
	}
	p.Groups = groups
	return p
}
