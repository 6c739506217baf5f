package ca

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// DefaultMaxTokens bounds the tokens that wait to be redeemed.
const DefaultMaxTokens = 10000

// ErrToken is what Redeem answers whatever is wrong with the token, so that the
// answer tells a guesser nothing.
var ErrToken = errors.New("the token is unknown, used or expired")

// Grant is what a token is good for.
type Grant struct {
	ID       spiffeid.ID
	Workload string // NAMESPACE/NAME
}

// Tokens keeps the join tokens that were handed out: each is good once, for one
// workload and its identity, until it expires. Only hashes are kept.
type Tokens struct {
	max int
	now func() time.Time

	mu      sync.Mutex
	waiting map[[sha256.Size]byte]grant
}

type grant struct {
	Grant
	expires time.Time
}

// NewTokens keeps at most max tokens (0 is DefaultMaxTokens) by the clock now
// (nil is time.Now).
func NewTokens(max int, now func() time.Time) *Tokens {
	if max <= 0 {
		max = DefaultMaxTokens
	}
	if now == nil {
		now = time.Now
	}
	return &Tokens{max: max, now: now, waiting: map[[sha256.Size]byte]grant{}}
}

// Issue makes a token of 256 random bits for the workload NAMESPACE/NAME and
// its identity. It is an error when too many tokens wait already.
func (t *Tokens) Issue(id spiffeid.ID, workload string, ttl time.Duration) (string, error) {
	if id.IsZero() || workload == "" || ttl <= 0 {
		return "", errors.New("ca: a join token needs an identity, a workload and a lifetime")
	}
	var raw [32]byte
	rand.Read(raw[:]) // never fails, see crypto/rand
	token := base64.RawURLEncoding.EncodeToString(raw[:])
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) >= t.max {
		t.expire()
	}
	if len(t.waiting) >= t.max {
		return "", fmt.Errorf("ca: %d join tokens wait to be used, which is the limit", len(t.waiting))
	}
	t.waiting[hash(token)] = grant{Grant{id, workload}, t.now().Add(ttl)}
	return token, nil
}

// Redeem uses a token up. A workload that is not empty must be the one the
// token is bound to; a token shown by another workload is used up as well,
// because somebody has it who should not.
//
// Tokens are found by their hash: how long the search takes tells something
// about the hash of a guess, which leads to no token.
func (t *Tokens) Redeem(token, workload string) (Grant, error) {
	h := hash(token)
	t.mu.Lock()
	defer t.mu.Unlock()
	g, ok := t.waiting[h]
	delete(t.waiting, h)
	if !ok || !t.now().Before(g.expires) || workload != "" && workload != g.Workload {
		return Grant{}, ErrToken
	}
	return g.Grant, nil
}

// Revoke forgets the tokens of a workload that is gone.
func (t *Tokens) Revoke(workload string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for h, g := range t.waiting {
		if g.Workload == workload {
			delete(t.waiting, h)
		}
	}
}

// expire drops what nobody can redeem any more. The caller holds mu.
func (t *Tokens) expire() {
	now := t.now()
	for h, g := range t.waiting {
		if !now.Before(g.expires) {
			delete(t.waiting, h)
		}
	}
}

func hash(token string) [sha256.Size]byte { return sha256.Sum256([]byte(token)) }
