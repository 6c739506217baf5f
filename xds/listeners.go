package xds

import (
	"cmp"
	"fmt"
	"slices"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"hasp/mesh"
)

// listeners sorts them by what they are: the two of capture by name, a
// gateway's by being bound to their port, all others outbound.
func (d *decoder) listeners() error {
	gateway := map[int]mesh.Server{}
	for _, name := range d.in.Names(ListenerType) {
		l := new(listenerv3.Listener)
		if err := get(d.in, ListenerType, name, l); err != nil {
			return err
		}
		read := d.readListener
		switch bound := l.GetBindToPort() == nil || l.GetBindToPort().GetValue(); {
		case name == inboundName:
			read = d.readInbound
		case name == outboundName:
			read = d.readOutbound
		case bound && d.c.Role == mesh.RoleGateway:
			read = func(l *listenerv3.Listener) error { return d.readServers(l, gateway) }
		}
		if err := read(l); err != nil {
			return fmt.Errorf("Listener %q: %w", name, err)
		}
	}
	if d.c.Role == mesh.RoleGateway {
		_, d.c.Outbound.AllowAny = d.in[ClusterType][passthroughName]
		return d.putServers(gateway)
	}
	for _, name := range []string{inboundName, outboundName} {
		if _, ok := d.in[ListenerType][name]; !ok {
			return fmt.Errorf("Listener %q is not there", name)
		}
	}
	return nil
}

// references are checked last: everything named must be there.
func (d *decoder) references() error {
	clusters := map[string]bool{}
	for _, c := range d.c.Outbound.Clusters {
		clusters[c.Name] = true
	}
	for _, l := range d.c.Outbound.Listeners {
		if !clusters[l.Cluster] {
			return fmt.Errorf("Listener %q: there is no cluster %q", listenerName(l.Addr, l.Port), l.Cluster)
		}
	}
	for _, s := range d.c.Secrets {
		if !named(s.Name, d.c.Gateway) {
			return fmt.Errorf("Secret %q: no server names it", s.Name)
		}
	}
	for _, s := range d.c.Gateway {
		if err := checkServer(s, d.c.Secrets, clusters); err != nil {
			return fmt.Errorf("server %s on port %d: %w", s.Name, s.Port, err)
		}
	}
	return nil
}

// checkServer is asked by both sides, so that a proxy is not sent what it would
// refuse.
func checkServer(s mesh.Server, secrets []mesh.Secret, clusters map[string]bool) error {
	if s.Secret != "" && fromControlPlane(s.Secret) {
		i := slices.IndexFunc(secrets, func(x mesh.Secret) bool { return x.Name == s.Secret })
		if i < 0 {
			return fmt.Errorf("there is no secret %q", s.Secret)
		}
		if s.Mutual && len(secrets[i].CA) == 0 {
			return fmt.Errorf("secret %q has no CA to verify clients with", s.Secret)
		}
	}
	for i, r := range s.Routes {
		for _, t := range r.To {
			if !clusters[t.Cluster] {
				return fmt.Errorf("route %d: there is no cluster %q", i, t.Cluster)
			}
		}
	}
	return nil
}

func (d *decoder) sort() {
	slices.SortFunc(d.c.Outbound.Listeners, func(a, b mesh.Listener) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Port, b.Port))
	})
	slices.SortFunc(d.c.Outbound.Clusters, func(a, b mesh.Cluster) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(d.c.Secrets, func(a, b mesh.Secret) int { return cmp.Compare(a.Name, b.Name) })
}
