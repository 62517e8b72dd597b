package pki

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/bus"
)

const (
	tokenPrefix   = "kk1_"
	secretSize    = 16
	checksumSize  = 4
	tokenFixed    = 1 + 8 + sha256.Size + secretSize // role, expiry, fingerprint, secret; the name follows
	maxTokenChars = 512
)

// Errors of tokens. The text of the errors that wrap them says what to do.
var (
	ErrTokenMalformed = errors.New("malformed token")
	ErrTokenExpired   = errors.New("expired token")
	ErrTokenUsed      = errors.New("used token")
	ErrTokenUnknown   = errors.New("unknown token")
	ErrWrongServer    = errors.New("wrong server")
)

// Token is a one-time permission to enrol. Its printable form is kk1_ and, in lower-case base32 (RFC 4648)
// without padding: role (1 byte), expiry (8 bytes, Unix seconds), SHA-256 of the CA's certificate, secret (16
// bytes), name, and the first 4 bytes of the SHA-256 of all that.
type Token struct {
	Role        Role
	Name        string
	Expires     time.Time
	fingerprint [sha256.Size]byte
	secret      [secretSize]byte
}

func tokenEncoding() *base32.Encoding {
	return base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
}

// String returns the printable form. It is a secret.
func (t Token) String() string {
	b := make([]byte, 0, tokenFixed+len(t.Name)+checksumSize)
	b = append(b, roleByte(t.Role))
	b = binary.BigEndian.AppendUint64(b, uint64(max(t.Expires.Unix(), 0)))
	b = append(b, t.fingerprint[:]...)
	b = append(b, t.secret[:]...)
	b = append(b, t.Name...)
	sum := sha256.Sum256(b)
	return tokenPrefix + tokenEncoding().EncodeToString(append(b, sum[:checksumSize]...))
}

// Hash is what the server keeps of a token: the SHA-256 of its secret, in hex.
func (t Token) Hash() string {
	sum := sha256.Sum256(append([]byte("kokkuri token\x00"), t.secret[:]...))
	return hex.EncodeToString(sum[:])
}

func roleByte(r Role) byte {
	switch r {
	case RoleHost:
		return 'h'
	case RoleNode:
		return 'n'
	case RoleServer, RoleSyslog: // no token gives a server's rights, and a syslog daemon doesn't enrol
	}
	return 0
}

// ParseToken reads the printable form. Its errors wrap ErrTokenMalformed and don't repeat the token.
func ParseToken(s string) (Token, error) {
	s = strings.TrimSpace(s)
	rest, ok := strings.CutPrefix(s, tokenPrefix)
	switch {
	case s == "":
		return Token{}, malformed("it is empty")
	case !ok:
		return Token{}, malformed("it does not begin with " + tokenPrefix)
	case len(rest) > maxTokenChars:
		return Token{}, malformed(fmt.Sprintf("it has %d characters", len(s)))
	}
	b, err := tokenEncoding().DecodeString(rest)
	if err != nil {
		return Token{}, malformed("it contains characters that no token has")
	}
	if len(b) <= tokenFixed+checksumSize {
		return Token{}, malformed("it is cut off")
	}
	b, sum := b[:len(b)-checksumSize], b[len(b)-checksumSize:]
	if want := sha256.Sum256(b); !bytes.Equal(sum, want[:checksumSize]) {
		return Token{}, malformed("its checksum does not fit: it is cut off or mistyped")
	}
	t := Token{Name: string(b[tokenFixed:])}
	for _, r := range []Role{RoleHost, RoleNode} {
		if b[0] == roleByte(r) {
			t.Role = r
		}
	}
	if t.Role == "" {
		return Token{}, malformed("it was made by another version of Kokkuri")
	}
	secs := binary.BigEndian.Uint64(b[1:])
	if secs > 1<<40 {
		return Token{}, malformed("it was made by another version of Kokkuri")
	}
	t.Expires = time.Unix(int64(secs), 0).UTC()
	copy(t.fingerprint[:], b[9:])
	copy(t.secret[:], b[9+sha256.Size:])
	if err := bus.ValidName(t.Name); err != nil {
		return Token{}, malformed(err.Error())
	}
	if t.String() != s {
		return Token{}, malformed("it has stray bits at its end")
	}
	return t, nil
}

func malformed(why string) error {
	return fmt.Errorf("%w: %s; copy it once more, whole, as `kokkuri enroll` printed it", ErrTokenMalformed, why)
}

// StoredToken is what the server keeps of a token.
type StoredToken struct {
	Hash    string // Token.Hash
	Role    Role
	Name    string
	Expires time.Time
}

// TokenStatus says what became of an attempt to use a token.
type TokenStatus string

// Statuses of tokens.
const (
	TokenOK      TokenStatus = "ok"
	TokenUnknown TokenStatus = "unknown"
	TokenUsed    TokenStatus = "used"
	TokenExpired TokenStatus = "expired"
)

// TokenStore keeps the hashes of tokens.
type TokenStore interface {
	// PutToken keeps a token durably. One that has the same hash already is an error.
	PutToken(ctx context.Context, t StoredToken) error
	// TakeToken marks a token as used by claimant (a hash of its public key), atomically and durably. The same claimant may take it again
	// until it expires, as its first answer may have been lost; for any other it is TokenUsed. The order of checks: unknown,
	// used by another, expired (now is after Expires), ok. The token is returned in every case but TokenUnknown.
	TakeToken(ctx context.Context, hash, claimant string, now time.Time) (StoredToken, TokenStatus, error)
}

// NewToken makes a token for a role and name that holds for ttl, and has the store keep its hash.
func (ca *CA) NewToken(ctx context.Context, store TokenStore, role Role, name string, ttl time.Duration) (Token, error) {
	if role != RoleHost && role != RoleNode {
		return Token{}, fmt.Errorf("make a token: role %q; allowed are %q and %q", role, RoleHost, RoleNode)
	}
	if err := bus.ValidName(name); err != nil {
		return Token{}, fmt.Errorf("make a token: %w", err)
	}
	if ttl <= 0 {
		return Token{}, fmt.Errorf("make a token: it would be expired at once: %s", ttl)
	}
	t := Token{Role: role, Name: name, Expires: ca.now().Add(ttl).Truncate(time.Second).UTC()}
	copy(t.fingerprint[:], ca.fingerprint())
	_, _ = rand.Read(t.secret[:]) // never fails
	if err := store.PutToken(ctx, StoredToken{Hash: t.Hash(), Role: role, Name: name, Expires: t.Expires}); err != nil {
		return Token{}, fmt.Errorf("keep the token: %w", err)
	}
	return t, nil
}
