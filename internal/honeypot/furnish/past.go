package furnish

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Past is what went before: when the machine was started, and who was there.
type Past struct {
	Seed    []byte // decides on what is not known; the same for the same machine, and secret
	Now     time.Time
	Booted  time.Time
	Zone    *time.Location
	Release string // of its kernel
}

const (
	pastDays  = 19 // of which people's logins are remembered
	logDays   = 6  // of which logs tell
	firstHour = 8  // of people's working day
	lastHour  = 18
)

// visit is a login of one of the machine's people.
type visit struct {
	account    resident
	from       netip.Addr
	port       int
	pid        int
	start, end time.Time
}

// resident is who logs in.
type resident struct {
	name, home string
	uid, gid   int
}

// Remember gives a pot that nobody has been in yet a past: logins, logs, shell histories, jobs. Accounts are those
// that it has by now.
func (p *Pot) Remember(x Past) error {
	passwd, err := p.read("/etc/passwd")
	if err != nil {
		return err
	}
	people := peopleOf(string(passwd))
	random := rand.New(rand.NewChaCha8(sha256.Sum256(x.Seed))) //nolint:gosec // the seed is a secret
	visits := visitsOf(x, people, random)
	errs := []error{p.remember(x, visits), p.logs(x, visits, random), p.jobs(people, random), p.histories(x, people, random)}
	id := fmt.Sprintf("%x\n", sha256.Sum256(append([]byte("machine-id "), x.Seed...)))[:32] + "\n"
	for _, file := range []string{"/etc/machine-id", "/var/lib/dbus/machine-id"} {
		errs = append(errs, p.Write(file, []byte(id), 0o444, 0, 0))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("give the pot a past: %w", err)
	}
	return nil
}

// peopleOf are those who log in: root alone where there are no others.
func peopleOf(passwd string) []resident {
	var out []resident
	for line := range strings.Lines(passwd) {
		uid, err := strconv.ParseUint(field(line, 2), 10, 32)
		gid, errGroup := strconv.ParseUint(field(line, 3), 10, 32)
		shell := strings.TrimSpace(field(line, 6))
		if err != nil || errGroup != nil || !strings.HasSuffix(shell, "sh") || uid != 0 && !person(uint32(uid)) {
			continue
		}
		out = append(out, resident{name: field(line, 0), home: field(line, 5), uid: int(uid), gid: int(gid)})
	}
	slices.SortStableFunc(out, func(a, b resident) int { return cmp.Compare(b.uid, a.uid) })
	if len(out) > 1 { // people log in by their own names
		out = slices.DeleteFunc(out, func(a resident) bool { return a.uid == 0 })
	}
	return out
}

func visitsOf(x Past, people []resident, random *rand.Rand) []visit {
	if len(people) == 0 {
		return nil
	}
	// Each comes from an address of its own, behind something private: nobody outside is named.
	froms := make([]netip.Addr, len(people))
	a, b := byte(random.IntN(200)+10), byte(random.IntN(250)+1)
	for i := range froms {
		froms[i] = netip.AddrFrom4([4]byte{10, a, b, byte(random.IntN(200) + 20)})
	}
	var out []visit
	pid := 900 + random.IntN(2000)
	for day := pastDays; day >= 1; day-- {
		at := x.Now.In(x.Zone).AddDate(0, 0, -day)
		times := random.IntN(3)
		if day == 1 || day == 3 || day == pastDays { // somebody has been here lately
			times = 1
		} else if at.Weekday() == time.Saturday || at.Weekday() == time.Sunday {
			times = 0
		}
		begin := time.Date(at.Year(), at.Month(), at.Day(), firstHour, random.IntN(60), random.IntN(60), random.IntN(1e9), x.Zone)
		for range times {
			i := random.IntN(len(people))
			start := begin.Add(time.Duration(random.IntN(200)) * time.Minute)
			v := visit{account: people[i], from: froms[i], port: 49152 + random.IntN(16000), pid: pid, start: start}
			v.end = start.Add(time.Duration(180+random.IntN(4000)) * time.Second)
			begin = v.end.Add(time.Hour)
			pid = (pid + 100 + random.IntN(900)) % 32000
			if v.start.After(x.Booted) && begin.Hour() <= lastHour {
				out = append(out, v)
			}
		}
	}
	if len(out) == 0 { // it was started a short while ago
		v := visit{account: people[0], from: froms[0], port: 49152 + random.IntN(16000), pid: pid}
		span := x.Now.Sub(x.Booted)
		v.start, v.end = x.Booted.Add(span/4), x.Booted.Add(span/2)
		out = append(out, v)
	}
	return out
}
