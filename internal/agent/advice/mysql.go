package advice

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/kokkuri/kokkuri/internal/event"
)

// mysql says what keeps denied logins out of the error log, and, where the service may be redirected, what keeps successful
// ones out of any. What a client with privileges changed in the running server (SET GLOBAL) can't be seen from here.
func (o Options) mysql(ctx context.Context) []event.Finding {
	printed, looked, err := o.Defaults(ctx)
	if err != nil {
		looked = "nothing of its option files (" + err.Error() + ")"
	}
	options := strings.Split(string(printed), "\n")
	name, args := o.command("mariadbd", "mysqld")
	if len(args) > 1 {
		options = append(options, args[1:]...)
		looked += ", the command line of " + name
	}
	set := mysqlOptions(options)
	maria := name == "mariadbd"
	if name == "" || name == "mysqld" { // MariaDB was called mysqld before 10.5
		_, err := os.Stat(o.path("usr", "sbin", "mariadbd"))
		maria = err == nil
	}
	var out []event.Finding
	warn := func(text, mend string) {
		out = append(out, event.Finding{Level: "warning", Subject: "mysql", Text: text + " (looked at: " + looked + ")", Mend: mend})
	}
	if maria {
		if n, ok := number(set, "log_warnings"); ok && n < 2 {
			warn(fmt.Sprintf("denied logins are not in MariaDB's error log: log_warnings is %d", n),
				"set log_warnings = 2 (MariaDB's own) in [mariadbd], and in the running server: SET GLOBAL log_warnings = 2")
		}
		if slices.Contains(o.Redirected, event.MySQL) && !audited(set) {
			warn("successful logins are in no log that is read: an application server whose password was rotated looks like an attacker",
				"load the plugin server_audit with server_audit_logging = ON, server_audit_events = CONNECT, server_audit_output_type = syslog (docs/roads.md), "+
					"or put your application servers on the allow-list")
		}
	} else {
		n, ok := number(set, "log_error_verbosity")
		if !ok {
			n = 2 // MySQL's own since 8.0
		}
		if n < 3 {
			warn(fmt.Sprintf("denied logins are not in MySQL's error log: log_error_verbosity is %d", n),
				"set log_error_verbosity = 3 in [mysqld], and in the running server: SET GLOBAL log_error_verbosity = 3")
		}
		if list := set["log_error_suppression_list"]; strings.Contains(list, "MY-010926") || strings.Contains(list, "ER_ACCESS_DENIED") {
			warn("denied logins are suppressed: log_error_suppression_list is "+list, "take MY-010926 out of log_error_suppression_list")
		}
	}
	if v, ok := set["skip_name_resolve"]; !ok || off(v) {
		warn("clients are named by what their address resolves to, and a name proves nothing: where one has a name, its denied logins count for nobody",
			"set skip_name_resolve = ON and start the server again (accounts must then be granted to addresses, not to names)")
	}
	return out
}

// audited says whether server_audit tells of logins where that is read. Where the plugin is loaded from can't be seen here
// (INSTALL SONAME), but what it is told is in the options.
func audited(set map[string]string) bool {
	logging, ok := set["server_audit_logging"]
	events := strings.ToUpper(set["server_audit_events"])
	return ok && !off(logging) && strings.EqualFold(set["server_audit_output_type"], "syslog") && (events == "" || slices.Contains(strings.Split(events, ","), "CONNECT"))
}

// mysqlOptions are options as they stand last, by their names with _ (MariaDB Knowledge Base, Configuring MariaDB with Option
// Files). Both servers take a name that is cut short, and words before it.
func mysqlOptions(args []string) map[string]string {
	set := map[string]string{}
	for i, arg := range args {
		name, ok := strings.CutPrefix(strings.TrimSpace(arg), "--")
		if !ok {
			if value, short := strings.CutPrefix(arg, "-W"); short { // log_warnings
				if value == "" && i+1 < len(args) {
					value = args[i+1]
				}
				set["log_warnings"] = value
			}
			continue
		}
		name, value, given := strings.Cut(name, "=")
		name = strings.TrimPrefix(strings.ReplaceAll(name, "-", "_"), "loose_")
		if mysqlOption(name) == "" {
			for _, before := range []struct{ word, value string }{{"skip_", "0"}, {"disable_", "0"}, {"enable_", "1"}, {"maximum_", value}} {
				if rest, ok := strings.CutPrefix(name, before.word); ok && mysqlOption(rest) != "" {
					name, value, given = rest, before.value, true
					break
				}
			}
		}
		if full := mysqlOption(name); full != "" {
			name = full
		}
		if !given {
			value = "1"
			if name == "log_warnings" {
				value = "2" // tried: without a value it is its default
			}
		}
		set[name] = value
	}
	return set
}

// mysqlOption is the option that is meant by a name or the beginning of one; empty where it is none that is looked at.
func mysqlOption(name string) string {
	for _, o := range []struct{ full, least string }{ // least: no other option begins so
		{"log_warnings", "log_w"},
		{"skip_name_resolve", "skip_na"},
		{"log_error_verbosity", "log_error_v"},
		{"log_error_suppression_list", "log_error_su"},
		{"server_audit_logging", "server_audit_l"},
		{"server_audit_events", "server_audit_ev"},
		{"server_audit_output_type", "server_audit_o"},
	} {
		if strings.HasPrefix(o.full, name) && strings.HasPrefix(name, o.least) {
			return o.full
		}
	}
	return ""
}

func number(set map[string]string, name string) (int, bool) {
	v, ok := set[name]
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(v)
	return n, err == nil
}

func off(value string) bool {
	switch strings.ToLower(strings.Trim(value, `'"`)) {
	case "0", "off", "false", "no", "":
		return true
	}
	return false
}
