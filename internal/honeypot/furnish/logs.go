package furnish

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	admGroup  = 4   // on Debian
	logindPID = 373 // where services are counted from 368 on, by images/ssh/machine.list
)

// entry is a line of a log.
type entry struct {
	at   time.Time
	from string // program and process
	text string
}

// logs writes what /var/log says of the last days. The files are there already where the pot has waited for its attacker;
// what they say of that time names another machine.
func (p *Pot) logs(x Past, visits []visit, random *rand.Rand) error {
	host, err := p.read("/etc/hostname")
	if err != nil {
		return err
	}
	name := strings.TrimSpace(string(host))
	iso := true
	if conf, err := p.read("/etc/rsyslog.conf"); err == nil {
		iso = !strings.Contains("\n"+string(conf), "\n$ActionFileDefaultTemplate RSYSLOG_TraditionalFileFormat")
	}
	var errs []error
	for file, entries := range map[string][]entry{
		"auth.log": auth(x, visits, random), "syslog": syslog(x, random), "kern.log": kernel(x), "cron.log": nil, "user.log": nil,
	} {
		entries = slices.DeleteFunc(entries, func(e entry) bool { return e.at.Before(x.Booted) || e.at.After(x.Now) })
		slices.SortStableFunc(entries, func(a, b entry) int { return a.at.Compare(b.at) })
		var text strings.Builder
		for _, e := range entries {
			at := e.at.In(x.Zone)
			stamp := at.Format(time.Stamp)
			if iso {
				stamp = at.Format("2006-01-02T15:04:05.000000-07:00")
			}
			fmt.Fprintf(&text, "%s %s %s: %s\n", stamp, name, e.from, e.text)
		}
		if len(entries) == 0 { // also those that not all systems have; nothing in them would be missed
			if _, err := p.read("/var/log/" + file); err != nil {
				continue
			}
		}
		errs = append(errs, p.Write("/var/log/"+file, []byte(text.String()), 0o640, 0, admGroup))
	}
	return errors.Join(errs...)
}

// auth is what was said of logins and of jobs' sessions.
func auth(x Past, visits []visit, random *rand.Rand) []entry {
	var out []entry
	keys := map[string]string{}
	for i, v := range visits {
		if v.start.Before(x.Now.AddDate(0, 0, -logDays)) {
			continue
		}
		n := v.account.name
		if keys[n] == "" {
			sum := make([]byte, 32)
			for j := range sum {
				sum[j] = byte(random.Uint32())
			}
			keys[n] = base64.RawStdEncoding.EncodeToString(sum)
		}
		daemon, session, who := process("sshd", v.pid), i+2, fmt.Sprintf("%s port %d", v.from, v.port)
		logind := process("systemd-logind", logindPID)
		out = append(out,
			entry{v.start, daemon, fmt.Sprintf("Accepted publickey for %s from %s ssh2: ED25519 SHA256:%s", n, who, keys[n])},
			entry{v.start.Add(4 * time.Millisecond), daemon, fmt.Sprintf("pam_unix(sshd:session): session opened for user %s(uid=%d) by (uid=0)", n, v.account.uid)},
			entry{v.start.Add(13 * time.Millisecond), logind, fmt.Sprintf("New session %d of user %s.", session, n)},
			entry{v.end, process("sshd", v.pid+7), fmt.Sprintf("Received disconnect from %s:11: disconnected by user", who)},
			entry{v.end.Add(time.Millisecond), process("sshd", v.pid+7), fmt.Sprintf("Disconnected from user %s %s", n, who)},
			entry{v.end.Add(2 * time.Millisecond), daemon, "pam_unix(sshd:session): session closed for user " + n},
			entry{v.end.Add(9 * time.Millisecond), logind, fmt.Sprintf("Session %d logged out. Waiting for processes to exit.", session)},
			entry{v.end.Add(11 * time.Millisecond), logind, fmt.Sprintf("Removed session %d.", session)},
		)
	}
	for at, pid := range hours(x) {
		cron := process("CRON", pid)
		out = append(out,
			entry{at, cron, "pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)"},
			entry{at.Add(8 * time.Millisecond), cron, "pam_unix(cron:session): session closed for user root"})
	}
	return out
}

// syslog is what jobs and services said.
func syslog(x Past, random *rand.Rand) []entry {
	var out []entry
	for at, pid := range hours(x) {
		out = append(out, entry{at.Add(3 * time.Millisecond), process("CRON", pid+1), "(root) CMD (   cd / && run-parts --report /etc/cron.hourly)"})
		if at.In(x.Zone).Hour() == 0 {
			out = append(out,
				entry{at.Add(-17 * time.Minute), "systemd[1]", "Starting logrotate.service - Rotate log files..."},
				entry{at.Add(-17*time.Minute + 91*time.Millisecond), "systemd[1]", "logrotate.service: Deactivated successfully."},
				entry{at.Add(-17*time.Minute + 92*time.Millisecond), "systemd[1]", "Finished logrotate.service - Rotate log files."})
		}
		if at.In(x.Zone).Hour() == 6 {
			start := at.Add(time.Duration(random.IntN(40)) * time.Minute)
			out = append(out,
				entry{start, "systemd[1]", "Starting apt-daily-upgrade.service - Daily apt upgrade and clean activities..."},
				entry{start.Add(2 * time.Second), "systemd[1]", "Finished apt-daily-upgrade.service - Daily apt upgrade and clean activities."})
		}
	}
	return out
}

// kernel is what the kernel said when the machine was started.
func kernel(x Past) []entry {
	return []entry{
		{x.Booted.Add(2 * time.Second), "kernel", "[    0.000000] Command line: BOOT_IMAGE=/boot/vmlinuz-" + x.Release + " root=/dev/vda1 ro quiet"},
		{x.Booted.Add(2 * time.Second), "kernel", "[    1.412087] EXT4-fs (vda1): mounted filesystem with ordered data mode. Quota mode: none."},
		{x.Booted.Add(2 * time.Second), "kernel", "[    1.803412] systemd[1]: Inserted module 'autofs4'"},
	}
}

// hours are the times of the hourly job, each with a process's number.
func hours(x Past) func(func(time.Time, int) bool) {
	return func(yield func(time.Time, int) bool) {
		first := x.Now.AddDate(0, 0, -logDays)
		if x.Booted.After(first) {
			first = x.Booted
		}
		pid := 700
		for at := first.Truncate(time.Hour).Add(17*time.Minute + time.Second); at.Before(x.Now); at = at.Add(time.Hour) {
			pid += 41 + int(at.Unix()/3600)%19
			if at.After(first) && !yield(at, pid) {
				return
			}
		}
	}
}

func process(name string, pid int) string { return name + "[" + strconv.Itoa(pid) + "]" }

// jobs gives root and one of the people a crontab each, of things that really run.
func (p *Pot) jobs(people []resident, random *rand.Rand) error {
	const crontabGroup = "crontab"
	groups, err := p.read("/etc/group")
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(field(lineOf(groups, crontabGroup), 2))
	if err != nil {
		return nil //nolint:nilerr // a machine without cron
	}
	const head = "# m h  dom mon dow   command\n"
	backup := "#!/bin/sh\n# keep a week of what matters\nset -e\nmkdir -p /var/backups/etc\ntar czf /var/backups/etc/etc-$(date +%u).tar.gz -C / etc 2>/dev/null\n"
	errs := []error{
		p.Write("/usr/local/sbin/backup-etc", []byte(backup), 0o755, 0, 0),
		p.Write("/var/spool/cron/crontabs/root", fmt.Appendf(nil, "%s%d %d * * * /usr/local/sbin/backup-etc\n", head, random.IntN(60), 1+random.IntN(4)), 0o600, 0, gid),
	}
	for _, a := range people {
		if a.uid == 0 || !strings.HasPrefix(a.home, "/home/") {
			continue
		}
		line := fmt.Sprintf("%s%d %d * * * find %s/tmp -mtime +14 -delete 2>/dev/null\n", head, random.IntN(60), random.IntN(6), a.home)
		errs = append(errs, p.Write("/var/spool/cron/crontabs/"+a.name, []byte(line), 0o600, a.uid, gid))
		break
	}
	return errors.Join(errs...)
}

// histories writes what people typed, and root's mail.
func (p *Pot) histories(x Past, people []resident, random *rand.Rand) error {
	typed := []string{
		"ls -la", "df -h", "free -m", "uptime", "cd /var/log", "tail -n 50 syslog", "less auth.log", "top", "ps aux | grep ssh", "cd",
		"vi .bashrc", "ip a", "ping -c 3 192.168.1.1", "du -sh /var/*", "date", "last | head", "crontab -l", "history | grep tar", "exit", "ss -tlnp",
	}
	var errs []error
	for _, a := range people {
		if a.uid == 0 || path.Dir(a.home) != "/home" {
			continue
		}
		if _, err := p.read(a.home + "/.bash_history"); err == nil {
			continue // the image's own
		}
		lines := []string{"ls -la"}
		for range 20 + random.IntN(40) {
			lines = append(lines, typed[random.IntN(len(typed))])
		}
		errs = append(errs, p.Write(a.home+"/.bash_history", []byte(strings.Join(lines, "\n")+"\n"), 0o600, a.uid, a.gid))
	}
	name, err := p.read("/etc/hostname")
	if err != nil {
		return err
	}
	host := cmp.Or(strings.TrimSpace(string(name)), "localhost")
	at := x.Now.In(x.Zone).AddDate(0, 0, -8)
	mail := fmt.Sprintf("From root@%[1]s %[2]s\nFrom: root@%[1]s (Cron Daemon)\nTo: root@%[1]s\nSubject: Cron <root@%[1]s> /usr/local/sbin/backup-etc\nDate: %[3]s\n\ntar: etc/mtab: file changed as we read it\n\n",
		host, at.Format(time.ANSIC), at.Format(time.RFC1123Z))
	return errors.Join(append(errs, p.Write("/var/mail/root", []byte(mail), 0o600, 0, 8))...)
}
