package furnish

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/GehirnInc/crypt/sha512_crypt"
	"golang.org/x/sys/unix"
)

const (
	firstUser = 1000
	lastUser  = 59999
)

// Hash makes what /etc/shadow holds of a password: $6$, SHA-512 (crypt(5)).
func Hash(password string) (string, error) {
	const letters = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails
	for i, b := range salt {
		salt[i] = letters[int(b)%len(letters)]
	}
	hash, err := sha512_crypt.New().Generate([]byte(password), append([]byte("$6$"), salt...))
	if err != nil {
		return "", fmt.Errorf("hash a password: %w", err)
	}
	return hash, nil
}

// SetAccount gives an account a password, by its hash. Where the pot has no such account it is made,
// with a home folder.
func (p *Pot) SetAccount(name, hash string) error {
	if strings.ContainsAny(name, ":\n/") || name == "" || strings.ContainsAny(hash, ":\n") {
		return fmt.Errorf("account %q: not a name of an account", name)
	}
	passwd, err := p.read("/etc/passwd")
	if err != nil {
		return err
	}
	if field(lineOf(passwd, name), 0) == "" {
		if err := p.addAccount(name, string(passwd)); err != nil {
			return fmt.Errorf("account %s: %w", name, err)
		}
	}
	shadow, err := p.read("/etc/shadow")
	if err != nil {
		return err
	}
	return p.replace("/etc/shadow", []byte(withHash(string(shadow), name, hash)))
}

// lineOf returns the line of a database of accounts that is about one.
func lineOf(data []byte, name string) string {
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, name+":") {
			return strings.TrimSuffix(line, "\n")
		}
	}
	return ""
}

func field(line string, i int) string {
	fields := strings.Split(line, ":")
	if i >= len(fields) {
		return ""
	}
	return fields[i]
}

func withHash(shadow, name, hash string) string {
	var out strings.Builder
	found := false
	for line := range strings.Lines(shadow) {
		if fields := strings.Split(strings.TrimSuffix(line, "\n"), ":"); fields[0] == name && len(fields) > 1 {
			found = true
			fields[1] = hash
			line = strings.Join(fields, ":") + "\n"
		}
		out.WriteString(line)
	}
	if !found {
		fmt.Fprintf(&out, "%s:%s:%d:0:99999:7:::\n", name, hash, time.Now().Unix()/86400-40)
	}
	return out.String()
}

func (p *Pot) addAccount(name, passwd string) error {
	group, err := p.read("/etc/group")
	if err != nil {
		return err
	}
	id := freeID(passwd, string(group))
	if id > lastUser {
		return errors.New("no number is free for it")
	}
	home := "/home/" + name
	entry := fmt.Sprintf("%s:x:%d:%d::%s:/bin/bash\n", name, id, id, home)
	if err := p.replace("/etc/group", appendLine(string(group), fmt.Sprintf("%s:x:%d:\n", name, id))); err != nil {
		return err
	}
	if err := p.replace("/etc/passwd", appendLine(passwd, entry)); err != nil {
		return err
	}
	if err := p.mkdir("/home", 0o755, 0, 0); err != nil {
		return err
	}
	if err := p.mkdir(home, 0o700, id, id); err != nil {
		return err
	}
	return p.copySkeleton(home, id, id)
}

func appendLine(data, line string) []byte {
	if data != "" && !strings.HasSuffix(data, "\n") {
		data += "\n"
	}
	return []byte(data + line)
}

// freeID is one above the highest number of an ordinary user or group.
func freeID(databases ...string) int {
	next := firstUser
	for _, data := range databases {
		for line := range strings.Lines(data) {
			if id, err := strconv.Atoi(field(line, 2)); err == nil && id >= next && id <= lastUser {
				next = id + 1
			}
		}
	}
	return next
}

// copySkeleton gives a new home what the pot gives each.
func (p *Pot) copySkeleton(home string, uid, gid int) error {
	dir, err := p.open("/etc/skel", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // read-only
	const most = 64
	names, err := dir.Readdirnames(most)
	if err != nil && len(names) == 0 {
		return nil
	}
	for _, name := range names {
		data, err := p.read("/etc/skel/" + name)
		if err != nil {
			continue // a folder, perhaps
		}
		if err := p.Write(home+"/"+name, data, 0o644, uid, gid); err != nil {
			return err
		}
	}
	return nil
}
