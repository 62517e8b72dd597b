package collect

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/gomodule/redigo/redis"

	"github.com/kokkuri/kokkuri/internal/native"
)

// read asks for at most so many entries.
func (r *redisLog) read(conn redis.Conn, most int) (aclLog, error) {
	var log aclLog
	for _, command := range [][]any{{"TIME"}, {"ACL", "LOG", most}, {"TIME"}} {
		if err := conn.Send(command[0].(string), command[1:]...); err != nil { //nolint:forcetypeassert // above
			return log, fmt.Errorf("ask: %w", err)
		}
	}
	if err := conn.Flush(); err != nil {
		return log, fmt.Errorf("ask: %w", err)
	}
	before, timeErr := serverTime(conn.Receive())
	if fatal(timeErr) {
		return log, timeErr
	}
	values, err := redis.Values(conn.Receive())
	after, _ := serverTime(conn.Receive())
	if err != nil {
		return log, fmt.Errorf("ACL LOG: %w", err)
	}
	log.at, log.complete = time.Now(), len(values) < most
	for _, v := range values {
		e, err := aclEntry(v)
		if err != nil {
			return log, err
		}
		log.entries = append(log.entries, e)
		log.hasID = e.HasID
	}
	if log.hasID {
		return log, nil
	}
	// Ages say when only together with the server's own clock.
	if timeErr != nil {
		return log, fmt.Errorf("TIME: %w", timeErr)
	}
	log.at, log.blur = before, after.Sub(before)+time.Millisecond
	return log, nil
}

func serverTime(reply any, err error) (time.Time, error) {
	parts, err := redis.Int64s(reply, err)
	if err != nil {
		return time.Time{}, err //nolint:wrapcheck // the caller says of what
	}
	if len(parts) != 2 {
		return time.Time{}, errRedisReply
	}
	return time.Unix(parts[0], parts[1]*1000), nil
}

var errRedisReply = errors.New("an answer of another form than Redis's documentation has")

// aclEntry reads an entry: names and values in turn.
func aclEntry(v any) (native.ACLEntry, error) {
	var e native.ACLEntry
	fields, err := redis.Values(v, nil)
	if err != nil || len(fields)%2 != 0 {
		return e, fmt.Errorf("ACL LOG: %w", errors.Join(err, errRedisReply))
	}
	for i := 0; i < len(fields); i += 2 {
		name, err := redis.String(fields[i], nil)
		if err != nil {
			return e, fmt.Errorf("ACL LOG: %w", err)
		}
		var value string
		switch f := fields[i+1].(type) {
		case int64:
			value = strconv.FormatInt(f, 10)
		case []byte:
			value = string(f)
		default:
			continue // of a later version
		}
		if err := e.Set(name, value); err != nil {
			return e, err
		}
	}
	return e, nil
}
