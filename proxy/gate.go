package proxy

import (
	"sync"
	"sync/atomic"
)

// gate is open at first.
type gate struct {
	touched atomic.Bool // it is not as it was at first
	over    bool
	mu      sync.Mutex
	closed  chan struct{} // not nil while it is shut; closed when it opens
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed == nil && !g.over {
		g.closed = make(chan struct{})
		g.touched.Store(true)
	}
}

// open lets go who waits; over says that the connection has ended.
func (g *gate) open(over bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.over = over
	g.touched.Store(over)
	if g.closed != nil {
		close(g.closed)
		g.closed = nil
	}
}

// state has a channel while the gate is shut, which ends when it opens.
func (g *gate) state() (shut <-chan struct{}, over bool) {
	if !g.touched.Load() {
		return nil, false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed, g.over
}
