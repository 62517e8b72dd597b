package persona

import (
	"context"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/event"
)

func (l *Learner) hostname(_ context.Context, p *event.Persona) {
	p.Hostname = l.line("/proc/sys/kernel/hostname")
	if p.Hostname == "" {
		p.Hostname = l.line("/etc/hostname")
	}
	p.Domain = domainOf(p.Hostname, string(l.read("/etc/hosts", maxFile)), string(l.read("/etc/resolv.conf", maxFile)))
}

// domainOf is the domain of a host: of its full name in /etc/hosts, else what resolv.conf searches first.
func domainOf(host, hosts, resolv string) string {
	if host == "" {
		return ""
	}
	for line := range strings.Lines(hosts) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		for _, name := range fields[min(1, len(fields)):] {
			if domain, ok := strings.CutPrefix(name, host+"."); ok && domain != "" && domain != "localdomain" {
				return domain
			}
		}
	}
	for line := range strings.Lines(resolv) {
		if fields := strings.Fields(line); len(fields) > 1 && (fields[0] == "search" || fields[0] == "domain") && fields[1] != "." {
			return strings.TrimSuffix(fields[1], ".")
		}
	}
	return ""
}

func (l *Learner) osRelease(_ context.Context, p *event.Persona) {
	text := l.read("/etc/os-release", maxFile)
	if len(text) == 0 {
		text = l.read("/usr/lib/os-release", maxFile)
	}
	p.OS = parseOSRelease(string(text))
	p.OS.DebianVersion = l.line("/etc/debian_version")
}

// parseOSRelease reads os-release(5): assignments as a shell has them, here without its expansions.
func parseOSRelease(text string) event.OSRelease {
	o := event.OSRelease{}
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || strings.HasPrefix(key, "#") {
			continue
		}
		if n := len(value); n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
			value = value[1 : n-1]
		}
		switch key {
		case "ID":
			o.ID = value
		case "VERSION_ID":
			o.VersionID = value
		case "VERSION_CODENAME":
			o.VersionCodename = value
		case "PRETTY_NAME":
			o.PrettyName = value
		default:
			if o.Fields == nil {
				o.Fields = make(map[string]string)
			}
			o.Fields[key] = value
		}
	}
	return o
}

func (l *Learner) kernel(_ context.Context, p *event.Persona) {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return
	}
	text := unix.ByteSliceToString
	p.Kernel = event.Kernel{Name: text(u.Sysname[:]), Release: text(u.Release[:]), Version: text(u.Version[:]), Machine: text(u.Machine[:])}
}

func (l *Learner) timeZone(_ context.Context, p *event.Persona) {
	if target, err := os.Readlink(l.path("/etc/localtime")); err == nil {
		if _, zone, ok := strings.Cut(target, "/zoneinfo/"); ok {
			p.TimeZone = strings.TrimPrefix(strings.TrimPrefix(zone, "posix/"), "right/")
			return
		}
	}
	p.TimeZone = l.line("/etc/timezone")
}

func (l *Learner) locale(_ context.Context, p *event.Persona) {
	for _, file := range []string{"/etc/locale.conf", "/etc/default/locale"} {
		l.lines(file, maxFile, func(line string) bool {
			value, ok := strings.CutPrefix(strings.TrimSpace(line), "LANG=")
			if ok {
				p.Locale = strings.Trim(value, `"'`)
			}
			return ok
		})
		if p.Locale != "" {
			return
		}
	}
}

func (l *Learner) accounts(_ context.Context, p *event.Persona) {
	p.Accounts = parsePasswd(string(l.read("/etc/passwd", maxFile)))
	p.Groups = parseGroup(string(l.read("/etc/group", maxFile)))
}

// parsePasswd reads passwd(5); lines that are none are left out.
func parsePasswd(text string) []event.PersonaAccount {
	var out []event.PersonaAccount
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(f) != 7 || f[0] == "" {
			continue
		}
		uid, errU := strconv.ParseUint(f[2], 10, 32)
		gid, errG := strconv.ParseUint(f[3], 10, 32)
		if errU != nil || errG != nil {
			continue
		}
		out = append(out, event.PersonaAccount{Name: f[0], UID: uint32(uid), GID: uint32(gid), Comment: f[4], Home: f[5], Shell: f[6]})
	}
	return out
}

// parseGroup reads group(5); lines that are none are left out.
func parseGroup(text string) []event.PersonaGroup {
	var out []event.PersonaGroup
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(f) != 4 || f[0] == "" {
			continue
		}
		gid, err := strconv.ParseUint(f[2], 10, 32)
		if err != nil {
			continue
		}
		g := event.PersonaGroup{Name: f[0], GID: uint32(gid)}
		if f[3] != "" {
			g.Members = strings.Split(f[3], ",")
		}
		out = append(out, g)
	}
	return out
}
