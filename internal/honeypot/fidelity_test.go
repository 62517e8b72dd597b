package honeypot_test

import (
	"fmt"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
)

// tells is what no look at a pot may show: what it is made of, and whose it is.
var tells = regexp.MustCompile(`(?i)docker|kokkuri|honeypot|containerd|\b(moby|lxc)\b|\b02:42(:[0-9a-f]{2}){4}|[0-9a-f]{64}|\bCA ED25519\b|mmdebstrap`)

// look is something that attackers look at, and what they may and may not see.
type look struct {
	command string
	has     []string // expressions
	not     []string // likewise
	only    bool     // not is all that it must not show
}

const container = `(?m)^overlay|overlay2`

func looks() []look {
	const timeOfDay = `\d\d:\d\d`
	return []look{
		{command: "ls -la /", has: []string{`(?m) root$|vmlinuz|boot`, `lost\+found|srv`}, not: []string{`dockerenv`}},
		{command: "cat /proc/1/cgroup", has: []string{`:/$`}},
		{command: "tr '\\0' '\\n' </proc/1/environ", not: []string{`container=`, `HOSTNAME=`}},
		{command: "cat /proc/1/comm; tr '\\0' ' ' </proc/1/cmdline; readlink /proc/1/exe", has: []string{`systemd\n/sbin/init`, `/lib/systemd/systemd$`}},
		{command: "env", has: []string{`(?m)^SSH_CLIENT=203\.0\.113\.66 `, `(?m)^SHELL=/bin/bash$`}, not: []string{`(?i)container`}},
		{command: "ls -a /run /run/systemd", not: []string{`(?m)^(container|\.containerenv)$`}},
		{command: "systemd-detect-virt --container", has: []string{`^none$`}},
		{command: "systemd-detect-virt", not: []string{`docker|container|podman|lxc`}},
		{command: "uname -a", has: []string{`^Linux www1 6\.1\.0-28-amd64 #1 SMP PREEMPT_DYNAMIC Debian`}},
		{command: "hostname; hostname -f; cat /etc/hostname", has: []string{`^www1\nwww1\.corp\.example\nwww1$`}},
		{command: "cat /etc/hosts /etc/resolv.conf", has: []string{`www1\.corp\.example www1`, `(?m)^nameserver `}},
		{command: "cat /etc/machine-id", has: []string{`^[0-9a-f]{32}$`}},
		{command: "cat /proc/sys/kernel/random/boot_id", has: []string{`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`}},
		{command: "id; whoami", has: []string{`^uid=0\(root\) gid=0\(root\) groups=0\(root\)\nroot$`}},
		{command: "who -b", has: []string{`system boot +.*` + timeOfDay}},
		{command: "last", has: []string{`(?m)^root +pts/0 +203\.0\.113\.66 .*still logged in$`, `(?m)^(anna|admin) +pts/0 +\d`, `(?m)^reboot +system boot +6\.1\.0-28-amd`, `wtmp begins`}},
		{command: "lastlog", has: []string{`(?m)^(anna|admin) +pts/0 +\d`, `(?m)^root +pts/0 +203\.0\.113\.66`, `Never logged in`}},
		{command: "w", has: []string{`load average`, `(?m)^root +pts/0 +203\.0\.113\.66 `}},
		{command: "who", has: []string{`(?m)^root +pts/0 .*\(203\.0\.113\.66\)`}},
		{command: "uptime", has: []string{` 1 user,`}},
		{command: "ss -tlnp | cat", has: []string{`0\.0\.0\.0:22 .*"sshd"`}},
		{command: "netstat -tnp", has: []string{`203\.0\.113\.66:\d+ +ESTABLISHED \d+/sshd`}},
		{command: "ip a", has: []string{`(?m)^\d+: (eth0|ens\d+|enp\w+)`, `(?i)link/ether`}},
		{command: "ip r", has: []string{`^default via `}},
		{command: "ip neigh; cat /proc/net/arp", has: []string{`IP address`}},
		{command: "ps axf", has: []string{`(?m)^ +1 \?.* /sbin/init`, `/usr/sbin/cron -f`, `rsyslogd -n -iNONE`, `(?m)^ +37\d .*sshd: /usr/sbin/sshd -D`, `sshd: root@pts/0`, `systemd-journald`, `systemd-logind`, `@dbus-daemon --system`}, not: []string{`(?m)^ +[2-9] `, `init listen`}},
		{command: "ps -eo ppid=,pid=,comm=", has: []string{`(?m)^ *0 +1 systemd$`}, not: []string{`(?m)^ *0 +([2-9]|\d\d+) `}},
		{command: "top -bn1 | head -12", has: []string{`^top - .* 1 user,`, `MiB Mem :  +3953\.\d|MiB Mem : +\d`, `systemd`}},
		{command: "free -m; cat /proc/meminfo | head -1", has: []string{`(?m)^MemTotal: +4194304 kB$`}},
		{command: "cat /proc/version /proc/cmdline", has: []string{`^Linux version 6\.1\.0-28-amd64 `, `BOOT_IMAGE=`}},
		{command: "df -h", has: []string{`(?m)^overlay .* /$`}, only: true},
		{command: "cat /etc/passwd", has: []string{`(?m)^anna:x:100\d:`, `(?m)^sshd:`}},
		{command: "cat /etc/os-release /etc/issue /etc/debian_version", has: []string{`Debian GNU/Linux 12`, `(?m)^12\.\d`}},
		{command: "crontab -l", has: []string{`(?m)^\d+ \d+ \* \* .* /\S+`}},
		{command: "cat /var/spool/cron/crontabs/[a-q]*; ls -1 /etc/cron.d /etc/cron.daily /var/spool/cron/crontabs", has: []string{`(?m)^\d+ .* \* `, `dpkg`, `(?m)^(anna|admin)$`}},
		{command: "ls -la ~; history | tail -3; tail -3 ~/.bash_history", has: []string{`\.bash_history`, `\.bashrc`}},
		{command: "ls -la /home/anna; cat /home/anna/.bash_history", has: []string{`\.bash_logout`, `(?m)^sudo |^cd |^ls`}},
		{command: "ls -la /var/mail", has: []string{`root`}},
		{command: "grep -h Accepted /var/log/auth.log; tail -n 30 /var/log/auth.log", not: []string{`\+00:00 `}, has: []string{`Accepted (password|publickey) for (anna|admin) from `, `Accepted password for root from 203\.0\.113\.66 `, `sshd\[\d{3,}\]`}},
		{command: "tail -n 20 /var/log/syslog", not: []string{`\+00:00 `, `imklog`}, has: []string{`CRON\[\d+\]: \(root\) CMD`}},
		{command: "ls -la /var/log", has: []string{`auth\.log`, `syslog`, `dpkg\.log`, `wtmp`, `btmp`, `lastlog`, `kern\.log`}},
		{command: "head -4 /var/log/apt/history.log; head -3 /var/log/dpkg.log", has: []string{`Start-Date: \d{4}-`}},
		{command: "dmesg | tail -3", has: []string{`.`}},
		{command: "lsblk; lscpu | head -20", has: []string{`Architecture:`}},
		{command: "cat /proc/cpuinfo | grep -c ^processor; nproc", has: []string{`^\d+\n\d+$`}},
		{command: "dpkg -l | wc -l", has: []string{`^[2-9]\d\d$`}},
		{command: "which ping free ip w crontab curl wget python3 perl dig host nc ss netstat lsof vi nano less tar unzip rsync dpkg apt systemctl passwd chattr | wc -l", has: []string{`^26$`}},
		{command: "python3 -c 'import http.client, json, ssl; print(1)'; perl -MIO::Socket::INET -e 'print 2, chr 10'", has: []string{`^1\n2$`}},
		{command: "busybox NONSENSE", has: []string{`^NONSENSE: applet not found$`}},
		{command: "nonexistentcmd", has: []string{`^(-?bash: (line \d+: )?)?nonexistentcmd: command not found$`}},
		{command: "systemctl is-system-running; systemctl status ssh | head -3", not: []string{`(?i)container`}},
		{command: "ls /sys/class/dmi/id /dev", has: []string{`null`}},
		{command: "date; timedatectl 2>&1 | head -2", has: []string{`CES?T`}},
		{command: "cat /proc/self/mountinfo", only: true, not: []string{`/etc/(hosts|hostname|resolv)`}},
	}
}

// Everything that attackers are known to look at shows the machine that the pot pretends to be.
func TestNothingInsideTellsAPot(t *testing.T) {
	f := newFixture(t)
	f.bus.learn(event.Persona{
		Hostname: "www1", Domain: "corp.example", TimeZone: "Europe/Rome",
		OS:       event.OSRelease{ID: "debian", VersionID: "12", VersionCodename: "bookworm", PrettyName: "Debian GNU/Linux 12 (bookworm)", DebianVersion: "12.9"},
		Kernel:   event.Kernel{Name: "Linux", Release: "6.1.0-28-amd64", Version: "#1 SMP PREEMPT_DYNAMIC Debian 6.1.119-1 (2024-11-22)", Machine: "x86_64"},
		Machine:  event.Hardware{Memory: 4 << 30},
		Accounts: []event.PersonaAccount{{Name: "anna", UID: 1000, GID: 1000, Comment: "Anna,,,", Home: "/home/anna", Shell: "/bin/bash"}},
		Groups:   []event.PersonaGroup{{Name: "anna", GID: 1000}},
	})
	_, stop := f.run(t)
	l := f.grant(t, "203.0.113.66/32")
	require.Eventually(t, func() bool {
		out, err := f.shell(t.Context(), l.Endpoint, "hostname")
		return err == nil && out == "www1\n"
	}, time.Minute, 50*time.Millisecond)
	term := f.terminal(t, l)
	for _, look := range looks() {
		out := term.say(look.command)
		t.Logf("# %s\n%s", look.command, out)
		if !look.only {
			assert.NotRegexp(t, tells, out, look.command)
			assert.NotRegexp(t, container, out, look.command)
		}
		for _, has := range look.has {
			assert.Regexp(t, has, out, look.command)
		}
		for _, not := range look.not {
			assert.NotRegexp(t, not, out, look.command)
		}
	}
	t.Run("programs that want a terminal", func(t *testing.T) {
		term := f.terminal(t, l)
		term.send("passwd\n")
		term.await(`New password: $`)
		term.send("s3cret-S3cret\n")
		term.await(`Retype new password: $`)
		term.send("s3cret-S3cret\n")
		term.await(`password updated successfully`)
		term.send("top\n")
		term.await(`(?s)load average.*PID.*systemd`)
		term.send("q")
		term.await(`# $`)
		assert.Contains(t, term.say("echo still here"), "still here")
	})
	// What the node does for all this is no evidence against the attacker.
	stop()
	f.bus.mu.Lock()
	defer f.bus.mu.Unlock()
	seen := 0
	for _, left := range f.bus.evidence {
		for _, e := range left {
			if e.Execution != nil {
				seen++
				assert.NotContains(t, fmt.Sprintf("%s", e.Execution.Args), "ns_last_pid")
			}
		}
	}
	assert.Positive(t, seen, "executions are seen")
}
