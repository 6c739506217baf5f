package truth

import (
	"fmt"
	"net/netip"

	"hasp/compile"
	"hasp/mesh"
	"hasp/policy/judge"
	"hasp/world"
)

// lens is a World as its proxies have it: what each would be told, ready to be
// asked.
type lens struct {
	w        *world.World
	compiler *compile.Compiler
	fallback *lens
	proxies  map[string]*judge.Index
	shared   map[*mesh.Cluster]*judge.Index // by the first cluster of an Outbound
	refused  []string                       // configurations that a proxy would not take
}

// newLens of a World. A proxy that would refuse its configuration keeps the one
// of the fallback.
func newLens(w *world.World, fallback *lens) *lens {
	return &lens{w: w, compiler: compile.New(w), fallback: fallback, proxies: map[string]*judge.Index{}, shared: map[*mesh.Cluster]*judge.Index{}}
}

// proxy of a workload, nil when it has none.
func (l *lens) proxy(key string) *judge.Index {
	if x, known := l.proxies[key]; known {
		return x
	}
	var x *judge.Index
	if wl := l.w.Workload(key); wl != nil && wl.Role != mesh.RoleNone {
		cfg, _ := l.compiler.For(wl)
		var err error
		if x, err = l.index(cfg); err != nil {
			l.refused = append(l.refused, fmt.Sprintf("the proxy of %s would refuse its configuration and keep the one it has: %v", key, err))
			if l.fallback != nil {
				x = l.fallback.proxy(key)
			}
		}
	}
	l.proxies[key] = x
	return x
}

func (l *lens) index(cfg *mesh.ProxyConfig) (*judge.Index, error) {
	if len(cfg.Outbound.Clusters) == 0 {
		return judge.New(cfg)
	}
	first := &cfg.Outbound.Clusters[0]
	if x := l.shared[first]; x != nil {
		return x.Beside(cfg), nil
	}
	x, err := judge.New(cfg)
	if err == nil {
		l.shared[first] = x
	}
	return x, err
}

// find the workload of a party: itself or, when it is no more, another of the
// same Deployment, which is who comes next.
func (l *lens) find(p Party) *mesh.Workload {
	if p.Workload == "" {
		return nil
	}
	if wl := l.w.Workload(p.Workload); wl != nil {
		return wl
	}
	for _, wl := range l.w.Workloads {
		if wl.Namespace == p.Namespace && wl.Owner == p.Owner && p.Owner != "" {
			return wl
		}
	}
	return nil
}

// address of a workload in the family of another address, else its first.
func address(wl *mesh.Workload, like netip.Addr) netip.Addr {
	for _, a := range wl.Addresses {
		if a.Unmap().Is4() == like.Unmap().Is4() {
			return a
		}
	}
	if len(wl.Addresses) > 0 {
		return wl.Addresses[0]
	}
	return netip.Addr{}
}
