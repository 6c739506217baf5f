package sandbox

import (
	"context"
	"errors"
	"io/fs"
)

// connect gives the pod its network, trying until it has one or life ends.
func (p *pod) connect(life context.Context) bool {
	for {
		err := p.tryConnect(life)
		if err == nil {
			p.changed.ring()
			return true
		}
		if life.Err() != nil {
			return false
		}
		p.s.log.Error("pod without network", "pod", p.name(), "err", err)
		for _, c := range p.all() {
			c.wait("NetworkNotReady", err.Error())
		}
		if !pause(life, retryPeriod) {
			return false
		}
	}
}

func (p *pod) tryConnect(life context.Context) error {
	select {
	case <-life.Done():
		return life.Err()
	case p.ps.starting <- struct{}{}:
		defer func() { <-p.ps.starting }()
	}
	n, err := p.attach()
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.net, p.ip4, p.ip6 = n, n.addr.v4().String(), n.addr.v6().String()
	return nil
}

// attach takes the next address that is free. The kernel may still be busy
// taking down the pod that had it before; then the one after it will do.
func (p *pod) attach() (*network, error) {
	for attempt := 0; ; attempt++ {
		a, err := p.ps.addresses.take()
		if err != nil {
			return nil, err
		}
		n, err := p.s.fabric.attach(a)
		if err == nil {
			return n, nil
		}
		p.ps.addresses.giveBack(a)
		if !errors.Is(err, fs.ErrExist) || attempt == 100 {
			return nil, err
		}
	}
}

func (p *pod) disconnect() {
	p.net.close()
	p.ps.addresses.giveBack(p.net.addr)
}
