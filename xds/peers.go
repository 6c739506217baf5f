package xds

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"hasp/mesh"
)

// peers are endpoints on port 0: the same form, and a resource of their own,
// because they are many and change with every workload. An endpoint's labels are
// the peer's names. On demand each has a resource of its own, and the list is empty.
func (e *encoder) peers() error {
	list := e.c.Peers
	if e.c.OnDemand {
		list = nil
		if err := e.peerResources(); err != nil {
			return err
		}
	}
	return e.assignPeers(PeersName, list)
}

func (e *encoder) peerResources() error {
	for i, p := range e.c.Peers {
		if err := e.assignPeers(peerPrefix+p.Addr.Unmap().String(), e.c.Peers[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

func (e *encoder) assignPeers(name string, list []mesh.Peer) error {
	eps := make([]mesh.Endpoint, len(list))
	for i, p := range list {
		if !p.Addr.IsValid() {
			return fmt.Errorf("peer %s has no address", p.Workload)
		}
		eps[i] = mesh.Endpoint{Addr: p.Addr, Workload: p.Workload, Identity: p.Identity, Sidecar: p.Sidecar, Labels: p.Names.Labels()}
	}
	m, err := assignment(name, 0, eps)
	if err != nil {
		return fmt.Errorf("peers: %w", err)
	}
	return e.add(EndpointType, name, m)
}

func (d *decoder) peers() error {
	if err := d.readPeers(PeersName); err != nil {
		return err
	}
	for name := range d.in[EndpointType] {
		if !strings.HasPrefix(name, peerPrefix) {
			continue
		}
		if !d.c.OnDemand {
			return fmt.Errorf("%s %q: it is not told on demand", short(EndpointType), name)
		}
		before := len(d.c.Peers)
		if err := d.readPeers(name); err != nil {
			return err
		}
		if list := d.c.Peers[before:]; len(list) != 1 || peerPrefix+list[0].Addr.Unmap().String() != name {
			return fmt.Errorf("%s %q: it is not that one peer", short(EndpointType), name)
		}
	}
	slices.SortStableFunc(d.c.Peers, func(a, b mesh.Peer) int { return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Workload, b.Workload)) })
	return nil
}

// readPeers of one resource.
func (d *decoder) readPeers(name string) error {
	m := new(endpointv3.ClusterLoadAssignment)
	if err := get(d.in, EndpointType, name, m); err != nil {
		return err
	}
	eps, err := readAssignment(m, 0)
	if err != nil {
		return fmt.Errorf("%s %q: %w", short(EndpointType), name, err)
	}
	for _, ep := range eps {
		if !ep.Addr.IsValid() {
			return fmt.Errorf("%s %q: %q is not an address", short(EndpointType), name, ep.Host)
		}
		names, unknown := mesh.NamesIn(ep.Labels)
		if unknown != "" {
			return fmt.Errorf("%s %q: label %q of a peer is not supported", short(EndpointType), name, unknown)
		}
		d.c.Peers = append(d.c.Peers, mesh.Peer{Addr: ep.Addr, Workload: ep.Workload, Identity: ep.Identity, Sidecar: ep.Sidecar, Names: names})
	}
	return nil
}
