package tail

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/kokkuri/kokkuri/internal/event"
)

// maxLooked bounds how many directories are read to find files.
const maxLooked = 8192

// wildcards have a meaning in patterns as path.Match has it.
const wildcards = `*?[\`

// glob finds the files that a pattern with wildcards stands for. %HOST% in it stands for a name of its own.
type glob struct {
	base  string   // up to the first component with a wildcard
	parts []string // components from there to the last with a wildcard
	rest  string   // what comes after, which may have date parts; empty where the last component has a wildcard
}

// parseGlob reads a pattern with wildcards.
func parseGlob(text string) (*glob, error) {
	bad := func(why string) (*glob, error) { return nil, fmt.Errorf("%w: %q %s", ErrPattern, text, why) }
	switch {
	case !filepath.IsAbs(text):
		return bad("is not an absolute path")
	case len(text) > maxPath:
		return bad(fmt.Sprintf("is %d bytes long, at most %d are allowed", len(text), maxPath))
	case strings.Contains(text, "**"):
		return bad("has ** in it, which could be anywhere: name each folder, as in /var/log/*/*/auth.log")
	case strings.Count(text, HostPart) > 1:
		return bad("has more than one " + HostPart)
	case path.Clean(text) != text:
		return bad("must be written as " + path.Clean(text))
	}
	parts := strings.Split(strings.TrimPrefix(text, "/"), "/")
	wild := func(p string) bool { return strings.ContainsAny(p, wildcards) || strings.Contains(p, HostPart) }
	first := slices.IndexFunc(parts, wild)
	last := len(parts) - 1
	for last >= 0 && !wild(parts[last]) {
		last--
	}
	if first < 0 {
		return bad("has no wildcard")
	}
	for _, p := range parts[:last+1] {
		plain := strings.Replace(p, HostPart, "", 1)
		if strings.Contains(plain, "%") {
			return bad("has a date before its last wildcard: it may come only in the components after that")
		}
		if plain != p && strings.ContainsAny(plain, wildcards) {
			return bad("has " + HostPart + " and a wildcard in one component")
		}
		if _, err := path.Match(plain, ""); err != nil {
			return bad("has a [ without its ], or ends in \\")
		}
	}
	g := &glob{base: "/" + path.Join(parts[:first]...), parts: parts[first : last+1], rest: path.Join(parts[last+1:]...)}
	if g.rest != "" {
		if _, err := parsePattern("/" + g.rest); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// place is one directory or file on the way of a pattern.
type place struct{ path, host string }

// find lists what the pattern stands for now, and says whether it had to stop before the end.
func (g *glob) find(most int) (out []found, cut bool) {
	places, looked := []place{{path: g.base}}, 0
	for i, part := range g.parts {
		files := i == len(g.parts)-1 && g.rest == ""
		var next []place
		for _, at := range places {
			if looked++; looked > maxLooked || len(next) > 16*most {
				cut = true
				break
			}
			next = append(next, g.enter(at, part, files)...)
		}
		places = next
	}
	for _, at := range places {
		f := found{key: literal(at.path), host: at.host}
		if g.rest != "" {
			f.key += "/" + g.rest
		}
		f.path = f.key
		out = append(out, f)
	}
	return out, cut
}

// enter lists what lies at a place and matches part: files, or else directories.
func (g *glob) enter(at place, part string, files bool) []place {
	if !strings.ContainsAny(part, wildcards) && !strings.Contains(part, HostPart) {
		return []place{{filepath.Join(at.path, part), at.host}}
	}
	dir, err := os.Open(at.path)
	if err != nil {
		return nil // it is not there yet, or no directory
	}
	defer func() { _ = dir.Close() }()
	names, _ := dir.Readdirnames(maxSiblings)
	slices.Sort(names)
	var out []place
	for _, name := range names {
		host, ok := matches(part, name)
		if !ok || files && rotated(name, names) {
			continue
		}
		full := filepath.Join(at.path, name)
		info, err := os.Stat(full)
		if err != nil || files && !info.Mode().IsRegular() || !files && !info.IsDir() {
			continue
		}
		if host == "" {
			host = at.host
		}
		out = append(out, place{full, host})
	}
	return out
}

// matches reports whether a name is one that part of a pattern stands for, and what stands in the place of %HOST%.
func matches(part, name string) (host string, ok bool) {
	if before, after, has := strings.Cut(part, HostPart); has {
		host, ok = strings.CutPrefix(name, before)
		if ok {
			host, ok = strings.CutSuffix(host, after)
		}
		return host, ok && hostLike(host)
	}
	if name[0] == '.' && part[0] != '.' {
		return "", false // hidden, as for a shell
	}
	ok, _ = path.Match(part, name)
	return "", ok
}

// rotated reports whether a name is one that rotation gives: such a file is the past of another, which is followed as that
// one's. Among names of addresses (10.0.0.1) only those are whose beginning is a name of its own.
func rotated(name string, names []string) bool {
	for _, compressed := range []string{zipSuffix, ".xz", ".bz2", ".zst"} {
		if strings.HasSuffix(name, compressed) {
			return true
		}
	}
	if regexp.MustCompile(`[A-Za-z_](\.[0-9]{1,4}|-[0-9]{8})$`).MatchString(name) {
		return true
	}
	number := regexp.MustCompile(`^[.-]?[0-9][0-9.-]*$`)
	ext := filepath.Ext(name)
	stem := strings.TrimSuffix(name, ext)
	for i := range name {
		if i > 0 && number.MatchString(name[i:]) && slices.Contains(names, name[:i]) {
			return true
		}
		if i > 0 && i < len(stem) && number.MatchString(stem[i:]) && slices.Contains(names, stem[:i]+ext) {
			return true // logrotate's `extension`
		}
	}
	return false
}

// noneFound is what is said while a pattern stands for nothing.
func noneFound(pattern string) event.Finding {
	return event.Finding{
		Level: "warning", Subject: pattern, Text: "there is no such file (yet)",
		Mend: "is the pattern right, does a syslog daemon write there, and may this program read the folders?",
	}
}
