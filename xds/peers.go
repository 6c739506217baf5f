package xds

import (
	"cmp"
	"fmt"
	"slices"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"hasp/mesh"
)

// peers are endpoints on port 0: the same form, and a resource of their own,
// because they are many and change with every workload.
func (e *encoder) peers() error {
	eps := make([]mesh.Endpoint, len(e.c.Peers))
	for i, p := range e.c.Peers {
		if !p.Addr.IsValid() {
			return fmt.Errorf("peer %s has no address", p.Workload)
		}
		eps[i] = mesh.Endpoint{Addr: p.Addr, Workload: p.Workload, Identity: p.Identity, Sidecar: p.Sidecar}
	}
	m, err := assignment(PeersName, 0, eps)
	if err != nil {
		return fmt.Errorf("peers: %w", err)
	}
	return e.add(EndpointType, PeersName, m)
}

func (d *decoder) peers() error {
	m := new(endpointv3.ClusterLoadAssignment)
	if err := get(d.in, EndpointType, PeersName, m); err != nil {
		return err
	}
	eps, err := readAssignment(m, 0)
	if err != nil {
		return fmt.Errorf("%s %q: %w", short(EndpointType), PeersName, err)
	}
	for _, ep := range eps {
		if !ep.Addr.IsValid() {
			return fmt.Errorf("%s %q: %q is not an address", short(EndpointType), PeersName, ep.Host)
		}
		d.c.Peers = append(d.c.Peers, mesh.Peer{Addr: ep.Addr, Workload: ep.Workload, Identity: ep.Identity, Sidecar: ep.Sidecar})
	}
	slices.SortStableFunc(d.c.Peers, func(a, b mesh.Peer) int { return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Workload, b.Workload)) })
	return nil
}
