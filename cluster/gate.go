package cluster

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// Whoever reaches the webhooks' port may send reviews, each as long as
// maxReview, since API servers show no certificate by default. The gate bounds
// how many are read at once, and so the memory they take: a flood makes the
// webhooks slow and leaves the proxies' control plane alone.
const (
	// reviewsAtOnce bounds all, reviewsOfOne those from one address: a pod that
	// floods the port waits for itself, and the API server does not wait for it.
	reviewsAtOnce, reviewsOfOne = 16, 4
	// reviewWait is how long one waits for its turn. API servers ask no webhook
	// for longer than 30 seconds.
	reviewWait = 10 * time.Second
)

// gate lets requests through to a handler, a few at a time.
type gate struct {
	next http.Handler
	wait time.Duration
	all  chan struct{}

	mu sync.Mutex
	by map[string]*turn // by address, while somebody of it waits or is served
}

type turn struct {
	slots chan struct{}
	users int
}

func newGate(next http.Handler) *gate {
	return &gate{next: next, wait: reviewWait, all: make(chan struct{}, reviewsAtOnce), by: map[string]*turn{}}
}

// ServeHTTP implements http.Handler.
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	from, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		from = r.RemoteAddr
	}
	own := g.join(from)
	defer g.leave(from, own)
	late := time.NewTimer(g.wait)
	defer late.Stop()
	for _, slots := range []chan struct{}{own.slots, g.all} {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		case <-late.C:
			http.Error(w, "too many reviews at once; try again", http.StatusServiceUnavailable)
			return
		}
	}
	g.next.ServeHTTP(w, r)
}

func (g *gate) join(from string) *turn {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.by[from]
	if t == nil {
		t = &turn{slots: make(chan struct{}, reviewsOfOne)}
		g.by[from] = t
	}
	t.users++
	return t
}

func (g *gate) leave(from string, t *turn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t.users--; t.users == 0 {
		delete(g.by, from)
	}
}
