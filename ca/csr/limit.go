package csr

import (
	"net"
	"sync"

	"golang.org/x/time/rate"
)

// Limit bounds how often certificates may be asked for. Zero values are
// defaults: 10 a second from one address (bursts of 20), 500 a second in all.
type Limit struct {
	PerAddress rate.Limit
	Burst      int
	Total      rate.Limit
}

// maxAddresses bounds the addresses remembered.
const maxAddresses = 4096

type limiter struct {
	cfg   Limit
	total *rate.Limiter

	mu   sync.Mutex
	each map[string]*rate.Limiter
}

func newLimiter(cfg Limit) *limiter {
	if cfg.PerAddress == 0 {
		cfg.PerAddress = 10
	}
	if cfg.Burst == 0 {
		cfg.Burst = 20
	}
	if cfg.Total == 0 {
		cfg.Total = 500
	}
	return &limiter{cfg: cfg, total: rate.NewLimiter(cfg.Total, int(cfg.Total)+1), each: map[string]*rate.Limiter{}}
}

// allow takes the address's allowance before the common one, so that one noisy
// address does not use up what the others share.
func (l *limiter) allow(remote string) bool {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	return l.of(host).Allow() && l.total.Allow()
}

func (l *limiter) of(host string) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if lim, ok := l.each[host]; ok {
		return lim
	}
	if len(l.each) >= maxAddresses {
		l.forget()
	}
	lim := rate.NewLimiter(l.cfg.PerAddress, l.cfg.Burst)
	l.each[host] = lim
	return lim
}

// forget drops the addresses that have their full allowance back, for which
// being forgotten changes nothing; when none has, all of them. The caller holds
// mu.
func (l *limiter) forget() {
	for host, lim := range l.each {
		if lim.Tokens() >= float64(l.cfg.Burst) {
			delete(l.each, host)
		}
	}
	if len(l.each) >= maxAddresses {
		clear(l.each)
	}
}
