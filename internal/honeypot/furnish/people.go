package furnish

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

const nobody = 65534

// people gives the pot a persona's accounts and groups. Those of the image that its files belong to stay as they are, and
// so do people whose passwords are there to be guessed, by FTP as well; the image's others go, with their homes, unless
// the persona has them too.
func (p *Pot) people(v event.Persona) error {
	var texts [3]string
	for i, file := range []string{"/etc/passwd", "/etc/group", "/etc/shadow"} {
		data, err := p.read(file)
		if err != nil {
			return err
		}
		texts[i] = string(data)
	}
	db := accounts{passwd: texts[0], group: texts[1], shadow: texts[2], day: time.Now().Unix() / 86400}
	gone, made := db.become(v)
	errs := []error{
		p.replace("/etc/group", []byte(db.group)), p.replace("/etc/passwd", []byte(db.passwd)), p.replace("/etc/shadow", []byte(db.shadow)),
	}
	for _, home := range gone {
		errs = append(errs, p.removeAll(home))
	}
	for _, a := range made {
		errs = append(errs, p.home(a))
	}
	return errors.Join(errs...)
}

// home makes a person's home; only where homes are.
func (p *Pot) home(a event.PersonaAccount) error {
	name, ok := strings.CutPrefix(a.Home, "/home/")
	if !ok || strings.Contains(name, "/") {
		return nil
	}
	if err := p.mkdir("/home", 0o755, 0, 0); err != nil {
		return err
	}
	f, err := p.open(a.Home, os.O_RDONLY, 0)
	if err == nil {
		return f.Close() //nolint:wrapcheck // a handle
	}
	if err := p.mkdir(a.Home, 0o700, int(a.UID), int(a.GID)); err != nil {
		return err
	}
	return p.copySkeleton(a.Home, int(a.UID), int(a.GID))
}

// accounts are the texts of passwd(5), group(5) and shadow(5).
type accounts struct {
	passwd, group, shadow string
	day                   int64 // since 1970
}

// become merges a persona in, and returns the homes that are nobody's any more and the people who are new.
func (d *accounts) become(v event.Persona) (gone []string, made []event.PersonaAccount) {
	wanted := map[string]event.PersonaAccount{}
	for _, a := range v.Accounts {
		wanted[a.Name] = a
	}
	used := map[uint32]bool{}
	var passwd strings.Builder
	dropped := map[string]bool{}
	for line := range strings.Lines(d.passwd) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		uid, err := strconv.ParseUint(field(line, 2), 10, 32)
		if len(f) != 7 || err != nil {
			continue
		}
		_, wants := wanted[f[0]]
		if person(uint32(uid)) && !wants && !d.guessable(f[0]) {
			dropped[f[0]] = true
			if home, ok := strings.CutPrefix(f[5], "/home/"); ok && home != "" && !strings.Contains(home, "/") {
				gone = append(gone, f[5])
			}
			continue
		}
		used[uint32(uid)] = true
		if a, ok := wanted[f[0]]; ok && (uid == 0 || a.UID == uint32(uid)) {
			f[4], f[6] = a.Comment, orElse(d.shell(a.Shell), f[6])
		}
		passwd.WriteString(strings.Join(f, ":") + "\n")
	}
	groups, moved := d.groups(v, dropped)
	made = d.add(&passwd, v.Accounts, used, moved)
	d.passwd, d.group = passwd.String(), groups
	d.hide(dropped)
	return gone, made
}

// add adds a persona's accounts, and returns the people among them. Where the image's own has a number, the next free one
// is taken.
func (d *accounts) add(passwd *strings.Builder, people []event.PersonaAccount, used map[uint32]bool, moved map[uint32]uint32) (made []event.PersonaAccount) {
	for _, a := range people {
		for person(a.UID) && used[a.UID] { // the image's own has it
			a.UID++
		}
		if lineOf([]byte(d.passwd), a.Name) != "" || used[a.UID] || a.UID == 0 || a.UID == nobody {
			continue // the image's own, or in the way of it
		}
		used[a.UID] = true
		if to, ok := moved[a.GID]; ok {
			a.GID = to
		}
		fmt.Fprintf(passwd, "%s:x:%d:%d:%s:%s:%s\n", a.Name, a.UID, a.GID, a.Comment, orElse(a.Home, "/nonexistent"), orElse(d.shell(a.Shell), "/usr/sbin/nologin"))
		if person(a.UID) {
			made = append(made, a)
		}
	}
	return made
}

// guessable reports whether an account has a password, and is not locked.
func (d *accounts) guessable(name string) bool {
	return strings.HasPrefix(field(lineOf([]byte(d.shadow), name), 1), "$")
}

func person(uid uint32) bool { return uid >= firstUser && uid <= lastUser }

func orElse(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// shell is a login shell that the image has, or one that refuses.
func (d *accounts) shell(shell string) string {
	switch shell {
	case "", "/bin/bash", "/bin/sh", "/usr/bin/bash", "/usr/bin/sh", "/bin/dash", "/usr/sbin/nologin", "/sbin/nologin", "/bin/false", "/usr/bin/false", "/bin/sync":
		return shell
	}
	return "/bin/bash" // as zsh and others would be: something that answers
}

// groups merges the groups, of which some lose their people. The persona's that have the number of one that stays
// are moved to another.
func (d *accounts) groups(v event.Persona, dropped map[string]bool) (text string, moved map[uint32]uint32) {
	moved = map[uint32]uint32{}
	here := map[string]bool{}
	for line := range strings.Lines(d.passwd) {
		here[field(line, 0)] = !dropped[field(line, 0)]
	}
	for _, a := range v.Accounts {
		here[a.Name] = true
	}
	wanted := map[string]event.PersonaGroup{}
	for _, g := range v.Groups {
		wanted[g.Name] = g
	}
	present := func(names []string) []string {
		return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == "" || !here[n] })
	}
	used := map[uint64]bool{}
	var out strings.Builder
	for line := range strings.Lines(d.group) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		gid, err := strconv.ParseUint(field(line, 2), 10, 32)
		if len(f) != 4 || err != nil || person(uint32(gid)) && dropped[f[0]] {
			continue
		}
		used[gid] = true
		members := present(strings.Split(f[3], ","))
		for _, m := range present(wanted[f[0]].Members) {
			if !slices.Contains(members, m) {
				members = append(members, m)
			}
		}
		f[3] = strings.Join(members, ",")
		out.WriteString(strings.Join(f, ":") + "\n")
	}
	for _, g := range v.Groups {
		own := g.GID
		for person(g.GID) && used[uint64(g.GID)] {
			g.GID++
		}
		if lineOf([]byte(d.group), g.Name) != "" && !dropped[g.Name] || used[uint64(g.GID)] {
			continue
		}
		if g.GID != own {
			moved[own] = g.GID
		}
		used[uint64(g.GID)] = true
		fmt.Fprintf(&out, "%s:x:%d:%s\n", g.Name, g.GID, strings.Join(present(g.Members), ","))
	}
	return out.String(), moved
}

// hide brings shadow(5) in line with the accounts. Nobody knows the passwords of the new ones, since they have none;
// people's look as if they had.
func (d *accounts) hide(dropped map[string]bool) {
	var out strings.Builder
	known := map[string]bool{}
	for line := range strings.Lines(d.shadow) {
		name := field(line, 0)
		if dropped[name] {
			continue
		}
		known[name] = true
		out.WriteString(line)
	}
	for line := range strings.Lines(d.passwd) {
		name, shell := field(line, 0), field(strings.TrimSuffix(line, "\n"), 6)
		uid, _ := strconv.ParseUint(field(line, 2), 10, 32)
		if known[name] {
			continue
		}
		hash := "!"
		if person(uint32(uid)) && strings.HasSuffix(shell, "sh") {
			hash = nobodysHash()
		}
		fmt.Fprintf(&out, "%s:%s:%d:0:99999:7:::\n", name, hash, d.day-200+int64(uid%97))
	}
	d.shadow = out.String()
}

// nobodysHash looks like a password's (yescrypt, crypt(5)), and is none's.
func nobodysHash() string {
	const letters = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	random := make([]byte, 22+43)
	_, _ = rand.Read(random) // never fails
	for i, b := range random {
		random[i] = letters[int(b)%len(letters)]
	}
	return "$y$j9T$" + string(random[:22]) + "$" + string(random[22:])
}
