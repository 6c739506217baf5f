package source

import (
	"strings"

	"hasp/api"
	"hasp/mesh"
)

// alias puts behind an ExternalName service that names another Service what is
// behind that one, port by port, as Istio does: a gateway's route to the alias
// reaches sidecars and must speak mutual TLS to them. A sidecar has no part in
// it, since its workload dials the address that the name resolves to, which is
// the other service's. Of a headless service the ready endpoints are meant, as
// the gateway chooses among them.
func (b *Builder) alias(s *mesh.Service) *mesh.Service {
	if !s.External || len(s.Endpoints) == 0 {
		return s
	}
	target := b.hostname(strings.TrimSuffix(s.Endpoints[0].Host, "."))
	if target == nil || target.External {
		return s
	}
	var behind []mesh.Endpoint
	for _, e := range target.Endpoints {
		namespace, name, _ := strings.Cut(e.Workload, "/")
		if w := b.named(namespace, name); target.Headless && w != nil && !w.Ready {
			continue
		}
		for _, p := range s.Ports {
			if p.Number == e.ServicePort {
				behind = append(behind, e)
			}
		}
	}
	out := *s
	out.External, out.Resolution, out.Endpoints = false, "", behind
	return &out
}

// hostname is the Service of a hostname, before aliases, or nil.
func (b *Builder) hostname(host string) *mesh.Service {
	host, ok := strings.CutSuffix(host, ".svc."+api.DomainSuffix)
	i := strings.LastIndexByte(host, '.')
	if !ok || i < 0 {
		return nil
	}
	if s := b.spaces[host[i+1:]]; s != nil && s.plain[host[:i]] != nil {
		return s.plain[host[:i]].service
	}
	return nil
}
