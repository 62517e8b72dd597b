package cowrie

import (
	"strings"

	"github.com/kokkuri/kokkuri/internal/event"
)

// seen tells what programs did in a pot. Cowrie has no events for it, so these are named kokkuri., which consumers of
// Cowrie's pass over; cowrie.command.input is what was typed or asked for only.
func (r Renderer) seen(s event.Session, v event.Evidence) []Event {
	e := r.base(s, "", v.At)
	e["eventid"] = "kokkuri." + string(v.Kind)
	switch {
	case v.Execution != nil:
		x := v.Execution
		args := make([]string, len(x.Args))
		for i, a := range x.Args {
			args[i] = a.Escaped()
		}
		e["pid"], e["ppid"], e["uid"], e["path"], e["args"], e["cwd"] = x.PID, x.Parent, x.UID, x.Path.Escaped(), args, x.Dir.Escaped()
		if x.Script != "" {
			e["script"] = x.Script.Escaped()
		}
		ended(e, x.Exit, x.Lasted.Milliseconds())
		contained(e, x.File)
		e["message"] = "Executed: " + strings.Join(args, " ")
	case v.Ending != nil:
		e["pid"], e["path"] = v.Ending.PID, v.Ending.Path.Escaped()
		ended(e, v.Ending.Exit, v.Ending.Lasted.Milliseconds())
		e["message"] = "Ended: " + v.Ending.Path.Escaped()
	case v.Connection != nil:
		c := v.Connection
		e["what"], e["pid"], e["uid"], e["port"] = c.What, c.PID, c.UID, c.Address.Port()
		if c.What != "listen" {
			e["address"] = c.Address.Addr().String()
		}
		e["message"] = "Pot: " + c.What + " " + c.Address.String()
	case v.Write != nil:
		e["pid"], e["path"] = v.Write.PID, v.Write.Path.Escaped()
		contained(e, v.Write.File)
		e["message"] = "Written: " + v.Write.Path.Escaped()
	case v.Change != nil:
		e["change"], e["path"], e["mode"] = v.Change.What, v.Change.Path.Escaped(), v.Change.Mode
		contained(e, v.Change.File)
		e["message"] = "In the pot: " + v.Change.What + " " + v.Change.Path.Escaped()
	case v.Archive != nil:
		e["changes"], e["files"], e["shasum"] = v.Archive.Changes, v.Archive.Files, v.Archive.SHA256
		e["message"] = "What was changed in the pot"
	default:
		return nil
	}
	return []Event{e}
}

func ended(e Event, exit *event.Exit, lasted int64) {
	switch {
	case exit == nil:
		return
	case exit.Signal != "":
		e["signal"] = exit.Signal
	default:
		e["status"] = exit.Status
	}
	e["duration_ms"] = lasted
}

func contained(e Event, c *event.Content) {
	if c != nil && c.SHA256 != "" {
		e["shasum"], e["size"] = c.SHA256, c.Size
	}
}
