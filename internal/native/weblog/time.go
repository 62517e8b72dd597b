package weblog

import "time"

// AccessTime reads an access log's 22/Nov/2026:18:00:00 +0000.
func AccessTime(stamp []byte) (time.Time, bool) {
	return parse("02/Jan/2006:15:04:05 -0700", stamp, time.UTC)
}

// NginxTime reads an nginx error log's 2026/11/22 18:00:00, which is the host's local time.
func NginxTime(stamp []byte, local *time.Location) (time.Time, bool) {
	return parse("2006/01/02 15:04:05", stamp, local)
}

// ApacheTime reads an Apache error log's Sun Nov 22 18:00:00.123456 2026, with or without decimals, which is the host's
// local time.
func ApacheTime(stamp []byte, local *time.Location) (time.Time, bool) {
	return parse("Mon Jan _2 15:04:05 2006", stamp, local)
}

func parse(layout string, stamp []byte, local *time.Location) (time.Time, bool) {
	t, err := time.ParseInLocation(layout, string(stamp), local)
	if err != nil {
		return time.Time{}, false
	}
	return t.UTC(), true
}
