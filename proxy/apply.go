package proxy

import (
	"errors"
	"fmt"
	"log/slog"

	"hasp/mesh"
)

// Apply puts a configuration in force, whole or not at all: all that can fail
// happens before the swap. Then every live connection is asked again, and those
// that the new configuration forbids end (cut.go); the others never notice. The
// proxy owns c afterwards.
func (p *Proxy) Apply(c *mesh.ProxyConfig) error {
	if c == nil {
		return errors.New("proxy: no configuration given")
	}
	p.applying.Lock()
	defer p.applying.Unlock()
	s, err := newSettings(c, p.cfg.Identity, p.cfg.Now)
	if err != nil {
		p.metrics.rejected.Inc()
		return fmt.Errorf("proxy: configuration %d: %w", c.Generation, err)
	}
	if c.OnDemand {
		if s.directory = p.cfg.Directory; s.directory == nil {
			p.metrics.rejected.Inc()
			return fmt.Errorf("proxy: configuration %d: onDemand: this proxy has nobody to ask", c.Generation)
		}
	}
	s.inherit(p.settings.Load())
	p.settings.Store(s)
	cut := p.sweep(s)
	p.gateways.keepPools(s)
	select {
	case p.gateways.changed <- struct{}{}:
	default: // it is awake already
	}
	select {
	case p.lookAgain <- struct{}{}:
	default: // it will look
	}
	select {
	case p.idleChanged <- struct{}{}:
	default: // it will look
	}
	p.facts.poke()
	p.metrics.generation.Set(float64(c.Generation))
	p.log.Info("configuration applied", slog.Uint64("generation", c.Generation), slog.Int("cut", cut))
	return nil
}

// settle decides whether a connection whose facts are known may live. It
// decides again when the configuration changes under it: the sweep may have
// passed before the facts were noted, so one of the two always sees the other.
func (p *Proxy) settle(r *row) bool {
	if r.noDeadline() != nil { // nothing is waited for any more (see hurry)
		return false
	}
	for {
		s := p.settings.Load()
		f := r.snapshot()
		v := decide(s, &f)
		r.set(func(f *mesh.Connection) {
			r.settled = true
			f.Allowed = v.Allow
			f.Mode, f.Rule, f.Generation = v.Mode, v.Rule, s.config.Generation
			if !v.Allow {
				f.Why = v.Why
			}
		})
		if p.settings.Load() == s {
			// Plaintext that is let in may be a probe or turn out to be TLS: that is
			// seen when the client speaks (observer).
			if !v.Allow || f.Security != mesh.Plaintext || r.client == nil {
				p.recount(r)
			}
			return v.Allow
		}
	}
}
