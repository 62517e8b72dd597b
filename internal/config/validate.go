package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/native"
)

// validator checks values against the tags of their fields, and against each other.
type validator struct {
	origin func(key string) Origin
	errs   Errors
}

func (c *validator) fail(key, problem, allowed string) {
	c.errs = append(c.errs, &Error{Origin: c.origin(key), Key: key, Problem: problem, Allowed: allowed})
}

// section checks all fields of a struct.
func (c *validator) section(v reflect.Value, path string) {
	for _, f := range fieldsOf(v) {
		c.value(f.value, join(path, f.name), f.tag)
	}
}

func (c *validator) value(v reflect.Value, key string, tag reflect.StructTag) {
	switch {
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			c.value(v.Index(i), fmt.Sprintf("%s[%d]", key, i), tag)
		}
	case v.Kind() == reflect.Struct && v.NumField() > 0 && v.Type().Field(0).Tag.Get("yaml") != "":
		c.section(v, key)
	default:
		c.leaf(v, key, tag)
	}
}

func (c *validator) leaf(v reflect.Value, key string, tag reflect.StructTag) {
	text := strings.Join(texts(v), ",")
	if enum := tag.Get("enum"); enum != "" && text != "" {
		if allowed := strings.Split(enum, ","); !slices.Contains(allowed, text) {
			c.fail(key, fmt.Sprintf("found %q", text), strings.Join(allowed, ", "))
		}
	}
	c.bound(v, key, tag)
	if check := tag.Get("check"); check != "" && text != "" {
		if allowed, ok := checkText(check, text); !ok {
			c.fail(key, fmt.Sprintf("found %q", text), allowed)
		}
	}
}

// bound checks the tags min and max, which are written as the type's own texts.
func (c *validator) bound(v reflect.Value, key string, tag reflect.StructTag) {
	minText, maxText := tag.Get("min"), tag.Get("max")
	below := minText != "" && less(v, minText, true)
	above := maxText != "" && less(v, maxText, false)
	if !below && !above {
		return
	}
	allowed := "at least " + minText
	switch {
	case minText != "" && maxText != "":
		allowed = minText + " to " + maxText
	case maxText != "":
		allowed = "at most " + maxText
	}
	c.fail(key, "found "+strings.Join(texts(v), ","), allowed)
}

// less compares v with a bound: v < bound, or bound < v.
func less(v reflect.Value, text string, below bool) bool {
	bound := reflect.New(v.Type()).Elem()
	if err := parseScalar(bound, text); err != nil {
		return true // a tag that is wrong is found by the first test
	}
	if v.CanUint() {
		return below && v.Uint() < bound.Uint() || !below && bound.Uint() < v.Uint()
	}
	return below && v.Int() < bound.Int() || !below && bound.Int() < v.Int()
}

// checkText is what the tag check asks for.
func checkText(check, text string) (allowed string, ok bool) {
	switch check {
	case "name":
		return "a lower-case name of letters, digits and hyphens, at most 63 long", ValidName(text)
	case "dnsname":
		_, err := netip.ParseAddr(text)
		return "a DNS name or an address", err == nil || validDNSName(text)
	case "relay":
		_, err := ParsePrefix(text)
		return "a network in CIDR notation, an address, or the name in a certificate, such as 192.0.2.0/24 or loghost", err == nil || ValidName(text)
	case "abspath", "path", "urlpath", "httpmethod":
		return checkPath(check, text)
	case "sshversion":
		ok := regexp.MustCompile(`^SSH-2\.0-[!-,.-~][ -~]{0,240}$`).MatchString(text)
		return "what an SSH server calls itself, such as SSH-2.0-OpenSSH_9.2p1", ok
	case "format":
		_, ok := native.Find(text)
		return formatNames(), ok
	case "program":
		return "a program's name, at most 48 long, without spaces", validProgram(text)
	case "redis":
		return errNotRedis.Error(), validRedis(text)
	case "engine":
		u, err := url.Parse(text)
		return "an engine's URL, such as unix:///var/run/docker.sock or tcp://127.0.0.1:2375", err == nil && slices.Contains([]string{"unix", "tcp", "http", "https"}, u.Scheme)
	}
	return "a known check in the tag, not " + strconv.Quote(check), false
}

// checkPath is what the tag check asks for of paths, and of what is asked of a URL's.
func checkPath(check, text string) (allowed string, ok bool) {
	switch check {
	case "abspath":
		return "an absolute path", strings.HasPrefix(text, "/") && !strings.ContainsAny(text, "\x00\n")
	case "urlpath":
		bare := strings.TrimPrefix(strings.TrimSuffix(text, "*"), "*")
		return "a path that begins with / (or *), without a query, * only at its beginning or end", (strings.HasPrefix(text, "/") || strings.HasPrefix(text, "*")) &&
			bare != "" && !strings.ContainsAny(bare, "*?# \x00\n")
	case "httpmethod":
		return "a method in upper case, such as POST", text == strings.ToUpper(text) && !strings.ContainsAny(text, " \x00\n")
	}
	return "a path", !strings.ContainsAny(text, "\x00\n")
}

// relations checks what no single value shows.
func (c *validator) relations(u *Up) {
	if u.Server.Bus.Listen.Port() == 0 {
		c.fail("server.bus.listen", "found no address with a port", "an address with a port, such as 127.0.0.1:12666")
	}
	if len(u.Server.Syslog.ListenUDP) == 0 && len(u.Server.Syslog.TrustUDP) > 0 {
		c.fail("server.syslog.trust_udp", "is set, but server.syslog.listen_udp is empty", "both or neither")
	}
	c.subnet(u.Honeypot.Subnet)
	if e := u.Honeypot.Egress; event.EgressPolicy(e.Default).Stricter(event.EgressPolicy(e.Most)) != event.EgressPolicy(e.Default) {
		c.fail("honeypot.egress.default", fmt.Sprintf("found %q, which is more than honeypot.egress.most permits (%q)", e.Default, e.Most), "at most "+e.Most)
	}
	if u.Honeypot.Limits.Recordings < u.Honeypot.Limits.Recording {
		c.fail("honeypot.limits.recordings", fmt.Sprintf("found %s, less than one recording may take (honeypot.limits.recording is %s)",
			u.Honeypot.Limits.Recordings, u.Honeypot.Limits.Recording), "at least "+u.Honeypot.Limits.Recording.String())
	}
	for i, a := range u.Honeypot.Advertise {
		if a.IsUnspecified() || a.IsMulticast() {
			c.fail(fmt.Sprintf("honeypot.advertise[%d]", i), fmt.Sprintf("found %q", a), "an address of this machine that hosts can reach")
		}
	}
	if len(u.Agent.Services) == 0 {
		c.fail("agent.services", "found none", "at least one service, such as ssh:22")
	}
	c.logs(u)
	c.unique(u)
}

// logs refuses logs of which it is not clear how to read them.
func (c *validator) logs(u *Up) {
	one := func(key, format, program string) {
		if (format == "") == (program == "") {
			c.fail(key, "has neither a format nor a program, or both", "one of both; formats are "+formatNames())
		}
	}
	for i, l := range u.Agent.Logs {
		one(fmt.Sprintf("agent.logs[%d]", i), l.Format, l.Program)
	}
	for i, l := range u.Agent.Containers {
		one(fmt.Sprintf("agent.containers[%d]", i), l.Format, l.Program)
	}
	for i, r := range u.Agent.Redis {
		if r.Username != "" && r.PasswordFile == "" {
			c.fail(fmt.Sprintf("agent.redis[%d]", i), "has a username without a password_file", "both or neither")
		}
		if (r.CertFile == "") != (r.KeyFile == "") {
			c.fail(fmt.Sprintf("agent.redis[%d]", i), "has one of cert_file and key_file", "both or neither")
		}
		if !r.TLS && (r.CAFile != "" || r.CertFile != "" || r.KeyFile != "" || r.ServerName != "") {
			c.fail(fmt.Sprintf("agent.redis[%d]", i), "has files or a name for TLS, but does not speak it", "tls: true beside them")
		}
		if r.TLS && strings.HasPrefix(r.Address, "/") {
			c.fail(fmt.Sprintf("agent.redis[%d].tls", i), "is on for a socket", "HOST:PORT; Redis speaks no TLS on sockets")
		}
	}
}

func (c *validator) subnet(p netip.Prefix) {
	if !p.IsValid() || !p.Addr().Is4() || p.Bits() < 8 || p.Bits() > 24 {
		c.fail("honeypot.subnet", fmt.Sprintf("found %q", p), "an IPv4 network of /8 to /24, such as 10.77.0.0/16")
	}
}

// unique refuses names that stand for two hosts and services that stand twice.
func (c *validator) unique(u *Up) {
	hosts := map[string]int{}
	for i, h := range u.Server.Hosts {
		for _, name := range append([]string{h.Name}, h.Aliases...) {
			if first, twice := hosts[name]; twice && first != i {
				c.fail(fmt.Sprintf("server.hosts[%d]", i), fmt.Sprintf("the name %q is also a name of server.hosts[%d]", name, first), "names and aliases that belong to one host")
			}
			hosts[name] = i
		}
	}
	services := map[string]bool{}
	for i, s := range u.Agent.Services {
		text := fmt.Sprintf("%s:%d", s.Service, s.Port)
		if services[text] {
			c.fail(fmt.Sprintf("agent.services[%d]", i), fmt.Sprintf("%q stands twice", text), "each service and port once")
		}
		services[text] = true
	}
}
