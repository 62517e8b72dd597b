package furnish

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Become makes a pot that nobody has been in yet look like a persona, as far as files go. own says whether the pot's
// system is the persona's: then it also says so. What can't be done is in the error; the rest is done.
func (p *Pot) Become(v event.Persona, own bool) error {
	var errs []error
	if own && v.OS.ID != "" {
		errs = append(errs, p.system(v.OS))
	}
	if v.TimeZone != "" {
		errs = append(errs, p.timeZone(v.TimeZone))
	}
	if v.Locale != "" {
		errs = append(errs, p.locale(v.Locale))
	}
	if v.Motd != "" {
		errs = append(errs, p.Write("/etc/motd", []byte(v.Motd), 0o644, 0, 0))
	}
	if len(v.Accounts) > 0 {
		errs = append(errs, p.people(v))
	}
	if len(v.SSH.Settings) > 0 {
		errs = append(errs, p.sshd(v.SSH))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("make the pot like %s: %w", v.Name, err)
	}
	return nil
}

// system writes what the pot says of its distribution.
func (p *Pot) system(o event.OSRelease) error {
	err := p.Write("/usr/lib/os-release", OSRelease(o), 0o644, 0, 0)
	if o.DebianVersion != "" {
		err = errors.Join(err, p.Write("/etc/debian_version", []byte(o.DebianVersion+"\n"), 0o644, 0, 0))
	}
	return err
}

// OSRelease writes os-release(5), in the order in which Debian has it.
func OSRelease(o event.OSRelease) []byte {
	fields := maps.Clone(o.Fields)
	if fields == nil {
		fields = map[string]string{}
	}
	for key, value := range map[string]string{"ID": o.ID, "VERSION_ID": o.VersionID, "VERSION_CODENAME": o.VersionCodename, "PRETTY_NAME": o.PrettyName} {
		if value != "" {
			fields[key] = value
		}
	}
	usual := []string{"PRETTY_NAME", "NAME", "VERSION_ID", "VERSION", "VERSION_CODENAME", "ID", "ID_LIKE", "HOME_URL", "SUPPORT_URL", "BUG_REPORT_URL"}
	place := func(key string) int {
		if i := slices.Index(usual, key); i >= 0 {
			return i
		}
		return len(usual)
	}
	keys := slices.SortedFunc(maps.Keys(fields), func(a, b string) int {
		return cmp.Or(cmp.Compare(place(a), place(b)), cmp.Compare(a, b))
	})
	var out strings.Builder
	for _, key := range keys {
		value := fields[key]
		if key != "ID" && key != "VERSION_CODENAME" && key != "ID_LIKE" {
			value = `"` + value + `"`
		}
		out.WriteString(key + "=" + value + "\n")
	}
	return []byte(out.String())
}

// timeZone sets the zone, where the pot knows it.
func (p *Pot) timeZone(zone string) error {
	file := "/usr/share/zoneinfo/" + zone
	f, err := p.open(file, unix.O_PATH, 0)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("time zone %s: the pot knows no such zone", zone)
	}
	if err != nil {
		return err
	}
	_ = f.Close()
	if err := p.symlink(file, "/etc/localtime"); err != nil {
		return err
	}
	return p.Write("/etc/timezone", []byte(zone+"\n"), 0o644, 0, 0)
}

// locale sets the language, where the pot has it: one that is missing makes programs complain.
func (p *Pot) locale(locale string) error {
	generated, err := p.read("/etc/locale.gen")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	name, _, _ := strings.Cut(locale, ".")
	has := name == "C" || name == "POSIX"
	for line := range strings.Lines(string(generated)) {
		fields := strings.Fields(line)
		has = has || len(fields) == 2 && fields[0] == locale
	}
	if !has {
		return nil
	}
	return p.Write("/etc/default/locale", []byte("LANG="+locale+"\n"), 0o644, 0, 0)
}

// symlink makes name, at once, a link to target.
func (p *Pot) symlink(target, name string) error {
	dir, err := p.open(path.Dir(name), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // a handle
	next := path.Base(name) + "+"
	if err := unix.Symlinkat(target, int(dir.Fd()), next); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("link %s in the pot: %w", name, err)
	}
	err = unix.Fchownat(int(dir.Fd()), next, p.uid, p.gid, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil {
		err = unix.Renameat(int(dir.Fd()), next, int(dir.Fd()), path.Base(name))
	}
	if err != nil {
		return fmt.Errorf("link %s in the pot: %w", name, err)
	}
	return nil
}

// removeAll removes a folder with what is in it, as deep and as much as an image's homes are, and no more.
func (p *Pot) removeAll(name string) error {
	parent, err := p.open(path.Dir(name), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer parent.Close() //nolint:errcheck // a handle
	budget := 1000
	if err := removeAt(int(parent.Fd()), path.Base(name), 8, &budget); err != nil {
		return fmt.Errorf("remove %s of the pot: %w", name, err)
	}
	return nil
}

//nolint:wrapcheck // removeAll says what was being done
func removeAt(dir int, name string, depth int, budget *int) error {
	if depth == 0 || *budget <= 0 {
		return ErrOdd
	}
	*budget--
	err := unix.Unlinkat(dir, name, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) {
		return err
	}
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close() //nolint:errcheck // a handle
	names, err := f.Readdirnames(1000)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	for _, n := range names {
		if err := removeAt(fd, n, depth-1, budget); err != nil {
			return err
		}
	}
	return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
}
