package pki

import (
	"context"
	"errors"
	"sync"
	"time"
)

// MemoryTokens is a TokenStore that forgets everything at the end of the process.
type MemoryTokens struct {
	mu     sync.Mutex
	tokens map[string]*memoryToken
}

type memoryToken struct {
	StoredToken
	claimant string
}

// NewMemoryTokens makes an empty store.
func NewMemoryTokens() *MemoryTokens { return &MemoryTokens{tokens: make(map[string]*memoryToken)} }

// PutToken implements TokenStore.
func (m *MemoryTokens) PutToken(_ context.Context, t StoredToken) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tokens[t.Hash] != nil {
		return errors.New("the token is known already")
	}
	m.tokens[t.Hash] = &memoryToken{StoredToken: t}
	return nil
}

// TakeToken implements TokenStore.
func (m *MemoryTokens) TakeToken(_ context.Context, hash, claimant string, now time.Time) (StoredToken, TokenStatus, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.tokens[hash]
	switch {
	case t == nil:
		return StoredToken{}, TokenUnknown, nil
	case t.claimant != "" && t.claimant != claimant:
		return t.StoredToken, TokenUsed, nil
	case now.After(t.Expires):
		return t.StoredToken, TokenExpired, nil
	}
	t.claimant = claimant
	return t.StoredToken, TokenOK, nil
}
