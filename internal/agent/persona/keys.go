package persona

import (
	"bytes"
	"context"
	"errors"

	"github.com/kokkuri/kokkuri/internal/event"
)

// HostKeys reads the host's own SSH host keys: those that its server has and that need no passphrase.
func HostKeys(ctx context.Context, o Options) ([]event.HostKey, error) {
	l := learner(o)
	said, err := l.run(ctx, sshd, "-T", "-C", stranger)
	if err != nil {
		return nil, err
	}
	var out []event.HostKey
	for _, file := range parseSSHD(string(said)).hostKeys {
		kind, ok := parsePublicKey(string(l.read(file+".pub", 16<<10)))
		private := l.read(file, 16<<10)
		if ok && bytes.Contains(private, []byte("PRIVATE KEY")) {
			out = append(out, event.HostKey{Type: kind.Type, Private: private})
		}
	}
	if len(out) == 0 {
		return nil, errors.New("the SSH server has none that can be read")
	}
	return out, nil
}
