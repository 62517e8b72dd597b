package native

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// What the records of Redis's ACL LOG are known by: no line of its log is one, so there is no [Format].
const (
	RedisACLApp    = "redis-server"  // APP-NAME
	RedisACLFormat = "redis-acl-log" // of ParamFormat; records without it are none of ACL LOG
	ParamObject    = "object"        // what was denied: a command, a key, a channel; AUTH or HELLO for a login
)

// maxACLText bounds what is kept of a name that a client gave: Redis takes any, of any length.
const maxACLText = 512

// ACLEntry is an entry of Redis's ACL LOG (Redis 6 and later, Valkey), the only place where Redis says that a login failed.
// Redis folds what happens again within a minute into one entry where reason, context, object and user name
// are the same, whoever the client was, and keeps only the last client's ClientInfo.
type ACLEntry struct {
	Count    uint64 // how many times until now
	Reason   string // auth, command, key, channel
	Context  string // toplevel, multi, lua …
	Object   string
	Username string
	Age      time.Duration // since the last time
	// ClientInfo describes the last client, as CLIENT LIST does.
	ClientInfo string
	// ID, Created and Updated are those of Redis 7.2 and later; HasID says whether they are there.
	ID               uint64
	HasID            bool
	Created, Updated time.Time
}

// Set takes a field of the server's reply: names and values alternate in it; integers are given in decimal. Names that
// are not known are of a later version, and are passed over.
func (e *ACLEntry) Set(name, value string) error {
	var err error
	switch name {
	case "count":
		e.Count, err = strconv.ParseUint(value, 10, 64)
	case "reason":
		e.Reason = value
	case "context":
		e.Context = value
	case "object":
		e.Object = bounded(value)
	case "username":
		e.Username = bounded(value)
	case "age-seconds":
		var seconds float64
		seconds, err = strconv.ParseFloat(value, 64)
		if seconds > 0 && seconds < (365*24*time.Hour).Seconds() {
			e.Age = time.Duration(seconds * float64(time.Second))
		}
	case "client-info":
		e.ClientInfo = value
	case "entry-id":
		e.ID, err = strconv.ParseUint(value, 10, 64)
		e.HasID = err == nil
	case "timestamp-created":
		e.Created, err = millis(value)
	case "timestamp-last-updated":
		e.Updated, err = millis(value)
	}
	if err != nil {
		return fmt.Errorf("entry of Redis's ACL LOG: %s %q: %w", name, bounded(value), err)
	}
	return nil
}

func bounded(s string) string { return strings.Clone(s[:min(len(s), maxACLText)]) }

func millis(s string) (time.Time, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("milliseconds: %w", err)
	}
	return time.UnixMilli(n).UTC(), nil
}

// Last is when it happened the last time. Where the entry has no time of its own, now is when it was read.
func (e ACLEntry) Last(now time.Time) time.Time {
	if !e.Updated.IsZero() {
		return e.Updated
	}
	return now.Add(-e.Age).UTC()
}

// Client is the address of the last client; ok is false where it came by a Unix socket. Only the place decides: Redis
// writes "id=N addr=A:P " first, and what clients choose (name=, lib-name=, user=) after it.
func (e ACLEntry) Client() (client netip.AddrPort, ok bool) {
	rest, ok := strings.CutPrefix(e.ClientInfo, "id=")
	if !ok {
		return netip.AddrPort{}, false
	}
	id, rest, ok := strings.Cut(rest, " addr=")
	if !ok || !decimal(id) {
		return netip.AddrPort{}, false
	}
	text, _, _ := strings.Cut(rest, " ")
	client, err := netip.ParseAddrPort(text)
	if err != nil {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(event.Canonical(client.Addr()), client.Port()), true
}

func decimal(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// Records states in records what an entry says that is new: news is by how much its count grew since it was read
// before, or its count where it was not. now is when it was read.
//
// Only one of the new times is surely the last client's, since Redis folds other clients into the same entry; the rest
// gets a record that names no source: else one wrong password of an application would be blamed for all the guesses of an
// attacker just before it. So whoever polls often sees more: at every poll one guess of a busy source is sure.
func (e ACLEntry) Records(news uint64, now time.Time) []Record {
	if news == 0 {
		return nil
	}
	client, known := e.Client()
	if !known || news == 1 {
		return []Record{e.record(client, known, news, now)}
	}
	return []Record{e.record(netip.AddrPort{}, false, news-1, now), e.record(client, true, 1, now)}
}

func (e ACLEntry) record(client netip.AddrPort, known bool, count uint64, now time.Time) Record {
	r := Record{Time: e.Last(now)}
	from := "an unsure source"
	if known {
		from = client.String()
		r.Params = append(r.Params, Param{ParamSource, client.Addr().String()},
			Param{ParamSourcePort, strconv.Itoa(int(client.Port()))})
	}
	r.Params = append(r.Params, Param{ParamFormat, RedisACLFormat}, Param{ParamReason, e.Reason},
		Param{ParamCount, strconv.FormatUint(count, 10)}, Param{ParamAccount, e.Username}, Param{ParamObject, e.Object})
	r.Text = fmt.Appendf(nil, "ACL LOG: %s denied from %s, count %d, user %+q, object %+q, context %s",
		e.Reason, from, count, e.Username, e.Object, e.Context)
	return r
}
