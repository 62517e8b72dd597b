package advice

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/kokkuri/kokkuri/internal/event"
)

// mysql says what keeps denied logins out of the error log. What a client with privileges changed in the running
// server (SET GLOBAL) can't be seen from here.
func (o Options) mysql(ctx context.Context) []event.Finding {
	groups := []string{"mysqld", "server", "mariadb", "mariadbd"}
	looked := "my_print_defaults " + strings.Join(groups, " ")
	var options []string
	printed, err := o.Defaults(ctx, groups...)
	if err != nil {
		looked = "nothing of its option files (" + err.Error() + ")"
	}
	options = append(options, strings.Split(string(printed), "\n")...)
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

// mysqlOptions are options as they stand last, with _ in their names; without a value they are on.
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
		name = strings.ReplaceAll(name, "-", "_")
		if !given {
			value = "1"
		}
		if rest, loose := strings.CutPrefix(name, "loose_"); loose {
			name = rest
		}
		if rest, ok := strings.CutPrefix(name, "disable_"); ok {
			name, value = rest, "0"
		}
		set[name] = value
	}
	return set
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
