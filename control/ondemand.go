package control

import (
	"cmp"
	"fmt"
	"strconv"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"hasp/compile"
	"hasp/mesh"
	"hasp/world"
	"hasp/xds"
	"hasp/xds/server"
)

const (
	// DemandFrom is the default of Config.OnDemand.
	DemandFrom = 500
	// keepChanges is of how many generations the changes are known. A proxy that is
	// further behind is told anew.
	keepChanges = 64
)

// ParseOnDemand reads Config.OnDemand as people write it: always, never, or from how
// many services on.
func ParseOnDemand(s string) (int, error) {
	switch s {
	case "always":
		return 1, nil
	case "never":
		return -1, nil
	}
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%q is not always, never or a number of services", s)
	}
	return int(n), nil
}

// onDemand: the World is too large to tell every proxy all of it. One that is so
// stays so until it is a fifth smaller, lest it go to and fro.
func (c *Control) onDemand(w *world.World, was bool) bool {
	from := cmp.Or(c.cfg.OnDemand, DemandFrom)
	if from < 0 {
		return false
	}
	if was {
		from -= from / 5
	}
	return len(w.Services) >= from || len(w.Workloads) >= 4*from
}

// follow makes a snapshot of the World that comes after the current one, with what
// the proxies are told of it.
func (c *Control) follow(w *world.World) *snapshot {
	s := &snapshot{world: w, whole: newWhole()}
	old := c.current.Load()
	if old == nil {
		s.compiler, s.onDemand = compile.New(w), c.onDemand(w, false)
		return s
	}
	if s.onDemand = c.onDemand(w, old.onDemand); !s.onDemand {
		s.compiler = compile.New(w) // nobody asks what changed
		return s
	}
	compiler, changes := old.compiler.Next(w)
	if !old.onDemand {
		changes = &compile.Changes{All: true}
	}
	s.compiler = compiler
	s.changes = append(s.changes, old.changes[max(0, len(old.changes)-keepChanges+1):]...)
	s.changes = append(s.changes, changes)
	return s
}

// touched reports whether something changed after a generation for a proxy that
// asked for d.
func (s *snapshot) touched(since uint64, node string, d mesh.Demand) bool {
	behind := s.world.Generation - since
	if since == 0 || since > s.world.Generation || behind > uint64(len(s.changes)) {
		return true
	}
	for _, c := range s.changes[len(s.changes)-int(behind):] {
		if c.Touch(node, d) {
			return true
		}
	}
	return false
}

// ResourcesFor implements server.Selective. Gateways are told whole, which is
// what their routes lead to and no more.
func (c *Control) ResourcesFor(node string, peer spiffeid.ID, d mesh.Demand, since uint64) (server.Selection, error) {
	s, wl, err := c.admit(node, peer)
	if err != nil {
		return server.Selection{}, err
	}
	sel := server.Selection{Generation: s.world.Generation, OnDemand: s.onDemand && wl.Role == mesh.RoleSidecar}
	switch {
	case !sel.OnDemand:
		cfg, _ := s.compiler.For(wl)
		sel.Resources, err = s.whole.encode(cfg)
	case s.touched(since, node, d):
		sel.Resources, err = encode(s.compiler.OnDemand(wl, d))
	}
	return sel, err
}

// encode what a proxy asked for, each part once for all that have it.
func encode(cfg *mesh.ProxyConfig, parts []*compile.Part) (xds.Resources, error) {
	resources := make([]xds.Resources, len(parts))
	for i, p := range parts {
		r, err := p.Keep(func(p *compile.Part) (any, error) {
			one := &mesh.ProxyConfig{MinTLS: cfg.MinTLS, Settings: cfg.Settings} // the same for every proxy
			whole, err := compile.Join(one, []*compile.Part{p})
			if err != nil {
				return nil, err
			}
			return xds.EncodePart(whole)
		})
		if err != nil {
			return nil, err
		}
		resources[i] = r.(xds.Resources)
	}
	return xds.EncodeWith(cfg, resources...)
}
