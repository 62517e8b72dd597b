// Command capture fails and succeeds at logins of real servers with real and hostile clients, and keeps what the servers log: how
// the files of ../sshd, ../mysql and so on were made.
//
//	go run ./internal/server/parse/testdata/capture                          all services of Debian 11, 12 and 13
//	go run ./internal/server/parse/testdata/capture -suites debian13 mysql   one
//
// It needs root, a Debian mirror and mmdebstrap, with which it makes a root file system for each suite and service, once (-roots
// says where they are kept). Servers and clients run in it and in name spaces of their own: they see nothing but their
// loopback, and are gone with the program. Each section of a file names the source of all its connections and how
// many guesses and logins were made, as the client knows it.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// service is a server that is captured.
type service struct {
	name     string   // as the command line says
	folder   string   // of the files; empty: name
	packages []string // that the root file system has; the first is the one whose version the files name
	play     func(c *capture) error
}

func services() []service {
	return []service{
		{name: "sshd", packages: []string{"openssh-server"}, play: (*capture).sshd},
		{name: "dropbear", packages: []string{"dropbear-bin"}, play: (*capture).dropbear},
		{name: "login", packages: []string{"inetutils-telnetd", "login", "libpam-modules"}, play: (*capture).login},
		{name: "dovecot", packages: []string{"dovecot-core", "dovecot-imapd", "dovecot-pop3d"}, play: (*capture).dovecotAlone},
		{name: "postfix", packages: []string{"postfix", "libsasl2-modules", "sasl2-bin", "dovecot-imapd", "dovecot-pop3d"}, play: (*capture).postfix},
		{name: "mysql", packages: []string{"mariadb-server"}, play: (*capture).mysql},
		{name: "mysql-audit", folder: "mysql", packages: []string{"mariadb-server"}, play: (*capture).mysqlAudit},
		{name: "postgres", packages: []string{"postgresql"}, play: (*capture).postgres},
		{name: "redis", packages: []string{"redis-server"}, play: (*capture).redis},
		{name: "nginx", folder: "http", packages: []string{"nginx-common", "nginx-light", "curl", "hydra", "openssl"}, play: (*capture).nginx},
		{name: "apache", folder: "http", packages: []string{"apache2", "curl", "hydra", "openssl"}, play: (*capture).apache},
		{name: "vsftpd", folder: "ftp", packages: []string{"vsftpd", "curl", "hydra", "lftp"}, play: (*capture).vsftpd},
		{name: "proftpd", folder: "ftp", packages: []string{"proftpd-core", "curl", "hydra", "lftp"}, play: (*capture).proftpd},
		{name: "pureftpd", folder: "ftp", packages: []string{"pure-ftpd", "curl", "hydra", "lftp"}, play: (*capture).pureftpd},
	}
}

// suites are the names of files and of Debian's releases.
func suites() map[string]string {
	return map[string]string{"debian11": "bullseye", "debian12": "bookworm", "debian13": "trixie"}
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "capture:", err)
		os.Exit(1)
	}
}

func run() error {
	roots := flag.String("roots", filepath.Join(os.TempDir(), "kokkuri-capture"), "`folder` of the root file systems")
	into := flag.String("into", "internal/server/parse/testdata", "`folder` of the files")
	only := flag.String("suites", "debian11,debian12,debian13", "`names` of the suites")
	inside := flag.Bool("inside", false, "is how the program calls itself in its name spaces")
	flag.Parse()
	list, err := chosen(flag.Args())
	if err != nil {
		return err
	}
	for suite := range strings.SplitSeq(*only, ",") {
		release, ok := suites()[suite]
		if !ok {
			return fmt.Errorf("suite %q: debian11, debian12 and debian13 are known", suite)
		}
		for _, s := range list {
			root := filepath.Join(*roots, suite+"-"+s.packages[0])
			if *inside {
				err = play(s, suite, root, *into)
			} else if err = makeRoot(root, release, s.packages); err == nil {
				err = enter("-inside", "-roots", *roots, "-into", *into, "-suites", suite, s.name)
			}
			if err != nil {
				return fmt.Errorf("%s of %s: %w", s.name, suite, err)
			}
		}
	}
	return nil
}

func chosen(names []string) ([]service, error) {
	all := services()
	if len(names) == 0 {
		return all, nil
	}
	var list []service
	for _, name := range names {
		i := slices.IndexFunc(all, func(s service) bool { return s.name == name })
		if i < 0 {
			var known []string
			for _, s := range all {
				known = append(known, s.name)
			}
			return nil, fmt.Errorf("service %q: known are %s", name, strings.Join(known, ", "))
		}
		list = append(list, all[i])
	}
	return list, nil
}

// makeRoot makes a root file system where there is none yet.
func makeRoot(root, release string, packages []string) error {
	if _, err := os.Stat(root); err == nil {
		return nil
	}
	fmt.Fprintln(os.Stderr, "making", root)
	if err := os.MkdirAll(filepath.Dir(root), 0o755); err != nil {
		return err
	}
	half := root + ".half"
	if err := os.RemoveAll(half); err != nil {
		return err
	}
	include := "--include=" + strings.Join(append(slices.Clone(packages), "passwd"), ",")
	cmd := exec.Command("mmdebstrap", "--quiet", "--variant=apt", include, release, half)
	cmd.Stderr = os.Stderr
	return errors.Join(cmd.Run(), os.Rename(half, root))
}

// enter runs the program again in name spaces of its own. All that it starts there ends with it.
func enter(args ...string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	return cmd.Run()
}

func play(s service, suite, root, into string) (err error) {
	folder := s.folder
	if folder == "" {
		folder = s.name
	}
	c := &capture{root: root, suite: suite, folder: filepath.Join(into, folder), pkg: s.packages[0]}
	if err := c.prepare(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	return s.play(c)
}
