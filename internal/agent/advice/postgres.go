package advice

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/kokkuri/kokkuri/internal/event"
)

// postgres says where a log of the form stderr can't tell who failed to log in: the address is in its lines only as
// log_line_prefix has it, or in those that log_connections writes. (csvlog and jsonlog always have it.)
func (o Options) postgres() []event.Finding {
	var out []event.Finding
	for _, file := range o.postgresFiles() {
		set := map[string]string{}
		o.postgresConf(file, set, 0)
		if dir := set["data_directory"]; dir != "" {
			o.postgresConf(filepath.Join(dir, "postgresql.auto.conf"), set, 0)
		} else {
			o.postgresConf(filepath.Join(filepath.Dir(file), "postgresql.auto.conf"), set, 0)
		}
		prefix := set["log_line_prefix"]
		if strings.Contains(prefix, "%h") || strings.Contains(prefix, "%r") {
			continue
		}
		if v, ok := set["log_connections"]; ok && !off(v) && (strings.Contains(prefix, "%p") || strings.Contains(prefix, "%c")) {
			continue
		}
		out = append(out, event.Finding{
			Level: "warning", Subject: "postgres",
			Text: "failed logins don't say from where: log_line_prefix has neither %h nor %r, and log_connections is off (looked at: " + file + " and what it includes)",
			Mend: "set log_line_prefix = '%m [%p] %q%u@%d %h ' and log_connections = on, then: pg_ctlcluster VERSION CLUSTER reload; or log_destination = 'csvlog'",
		})
	}
	return out
}

// postgresFiles are the configurations of the clusters: of the one that runs, and those where Debian puts them.
func (o Options) postgresFiles() []string {
	found, _ := filepath.Glob(o.path("etc", "postgresql", "*", "*", "postgresql.conf"))
	for i, path := range found {
		found[i] = strings.TrimPrefix(path, strings.TrimSuffix(o.path(), "/"))
	}
	_, args := o.command("postgres")
	for i, arg := range args {
		file := ""
		if value, ok := strings.CutPrefix(arg, "config_file="); ok {
			file = value
		} else if arg == "-D" && i+1 < len(args) && !slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "config_file=") }) {
			file = filepath.Join(args[i+1], "postgresql.conf")
		}
		if file != "" && !slices.Contains(found, file) {
			found = append(found, file)
		}
	}
	return found
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
				o.postgresConf(strings.TrimPrefix(path, strings.TrimSuffix(o.path(), "/")), set, depth+1)
			}
		default:
			set[name] = value
		}
	}
}

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
	var text strings.Builder
	for i := 1; i < len(value); i++ {
		switch c := value[i]; {
		case c == '\'' && i+1 < len(value) && value[i+1] == '\'', c == '\\' && i+1 < len(value):
			i++
			text.WriteByte(value[i])
		case c == '\'':
			return name, text.String(), true
		default:
			text.WriteByte(c)
		}
	}
	return name, text.String(), true
}
