package advice

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/kokkuri/kokkuri/internal/event"
)

// postgres says where a log of the form stderr can't tell who failed to log in: the address is in its lines only as
// log_line_prefix has it, or in those that log_connections writes. (csvlog and jsonlog always have it.)
func (o Options) postgres() []event.Finding {
	var out []event.Finding
	for _, c := range o.clusters() {
		warn := func(text, mend string) {
			out = append(out, event.Finding{Level: "warning", Subject: "postgres", Text: text + " (looked at: " + c.looked() + ")", Mend: mend})
		}
		set := o.postgresSettings(c)
		prefix, given := set["log_line_prefix"]
		if !given {
			prefix = "%m [%p] " // PostgreSQL's own since 10
		}
		received := logsConnections(set["log_connections"])
		if !tellsSource(prefix, received) {
			state := "off"
			if received {
				state = "on, but [%p] stands nowhere before the first name"
			}
			warn("failed logins don't say from where: in log_line_prefix = "+strconv.Quote(prefix)+" neither %h nor %r stands before the first name, and log_connections is "+state,
				"set log_line_prefix = '%m [%p] %h %q%u@%d ', then: pg_ctlcluster VERSION CLUSTER reload; or log_destination = 'csvlog'")
		}
		if on(set["log_hostname"]) {
			warn("log_hostname is on: clients are named by what their address resolves to, and a name proves nothing: where one has a name, its failed logins count for nobody",
				"set log_hostname = off, then: pg_ctlcluster VERSION CLUSTER reload")
		}
	}
	return out
}

// cluster is a PostgreSQL server as it is configured.
type cluster struct {
	file string   // postgresql.conf
	args []string // of its process, where it runs
}

func (c cluster) looked() string {
	if len(c.args) > 0 {
		return c.file + ", what it includes, the command line of postgres"
	}
	return c.file + " and what it includes"
}

// clusters are the one that runs, and those where Debian puts them.
func (o Options) clusters() []cluster {
	found, _ := filepath.Glob(o.path("etc", "postgresql", "*", "*", "postgresql.conf"))
	var out []cluster
	for _, path := range found {
		out = append(out, cluster{file: o.inside(path)})
	}
	_, args := o.command("postgres")
	file := ""
	for i, arg := range args {
		if _, value, ok := strings.Cut(arg, "config_file="); ok { // -c config_file=…, --config_file=…
			file = value
			break
		}
		if arg == "-D" && i+1 < len(args) {
			file = filepath.Join(args[i+1], "postgresql.conf")
		} else if dir, ok := strings.CutPrefix(arg, "-D"); ok {
			file = filepath.Join(dir, "postgresql.conf")
		}
	}
	if file == "" {
		return out
	}
	if i := slices.IndexFunc(out, func(c cluster) bool { return c.file == file }); i >= 0 {
		out[i].args = args
		return out
	}
	return append(out, cluster{file: file, args: args})
}

// inside is a path as the host has it.
func (o Options) inside(path string) string {
	return strings.TrimPrefix(path, strings.TrimSuffix(o.path(), "/"))
}

// postgresSettings are what the cluster's files and its command line say, in the order in which they count.
func (o Options) postgresSettings(c cluster) map[string]string {
	set := map[string]string{}
	o.postgresConf(c.file, set, 0)
	dir := filepath.Dir(c.file)
	if d := set["data_directory"]; d != "" {
		dir = d
	}
	for i, arg := range c.args {
		if arg == "-D" && i+1 < len(c.args) {
			dir = c.args[i+1]
		}
	}
	o.postgresConf(filepath.Join(dir, "postgresql.auto.conf"), set, 0)
	for i, arg := range c.args {
		text := ""
		switch {
		case arg == "-c" && i+1 < len(c.args):
			text = c.args[i+1]
		case strings.HasPrefix(arg, "--"):
			text = arg[2:]
		case strings.HasPrefix(arg, "-c"):
			text = arg[2:]
		}
		if name, value, ok := strings.Cut(text, "="); ok {
			set[strings.ToLower(strings.ReplaceAll(name, "-", "_"))] = value
		}
	}
	return set
}

// postgresConf reads name = value, and what is included (PostgreSQL documentation, 20.1.2 and 20.1.5). The last counts.
func (o Options) postgresConf(file string, set map[string]string, depth int) {
	if depth > 10 {
		return
	}
	for line := range strings.Lines(o.read(file)) {
		name, value, ok := postgresSetting(line)
		if !ok {
			continue
		}
		if !filepath.IsAbs(value) && strings.HasPrefix(name, "include") {
			value = filepath.Join(filepath.Dir(file), value)
		}
		switch name {
		case "include", "include_if_exists":
			o.postgresConf(value, set, depth+1)
		case "include_dir":
			found, _ := filepath.Glob(o.path(value, "*.conf"))
			for _, path := range found {
				if !strings.HasPrefix(filepath.Base(path), ".") {
					o.postgresConf(o.inside(path), set, depth+1)
				}
			}
		default:
			set[name] = value
		}
	}
}

// postgresSetting reads one line (PostgreSQL's guc-file.l).
func postgresSetting(line string) (name, value string, ok bool) {
	line = strings.TrimSpace(line)
	end := strings.IndexAny(line, " \t=")
	if end <= 0 || line[0] == '#' {
		return "", "", false
	}
	name = strings.ToLower(line[:end])
	value = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line[end:]), "="))
	if !strings.HasPrefix(value, "'") {
		value, _, _ = strings.Cut(value, "#")
		return name, strings.TrimSpace(value), true
	}
	return name, postgresString(value[1:]), true
}

// postgresString reads up to the closing quote: two quotes are one, and a backslash begins what it begins in C.
func postgresString(s string) string {
	var text strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\'' && i+1 < len(s) && s[i+1] == '\'':
			i++
			text.WriteByte('\'')
		case c == '\'':
			return text.String()
		case c == '\\' && i+1 < len(s):
			b, n := postgresEscape(s[i+1:])
			text.WriteByte(b)
			i += n
		default:
			text.WriteByte(c)
		}
	}
	return text.String()
}

// postgresEscape reads what follows a backslash, and how long it is.
func postgresEscape(s string) (b byte, n int) {
	if i := strings.IndexByte("bfnrt", s[0]); i >= 0 {
		return "\b\f\n\r\t"[i], 1
	}
	value := 0
	for n < len(s) && n < 3 && s[n] >= '0' && s[n] <= '7' {
		value = value<<3 | int(s[n]-'0')
		n++
	}
	if n == 0 {
		return s[0], 1
	}
	return byte(value), n
}

// on reads a boolean of PostgreSQL's, which may be cut short.
func on(value string) bool {
	v := strings.ToLower(strings.TrimSpace(value))
	return v != "" && (strings.HasPrefix("true", v) || strings.HasPrefix("yes", v) || v == "on" || v == "1")
}

// logsConnections says whether lines tell of new connections; PostgreSQL 18 takes a list of what to tell.
func logsConnections(value string) bool {
	for part := range strings.SplitSeq(value, ",") {
		if part = strings.ToLower(strings.TrimSpace(part)); part == "receipt" || part == "all" {
			return true
		}
	}
	return on(value)
}
