package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// describeSeen says in one line what a piece of evidence states that the node saw in a pot; empty where it is of
// another kind. It holds an attacker's bytes: escape it.
func describeSeen(e event.Evidence) string {
	switch {
	case e.Execution != nil:
		return describeExecution(*e.Execution)
	case e.Ending != nil:
		return fmt.Sprintf("%s (pid %d): %s%s", string(e.Ending.Path), e.Ending.PID, describeExit(e.Ending.Exit), describeLasted(e.Ending.Lasted))
	case e.Connection != nil:
		return describeConnection(*e.Connection)
	case e.Write != nil:
		return describeWrite(*e.Write)
	case e.Missed != nil:
		return fmt.Sprintf("%d programs, %d connections, %d writes, %d calls out: %s", e.Missed.Executions, e.Missed.Connections, e.Missed.Writes, e.Missed.Calls, e.Reason)
	case e.Change != nil:
		return describeDifference(*e.Change)
	case e.Archive != nil:
		return describeArchive(*e.Archive)
	}
	return ""
}

func describeExecution(x event.Execution) string {
	args := make([]string, len(x.Args))
	for i, a := range x.Args {
		if args[i] = string(a); a == "" || strings.ContainsAny(args[i], " \t\n'\"") {
			args[i] = strconv.Quote(args[i])
		}
	}
	out := strings.Join(args, " ")
	if out == "" {
		out = string(x.Path)
	}
	if x.Truncated {
		out += " …"
	}
	what := []string{string(x.Path), fmt.Sprintf("pid %d", x.PID), fmt.Sprintf("uid %d", x.UID)}
	if x.Unnamed {
		what = append(what, "deleted, or only in memory")
	}
	if x.Exit != nil {
		what = append(what, describeExit(x.Exit)+describeLasted(x.Lasted))
	}
	return out + " (" + strings.Join(what, ", ") + ")" + describeContent(x.File)
}

func describeExit(x *event.Exit) string {
	switch {
	case x == nil:
		return "ended"
	case x.Signal != "":
		return "signal " + x.Signal
	}
	return "status " + strconv.Itoa(x.Status)
}

func describeLasted(d time.Duration) string {
	if d <= 0 {
		return ""
	}
	return " after " + d.Round(min(time.Millisecond, max(time.Microsecond, d/100))).String()
}

func describeContent(c *event.Content) string {
	switch {
	case c == nil:
		return ""
	case c.SHA256 == "" && c.Truncated:
		return fmt.Sprintf(", %s, not kept", bytes(c.Size))
	case c.SHA256 == "":
		return ", empty"
	}
	out := fmt.Sprintf(", %s, sha256 %s…", bytes(c.Size), c.SHA256[:min(12, len(c.SHA256))])
	if c.Truncated {
		out += ", cut short"
	}
	return out
}

func describeConnection(c event.Connection) string {
	if c.What == "listen" {
		return fmt.Sprintf("listens on port %d (pid %d, uid %d)", c.Address.Port(), c.PID, c.UID)
	}
	return fmt.Sprintf("to %s (pid %d, uid %d)", c.Address, c.PID, c.UID)
}

func describeWrite(w event.Write) string {
	out := string(w.Path)
	if w.Times > 1 {
		out += fmt.Sprintf(", %d times", w.Times)
	}
	if w.Gone {
		out += ", deleted since"
	}
	return out + describeContent(w.File)
}

func describeDifference(c event.Difference) string {
	out := c.What + " " + string(c.Path)
	if c.Target != "" {
		out += " → " + string(c.Target)
	}
	if c.Type != "" {
		out += fmt.Sprintf(" (%s, %04o, %d:%d)", c.Type, c.Mode, c.UID, c.GID)
	}
	return out + describeContent(c.File)
}

func describeArchive(a event.Archive) string {
	out := fmt.Sprintf("%s, content of %s kept (%s)", plural(a.Changes, "change"), plural(a.Files, "file"), bytes(a.Bytes))
	if a.SHA256 != "" {
		out += fmt.Sprintf(", list sha256 %s…", a.SHA256[:min(12, len(a.SHA256))])
	}
	if a.Truncated != "" {
		out += ", cut short: " + a.Truncated
	}
	return out
}
