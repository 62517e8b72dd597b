package native

import (
	"bytes"
	"time"
)

// cutDateTime reads a leading "2026-11-22 18:00:00" with decimals or without, whose hour may be padded with a space, as the
// wall clock of loc.
func cutDateTime(b []byte, loc *time.Location) (t time.Time, rest []byte, ok bool) {
	if !isDateTime(b) {
		return t, b, false
	}
	nanos, rest := decimals(b[len(dateTime):])
	hour := digits(bytes.TrimLeft(b[11:13], " "))
	return time.Date(digits(b[:4]), time.Month(digits(b[5:7])), digits(b[8:10]), hour, digits(b[14:16]), digits(b[17:19]), nanos, loc), rest, true
}

const dateTime = "2026-11-22 18:00:00"

// isDateTime says whether b begins like [cutDateTime]'s.
func isDateTime(b []byte) bool {
	if len(b) < len(dateTime) || b[4] != '-' || b[7] != '-' || b[10] != ' ' || b[13] != ':' || b[16] != ':' {
		return false
	}
	first := b[11]
	if first == ' ' {
		first = '0'
	}
	hour, month, day := twoDigits(first, b[12]), twoDigits(b[5], b[6]), twoDigits(b[8], b[9])
	minute, second := twoDigits(b[14], b[15]), twoDigits(b[17], b[18])
	return twoDigits(b[0], b[1]) >= 0 && twoDigits(b[2], b[3]) >= 0 && month >= 1 && month <= 12 && day >= 1 && day <= 31 &&
		hour >= 0 && hour <= 23 && minute >= 0 && minute <= 59 && second >= 0 && second <= 60
}

// twoDigits is the number that they are; -1 where they are no digits.
func twoDigits(a, b byte) int {
	if a -= '0'; a > 9 {
		return -1
	}
	if b -= '0'; b > 9 {
		return -1
	}
	return 10*int(a) + int(b)
}

func digits(b []byte) int {
	n := 0
	for _, c := range b {
		n = n*10 + int(c-'0')
	}
	return n
}

// decimals reads leading decimals (".123") into nanoseconds.
func decimals(b []byte) (nanos int, rest []byte) {
	if len(b) < 2 || b[0] != '.' || b[1] < '0' || b[1] > '9' {
		return 0, b
	}
	scale := int(time.Second)
	i := 1
	for ; i < len(b) && b[i] >= '0' && b[i] <= '9'; i++ {
		scale /= 10
		nanos += int(b[i]-'0') * scale
	}
	return nanos, b[i:]
}

// inZone is a wall clock, read as UTC, in the zone that a log names: a number, an abbreviation of ref's own zone, or one of
// those that only one zone has. Any other is taken for ref's zone, where the log comes from.
func inZone(wall time.Time, zone string, ref time.Time) time.Time {
	if zone == "UTC" || zone == "GMT" || zone == "Z" {
		return wall
	}
	for _, form := range []string{"-07", "-07:00", "-0700", "-07:00:00"} {
		if at, err := time.Parse(form, zone); err == nil {
			_, offset := at.Zone()
			return wall.Add(-time.Duration(offset) * time.Second)
		}
	}
	local := time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), wall.Second(), wall.Nanosecond(), ref.Location())
	if name, _ := local.Zone(); name == zone {
		return local.UTC()
	}
	if hours, ok := abbreviation(zone); ok {
		return wall.Add(-time.Duration(hours) * time.Hour)
	}
	return local.UTC()
}

// abbreviation is how many hours a zone is ahead of UTC.
func abbreviation(zone string) (hours int, ok bool) {
	switch zone {
	case "WET":
		return 0, true
	case "CET", "WEST":
		return 1, true
	case "CEST", "EET", "SAST":
		return 2, true
	case "EEST", "MSK":
		return 3, true
	case "HKT":
		return 8, true
	case "JST", "KST":
		return 9, true
	case "AEST":
		return 10, true
	case "AEDT":
		return 11, true
	case "NZST":
		return 12, true
	case "NZDT":
		return 13, true
	case "EDT":
		return -4, true
	case "EST", "CDT":
		return -5, true
	case "MDT":
		return -6, true
	case "PDT":
		return -7, true
	case "PST":
		return -8, true
	}
	return 0, false
}
