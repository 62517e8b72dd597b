package parse

import "time"

// maxAhead is how far after the reference a time without a year may lie before it is taken for the
// year before: enough for a clock that is wrong and for any zone.
const maxAhead = 48 * time.Hour

// isoTime reads a leading RFC 3339 time with T or t, any number of decimals, and Z or ±hh[:]mm.
func isoTime(b []byte) (t time.Time, rest []byte, ok bool) {
	if len(b) < len("2026-11-22T18:00:00Z") || b[4] != '-' || b[7] != '-' || b[10]|0x20 != 't' || b[13] != ':' || b[16] != ':' {
		return t, nil, false
	}
	year, ok0 := number(b[0:4])
	month, ok1 := number(b[5:7])
	day, ok2 := number(b[8:10])
	hour, ok3 := number(b[11:13])
	minute, ok4 := number(b[14:16])
	second, ok5 := number(b[17:19])
	if !ok0 || !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || !validDate(year, month, day) || !validClock(hour, minute, second) {
		return t, nil, false
	}
	nanos, b := fraction(b[19:])
	offset, b, ok := zone(b)
	if !ok {
		return t, nil, false
	}
	t = time.Date(year, time.Month(month), day, hour, minute, second, nanos, time.UTC)
	return t.Add(-offset), b, true
}

// zone reads Z or ±hh[:]mm.
func zone(b []byte) (offset time.Duration, rest []byte, ok bool) {
	if len(b) == 0 {
		return 0, nil, false
	}
	if b[0]|0x20 == 'z' {
		return 0, b[1:], true
	}
	sign := time.Duration(1)
	switch b[0] {
	case '+':
	case '-':
		sign = -1
	default:
		return 0, nil, false
	}
	b = b[1:]
	if len(b) < 4 {
		return 0, nil, false
	}
	hours, ok1 := number(b[:2])
	b = b[2:]
	if b[0] == ':' {
		b = b[1:]
	}
	if len(b) < 2 {
		return 0, nil, false
	}
	minutes, ok2 := number(b[:2])
	if !ok1 || !ok2 || hours > 23 || minutes > 59 {
		return 0, nil, false
	}
	return sign * (time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute), b[2:], true
}

// bsdTime reads a leading "Nov  2 18:00:00" (decimals allowed) of RFC 3164, section 4.1.2.
func bsdTime(b []byte, ref time.Time) (t time.Time, rest []byte, ok bool) {
	if len(b) < len("Nov 22 18:00:00") || b[3] != ' ' || b[6] != ' ' || b[9] != ':' || b[12] != ':' {
		return t, nil, false
	}
	month := monthNumber(b[:3])
	dayText := b[4:6]
	if dayText[0] == ' ' {
		dayText = dayText[1:]
	}
	day, ok1 := number(dayText)
	hour, ok2 := number(b[7:9])
	minute, ok3 := number(b[10:12])
	second, ok4 := number(b[13:15])
	if month == 0 || !ok1 || !ok2 || !ok3 || !ok4 || !validClock(hour, minute, second) {
		return t, nil, false
	}
	nanos, rest := fraction(b[15:])
	latest := ref.Add(maxAhead)
	// 29 February may lie up to eight years back (1896 to 1904).
	for year := latest.Year(); year >= latest.Year()-8; year-- {
		if !validDate(year, month, day) {
			continue
		}
		t = time.Date(year, time.Month(month), day, hour, minute, second, 0, ref.Location())
		if !t.After(latest) {
			return t.Add(time.Duration(nanos)).UTC(), rest, true
		}
	}
	return time.Time{}, nil, false
}

func monthNumber(b []byte) int {
	switch string(b) {
	case "Jan":
		return 1
	case "Feb":
		return 2
	case "Mar":
		return 3
	case "Apr":
		return 4
	case "May":
		return 5
	case "Jun":
		return 6
	case "Jul":
		return 7
	case "Aug":
		return 8
	case "Sep":
		return 9
	case "Oct":
		return 10
	case "Nov":
		return 11
	case "Dec":
		return 12
	}
	return 0
}

// fraction reads leading decimals (".123", ",123") into nanoseconds.
func fraction(b []byte) (nanos int, rest []byte) {
	if len(b) < 2 || b[0] != '.' && b[0] != ',' || b[1] < '0' || b[1] > '9' {
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

// number reads a whole field of up to four decimal digits.
func number(b []byte) (int, bool) {
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, len(b) > 0
}

func validClock(hour, minute, second int) bool {
	return hour < 24 && minute < 60 && second <= 60 // 60: leap second
}

func validDate(year, month, day int) bool {
	if month < 1 || month > 12 || day < 1 {
		return false
	}
	switch month {
	case 4, 6, 9, 11:
		return day <= 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return day <= 29
		}
		return day <= 28
	}
	return day <= 31
}

// fullTime reads a leading "Sun 2026-11-22 18:00:00 CET" as journalctl -o short-full writes it. An abbreviation names no
// zone for sure; journalctl uses its machine's, so all but UTC is ref's.
func fullTime(b []byte, ref time.Time) (t time.Time, rest []byte, ok bool) {
	const start = len("Sun ")
	const end = start + len("2026-11-22 18:00:00")
	if len(b) <= end || b[start+4] != '-' || b[start+7] != '-' || b[start+10] != ' ' || b[start+13] != ':' || b[start+16] != ':' {
		return t, nil, false
	}
	year, ok0 := number(b[start : start+4])
	month, ok1 := number(b[start+5 : start+7])
	day, ok2 := number(b[start+8 : start+10])
	hour, ok3 := number(b[start+11 : start+13])
	minute, ok4 := number(b[start+14 : start+16])
	second, ok5 := number(b[start+17 : end])
	if !ok0 || !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || !validDate(year, month, day) || !validClock(hour, minute, second) {
		return t, nil, false
	}
	nanos, b := fraction(b[end:])
	if len(b) == 0 || b[0] != ' ' {
		return t, nil, false
	}
	zone, _ := word(b[1:])
	if len(zone) == 0 {
		return t, nil, false
	}
	loc := ref.Location()
	if string(zone) == "UTC" || string(zone) == "GMT" {
		loc = time.UTC
	}
	return time.Date(year, time.Month(month), day, hour, minute, second, nanos, loc).UTC(), b[1+len(zone):], true
}

// unixTime reads a leading "1763834400.123456" as journalctl -o short-unix writes it: ten digits of seconds, decimals.
func unixTime(b []byte) (t time.Time, rest []byte, ok bool) {
	const digits = 10 // from 2001 to 2286
	if len(b) <= digits || b[digits] != '.' {
		return t, nil, false
	}
	seconds := int64(0)
	for _, c := range b[:digits] {
		if c < '0' || c > '9' {
			return t, nil, false
		}
		seconds = 10*seconds + int64(c-'0')
	}
	nanos, rest := fraction(b[digits:])
	if seconds < 1e9 || rest[0] == '.' {
		return t, nil, false
	}
	return time.Unix(seconds, int64(nanos)).UTC(), rest, true
}

// monotonicTime skips a leading "[   12.345678]" as journalctl -o short-monotonic writes it: the time since the boot.
func monotonicTime(b []byte) (rest []byte, ok bool) {
	b = trimLeft(b[1:])
	n, dots := 0, 0
	for n < len(b) && (b[n] >= '0' && b[n] <= '9' || b[n] == '.') {
		if b[n] == '.' {
			dots++
		}
		n++
	}
	if n == 0 || dots != 1 || n == len(b) || b[n] != ']' {
		return nil, false
	}
	return b[n+1:], true
}
