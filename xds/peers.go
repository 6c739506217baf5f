package xds

import (
	"cmp"
	"fmt"
	"slices"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"hasp/mesh"
)

// peers are endpoints on port 0: the same form, and a resource of their own,
// because they are many and change with every workload. An endpoint's labels are
// the peer's names.
func (e *encoder) peers() error {
	eps := make([]mesh.Endpoint, len(e.c.Peers))
	for i, p := range e.c.Peers {
		if !p.Addr.IsValid() {
			return fmt.Errorf("peer %s has no address", p.Workload)
		}
		eps[i] = mesh.Endpoint{Addr: p.Addr, Workload: p.Workload, Identity: p.Identity, Sidecar: p.Sidecar, Labels: namesLabels(p.Names)}
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
		names, err := labelsNames(ep.Labels)
		if err != nil {
			return fmt.Errorf("%s %q: %w", short(EndpointType), PeersName, err)
		}
		d.c.Peers = append(d.c.Peers, mesh.Peer{Addr: ep.Addr, Workload: ep.Workload, Identity: ep.Identity, Sidecar: ep.Sidecar, Names: names})
	}
	slices.SortStableFunc(d.c.Peers, func(a, b mesh.Peer) int { return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Workload, b.Workload)) })
	return nil
}

func namesLabels(n mesh.Names) map[string]string {
	out := map[string]string{}
	for k, v := range map[string]string{"owner": n.Owner, "app": n.App, "version": n.Version, "service": n.Service, "revision": n.Revision} {
		if v != "" {
			out[k] = v
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

func labelsNames(labels map[string]string) (mesh.Names, error) {
	var n mesh.Names
	for k, v := range labels {
		switch k {
		case "owner":
			n.Owner = v
		case "app":
			n.App = v
		case "version":
			n.Version = v
		case "service":
			n.Service = v
		case "revision":
			n.Revision = v
		default:
			return n, fmt.Errorf("label %q of a peer is not supported", k)
		}
	}
	return n, nil
}
