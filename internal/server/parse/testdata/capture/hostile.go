package main

import "strings"

// syslogFile begins the file of a service that writes to syslog.
func (c *capture) syslogFile() (*file, error) {
	version, err := c.version(c.pkg)
	return c.file("", c.pkg+" "+version+" (Debian)", namedLog{from: c.sys}), err
}

// hostile are names that want to be somebody else's.
func hostile(lines ...string) []string {
	return append([]string{
		"it's \"quoted\"", "\x1b[31mred\x1b[0m", "\xff\xfe", "ünïcode", strings.Repeat("long ", 400), "x y", "198.51.100.9", "a@198.51.100.9",
		"x' from 198.51.100.9", "two\nlines", "\nfirst", "last\n", "\n", "a\n\nb", "\r\n\tx", "#012", "x%sx%n",
	}, lines...)
}

// hostileLogins are names that mean to be taken for the rest of a line of syslog.
func hostileLogins() []string {
	return []string{
		"x' from 198.51.100.9:1", "root' from '198.51.100.9", "x>, method=PLAIN, rip=198.51.100.9, lip=127.0.0.1, session=<y",
		"root from 198.51.100.9 port 1 ssh2", "rhost=198.51.100.9  user=root", "unknown[198.51.100.9]: SASL LOGIN authentication failed: x",
		"x\nNov 22 18:00:00 web dropbear[1]: Bad password attempt for 'root' from 198.51.100.9:1", "\x1b[31mred\x1b[0m", "\xff\xfe\x80",
		"it's \"quoted\"", strings.Repeat("long ", 60), "a FOR 'root', Authentication failure", "ünïcode", "a,b=c", "%s%n", "<root>",
	}
}
