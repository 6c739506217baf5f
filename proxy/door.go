package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"
)

// doorInterval is how long a door may stand open when the workload no longer
// listens, or be closed when it does. A look costs some microseconds a port.
const doorInterval = 100 * time.Millisecond

// door is a port where connections to a port with a TCP probe arrive, in one
// address family. It is open while the workload itself listens, so that the
// kernel refuses a kubelet's connect as it would without a proxy.
type door struct {
	port    uint16 // of the workload
	network string // "tcp4" or "tcp6"
	at      netip.AddrPort
	broken  bool // could not be opened the last time: said once

	close func() // nil while closed
}

// serveDoors opens and closes the doors as the workload listens, until ctx
// ends. What came through stays when a door closes.
func (p *Proxy) serveDoors(ctx context.Context) error {
	doors := p.newDoors()
	if len(doors) == 0 {
		return nil
	}
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error {
		t := time.NewTicker(doorInterval)
		defer t.Stop()
		for {
			for _, d := range doors {
				p.setDoor(ctx, work, d)
			}
			select {
			case <-t.C:
			case <-ctx.Done():
				return nil
			}
		}
	})
	return work.Wait()
}

// newDoors are two for each port with a TCP probe, all closed.
func (p *Proxy) newDoors() []*door {
	var out []*door
	for i, port := range p.probes.doors {
		at := p.cfg.ProbeDoor + uint16(i)
		out = append(out,
			&door{port: port, network: "tcp4", at: netip.AddrPortFrom(netip.IPv4Unspecified(), at)},
			&door{port: port, network: "tcp6", at: netip.AddrPortFrom(netip.IPv6Unspecified(), at)})
	}
	return out
}

// setDoor opens or closes one.
func (p *Proxy) setDoor(ctx context.Context, work *errgroup.Group, d *door) {
	switch open := p.workloadListens(d); {
	case !open && d.close != nil:
		d.close()
		d.close = nil
	case open && d.close == nil:
		var lc net.ListenConfig
		lc.SetMultipathTCP(false)
		ln, err := lc.Listen(ctx, d.network, d.at.String())
		if err != nil {
			if !d.broken && ctx.Err() == nil {
				p.log.Warn("TCP probes will fail: their door does not open", slog.Int("port", int(d.port)), slog.Any("error", err))
			}
			d.broken = true
			return
		}
		d.broken = false
		ctx, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		d.close = func() { cancel(); <-done } // the port is free when it returns
		work.Go(func() error {
			defer close(done)
			return p.ServeInbound(ctx, ln)
		})
	}
}

// workloadListens tells whether a connection to the pod would find the
// workload. Where the kernel does not say, it does: a probe then succeeds while
// the proxy is up.
func (p *Proxy) workloadListens(d *door) bool {
	addrs := []netip.Addr{d.at.Addr()} // all of the family
	if own, err := p.cfg.Addresses(); err == nil {
		addrs = append(addrs, own...)
	}
	for _, a := range addrs {
		if a.Is4() != d.at.Addr().Is4() {
			continue
		}
		if ok, err := p.listening(netip.AddrPortFrom(a, d.port)); ok || err != nil {
			return true
		}
	}
	return false
}

// listening tells whether anybody listens at an address of the pod; true when
// nobody can tell.
func (p *Proxy) listening(at netip.AddrPort) (bool, error) {
	if p.cfg.Listening == nil {
		return true, nil
	}
	ok, err := p.cfg.Listening(at)
	if err != nil {
		p.sayNotTold.Do(func() {
			p.log.Warn("the kernel does not say who listens: TCP probes succeed while the proxy is up", slog.Any("error", err))
		})
		return true, err
	}
	return ok, nil
}

// ownAddresses are those of the pod's interfaces, without loopback: what a
// kubelet may dial.
func ownAddresses() ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("addresses of the pod: %w", err)
	}
	var out []netip.Addr
	for _, a := range list {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		if ip, ok := netip.AddrFromSlice(n.IP); ok && !ip.IsLoopback() {
			out = append(out, ip.Unmap())
		}
	}
	return out, nil
}
