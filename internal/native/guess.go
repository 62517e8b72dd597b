package native

import (
	"bytes"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Guess finds the format of a service's log by one of its lines; ok is false where the line tells none.
func Guess(service event.Service, line []byte) (f Format, ok bool) {
	name := ""
	switch service { //nolint:exhaustive // the other services' lines are guessed by their own readers
	case event.MySQL:
		name = guessMySQL(line)
	case event.Postgres:
		name = guessPostgres(line)
	}
	return Find(name)
}

func guessMySQL(line []byte) string {
	if len(line) > 0 && line[0] == '{' {
		if (&mysqlJSON{}).Line(line, time.Time{}) != nil {
			return MySQLJSON
		}
		return ""
	}
	if _, rest, ok := mysqlTime(line, time.Unix(0, 0)); ok {
		if _, after, _ := bytes.Cut(rest, []byte(" ")); bytes.HasPrefix(rest, []byte("[")) || bytes.HasPrefix(after, []byte("[")) {
			return MySQLError
		}
	}
	return ""
}

func guessPostgres(line []byte) string {
	if len(line) > 0 && line[0] == '{' {
		if (&postgresJSON{}).Line(line, time.Unix(0, 0)) != nil {
			return PostgresJSON
		}
		return ""
	}
	_, rest, ok := postgresTime(line, time.Unix(0, 0))
	switch {
	case !ok:
		return ""
	case len(rest) > 0 && rest[0] == ',' && bytes.Count(rest, []byte(",")) >= csvMessage-2:
		return PostgresCSV
	case PostgresSeverity(rest) >= 0:
		return PostgresStderr
	}
	return ""
}
