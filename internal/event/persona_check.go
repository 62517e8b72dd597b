package event

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds of a persona.
const (
	MaxPersona = 256 << 10 // bytes of its JSON

	maxPersonaAccounts = 256
	maxPersonaGroups   = 256
	maxPersonaMembers  = 64
	maxPersonaPorts    = 128
	maxPersonaDevices  = 32
	maxPersonaFields   = 32
	maxPersonaText     = 4096 // of texts with several lines
	maxPersonaBytes    = 1 << 60
)

// PersonaError is a part of a persona that no persona can have.
type PersonaError struct {
	Key     string `json:"key"`   // such as accounts[2].home
	Found   Bytes  `json:"found"` // shortened
	Allowed string `json:"allowed"`
}

func (p PersonaError) Error() string {
	return fmt.Sprintf("%s: found \"%s\"; allowed: %s", p.Key, p.Found.Escaped(), p.Allowed)
}

// Check returns what of a persona can't be.
func (p Persona) Check() []PersonaError {
	_, problems := p.Clean()
	return problems
}

// Clean returns a persona without what can't be, and what that was. Only a bad name is left in place:
// the caller knows better.
func (p Persona) Clean() (Persona, []PersonaError) {
	c := &personaCheck{compiled: make(map[string]*regexp.Regexp)}
	name := p.Name
	c.match("name", &name, `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`, "a lower-case name of letters, digits and hyphens, at most 63 long")
	if p.Name == "" {
		c.fail("name", "", "a lower-case name of letters, digits and hyphens, at most 63 long")
	}
	c.system(&p)
	c.people(&p)
	c.ssh(&p.SSH)
	c.hardware(&p.Machine)
	c.network(&p)
	if data, err := json.Marshal(p); err != nil || len(data) > MaxPersona {
		c.fail("", fmt.Sprintf("%d bytes", len(data)), fmt.Sprintf("at most %d bytes of JSON", MaxPersona))
		p = Persona{Name: p.Name, Hostname: p.Hostname, OS: p.OS, Kernel: p.Kernel, SSH: p.SSH}
	}
	return p, c.problems
}

// personaCheck empties what is wrong and notes it.
type personaCheck struct {
	problems []PersonaError
	compiled map[string]*regexp.Regexp
}

// matches reports whether an expression is all of a text.
func (c *personaCheck) matches(expression, s string) bool {
	re := c.compiled[expression]
	if re == nil {
		re = regexp.MustCompile(`^(?:` + expression + `)$`)
		c.compiled[expression] = re
	}
	return re.MatchString(s)
}

func (c *personaCheck) fail(key, found, allowed string) {
	if len(found) > 80 {
		found = found[:80] + "…"
	}
	c.problems = append(c.problems, PersonaError{Key: key, Found: Bytes(found), Allowed: allowed})
}

// match checks a text against an expression of all of it; nothing is always allowed.
func (c *personaCheck) match(key string, s *string, expression, allowed string) {
	if *s != "" && !c.matches(expression, *s) {
		c.fail(key, *s, allowed)
		*s = ""
	}
}

// line checks a text of one line without any of the characters not.
func (c *personaCheck) line(key string, s *string, most int, not string) {
	if len(*s) > most || !printable(*s, "") || strings.ContainsAny(*s, not) {
		allowed := fmt.Sprintf("printable text of at most %d bytes in one line", most)
		if not != "" {
			allowed += fmt.Sprintf(", without %q", not)
		}
		c.fail(key, *s, allowed)
		*s = ""
	}
}

func (c *personaCheck) lines(key string, s *string) {
	if len(*s) > maxPersonaText || !printable(*s, "\n\t") {
		c.fail(key, *s, fmt.Sprintf("printable text of at most %d bytes", maxPersonaText))
		*s = ""
	}
}

func printable(s, also string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) && !strings.ContainsRune(also, r) }) < 0
}

// file checks an absolute, clean path.
func (c *personaCheck) file(key string, s *string) {
	if *s != "" && (!c.matches(`/[A-Za-z0-9/_.+@-]{0,254}`, *s) || path.Clean(*s) != *s) {
		c.fail(key, *s, "an absolute path of letters, digits and _ . + @ -, without .. or a / at its end")
		*s = ""
	}
}

func (c *personaCheck) size(key string, n *int64) {
	if *n < 0 || *n > maxPersonaBytes {
		c.fail(key, strconv.FormatInt(*n, 10), "a number of bytes that is not negative")
		*n = 0
	}
}

// each checks the elements of a list; the bad ones, and those above most, go.
func each[T any](c *personaCheck, key string, list *[]T, most int, check func(c *personaCheck, key string, e *T)) {
	if len(*list) == 0 {
		*list = nil
		return
	}
	in := *list
	if len(in) > most {
		c.fail(key, fmt.Sprintf("%d of them", len(in)), fmt.Sprintf("at most %d", most))
		in = in[:most]
	}
	out := make([]T, 0, len(in))
	for i, e := range in {
		before := len(c.problems)
		check(c, fmt.Sprintf("%s[%d]", key, i), &e)
		if len(c.problems) == before {
			out = append(out, e)
		}
	}
	*list = out
}

func (c *personaCheck) system(p *Persona) {
	label := `[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?`
	c.match("hostname", &p.Hostname, `[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?`, "a host name: letters, digits, and inside . _ -, at most 63 long")
	c.match("domain", &p.Domain, label+`(\.`+label+`){0,9}`, "a domain name")
	c.match("os.id", &p.OS.ID, `[a-z0-9._-]{1,32}`, "lower-case letters, digits and . _ -")
	c.match("os.version_id", &p.OS.VersionID, `[a-z0-9._-]{1,32}`, "lower-case letters, digits and . _ -")
	c.match("os.version_codename", &p.OS.VersionCodename, `[a-z0-9._-]{1,32}`, "lower-case letters, digits and . _ -")
	c.line("os.pretty_name", &p.OS.PrettyName, 128, "\"'`$\\")
	c.match("os.debian_version", &p.OS.DebianVersion, `[A-Za-z0-9./_-]{1,32}`, "letters, digits and . / _ -, such as 12.11")
	p.OS.Fields = c.fields(p.OS.Fields)
	c.match("kernel.name", &p.Kernel.Name, `[A-Za-z0-9_/-]{1,32}`, "a kernel's name, such as Linux")
	c.match("kernel.release", &p.Kernel.Release, `[A-Za-z0-9.+~_-]{1,64}`, "a kernel's release, such as 6.1.0-37-amd64")
	c.line("kernel.version", &p.Kernel.Version, 64, "")
	c.match("kernel.machine", &p.Kernel.Machine, `[A-Za-z0-9_-]{1,32}`, "a machine's name, such as x86_64")
	zone := `[A-Za-z0-9+_-]{1,32}`
	c.match("time_zone", &p.TimeZone, zone+`(/`+zone+`){0,2}`, "an IANA time zone, such as Europe/Berlin")
	c.match("locale", &p.Locale, `(C|POSIX|[a-z]{2,3}(_[A-Z]{2})?)(\.[A-Za-z0-9-]{1,16})?(@[a-z]{1,16})?`, "a locale, such as de_DE.UTF-8")
	c.lines("motd", &p.Motd)
}

func (c *personaCheck) fields(in map[string]string) map[string]string {
	var out map[string]string
	for _, key := range slices.Sorted(maps.Keys(in)) {
		name, value, before := key, in[key], len(c.problems)
		at := "os.fields." + shortKey(key)
		c.match(at, &name, `[A-Z][A-Z0-9_]{0,31}`, "names of os-release: capital letters, digits and _")
		if name == "" && len(c.problems) == before {
			c.fail(at, key, "a name")
		}
		c.line(at, &value, 256, "\"'`$\\")
		if len(c.problems) > before {
			continue
		}
		if len(out) == maxPersonaFields {
			c.fail("os.fields", fmt.Sprintf("%d of them", len(in)), fmt.Sprintf("at most %d", maxPersonaFields))
			break
		}
		if out == nil {
			out = make(map[string]string)
		}
		out[name] = value
	}
	return out
}

func shortKey(key string) string {
	if len(key) > 40 {
		key = key[:40] + "…"
	}
	return Bytes(key).Escaped()
}

func (c *personaCheck) people(p *Persona) {
	accountName := func(key string, s *string) {
		allowed := "an account's name: letters, digits and _ . -, at most 32 long, no digit or hyphen first"
		if *s == "" {
			c.fail(key, "", allowed)
		}
		c.match(key, s, `[A-Za-z_][A-Za-z0-9_.-]{0,30}[A-Za-z0-9_.$-]?`, allowed)
	}
	once := func(seen map[string]bool, key, name string) {
		if seen[name] {
			c.fail(key, name, "each name once")
		}
		seen[name] = true
	}
	accounts, groups := map[string]bool{}, map[string]bool{}
	each(c, "accounts", &p.Accounts, maxPersonaAccounts, func(c *personaCheck, key string, a *PersonaAccount) {
		once(accounts, key+".name", a.Name)
		accountName(key+".name", &a.Name)
		c.line(key+".comment", &a.Comment, 128, ":")
		c.file(key+".home", &a.Home)
		c.file(key+".shell", &a.Shell)
	})
	each(c, "groups", &p.Groups, maxPersonaGroups, func(c *personaCheck, key string, g *PersonaGroup) {
		once(groups, key+".name", g.Name)
		accountName(key+".name", &g.Name)
		each(c, key+".members", &g.Members, maxPersonaMembers, func(_ *personaCheck, key string, m *string) { accountName(key, m) })
	})
}

func (c *personaCheck) ssh(s *PersonaSSH) {
	c.match("ssh.identification", &s.Identification, `SSH-2\.0-[!-,.-~][ -~]{0,240}`,
		"what an SSH server calls itself, such as SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3")
	each(c, "ssh.ports", &s.Ports, 16, portCheck)
	settings, known := map[string]string(nil), sshSettings()
	for _, key := range slices.Sorted(maps.Keys(s.Settings)) {
		value := s.Settings[key]
		allowed := known[key]
		switch {
		case allowed == "":
			c.fail("ssh.settings."+shortKey(key), key, strings.Join(SSHSettings(), ", "))
		case len(value) > maxPersonaText || !c.matches(allowed, value) || key == "maxstartups" && !startups(value):
			c.fail("ssh.settings."+key, value, "what matches "+allowed)
		default:
			if settings == nil {
				settings = make(map[string]string)
			}
			settings[key] = value
		}
	}
	s.Settings = settings
	each(c, "ssh.accept_env", &s.AcceptEnv, 32, func(c *personaCheck, key string, e *string) {
		if *e == "" {
			c.fail(key, "", "a variable's name")
		}
		c.match(key, e, `[A-Za-z_*?][A-Za-z0-9_*?]{0,63}`, "a variable's name, in which * and ? match")
	})
	c.lines("ssh.banner", &s.Banner)
	types := map[string]bool{}
	each(c, "ssh.host_keys", &s.HostKeys, 3, func(c *personaCheck, key string, k *HostKeyKind) {
		ok := false
		switch k.Type {
		case "rsa":
			ok = k.Bits >= 1024 && k.Bits <= 8192 && k.Bits%8 == 0
		case "ecdsa":
			ok = k.Bits == 256 || k.Bits == 384 || k.Bits == 521
		case "ed25519":
			ok = k.Bits == 256
		}
		if !ok || types[k.Type] {
			c.fail(key, fmt.Sprintf("%.20s with %d bits", k.Type, k.Bits), "each of rsa (1024 to 8192 bits), ecdsa (256, 384, 521) and ed25519 (256) once")
		}
		types[k.Type] = true
	})
}

func portCheck(c *personaCheck, key string, port *uint16) {
	if *port == 0 {
		c.fail(key, "0", "a port from 1 to 65535")
	}
}

func (c *personaCheck) hardware(h *Hardware) {
	c.line("machine.vendor", &h.Vendor, 64, "")
	c.line("machine.product", &h.Product, 64, "")
	c.match("machine.virtualisation", &h.Virtualisation, `[a-z0-9-]{1,32}`, "what systemd-detect-virt says, such as kvm or none")
	c.line("machine.cpu_model", &h.CPUModel, 128, ":")
	if h.CPUs < 0 || h.CPUs > 4096 {
		c.fail("machine.cpus", strconv.Itoa(h.CPUs), "0 to 4096")
		h.CPUs = 0
	}
	c.size("machine.memory", &h.Memory)
	c.size("machine.swap", &h.Swap)
	if y := h.BootedAt.Year(); !h.BootedAt.IsZero() && (y < 1990 || y > 2200) {
		c.fail("machine.booted_at", h.BootedAt.Format(time.RFC3339), "a time between 1990 and 2200")
		h.BootedAt = time.Time{}
	}
	each(c, "machine.disks", &h.Disks, maxPersonaDevices, func(c *personaCheck, key string, d *Disk) {
		if d.Name == "" {
			c.fail(key+".name", "", "a device's name, such as sda")
		}
		c.match(key+".name", &d.Name, `[a-z0-9][a-z0-9_-]{0,31}`, "a device's name, such as sda")
		c.size(key+".size", &d.Size)
	})
	each(c, "machine.file_systems", &h.FileSystems, maxPersonaDevices, func(c *personaCheck, key string, f *FileSystem) {
		if f.Device == "" || f.Mount == "" {
			c.fail(key, f.Device+" "+f.Mount, "a device and where it is mounted")
		}
		c.file(key+".device", &f.Device)
		c.file(key+".mount", &f.Mount)
		c.match(key+".type", &f.Type, `[a-z0-9_.-]{1,32}`, "a file system's type, such as ext4")
		c.size(key+".size", &f.Size)
		c.size(key+".used", &f.Used)
		if f.Used > f.Size {
			c.fail(key+".used", strconv.FormatInt(f.Used, 10), "at most its size")
		}
	})
}

func (c *personaCheck) network(p *Persona) {
	ports := map[uint16]bool{}
	each(c, "listening", &p.Listening, maxPersonaPorts, func(c *personaCheck, key string, l *Listening) {
		portCheck(c, key+".port", &l.Port)
		if ports[l.Port] {
			c.fail(key+".port", strconv.Itoa(int(l.Port)), "each port once")
		}
		ports[l.Port] = true
		c.service(key+".service", &l.Service)
	})
	c.match("network.interface", &p.Network.Interface, `[A-Za-z0-9][A-Za-z0-9_.-]{0,14}`, "an interface's name, such as ens18")
	each(c, "network.addresses", &p.Network.Addresses, 16, func(c *personaCheck, key string, a *InterfaceAddress) {
		if !a.IsValid() || a.Addr().IsMulticast() || a.Addr().IsUnspecified() || a.Addr().IsLoopback() {
			c.fail(key, a.String(), "an address with its network's length, such as 192.0.2.10/24")
		}
	})
	each(c, "software", &p.Software, maxPersonaDevices, func(c *personaCheck, key string, v *ServiceVersion) {
		c.service(key+".service", &v.Service)
		c.line(key+".product", &v.Product, 64, "")
		c.line(key+".version", &v.Version, 64, "")
	})
}

func (c *personaCheck) service(key string, s *Service) {
	text := string(*s)
	c.match(key, &text, `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`, "a service's name")
	*s = Service(text)
}
