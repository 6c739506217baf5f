package source

import (
	"strings"

	"hasp/mesh"
)

// aliases puts behind an ExternalName service that names another Service what is
// behind that one, port by port, as Istio does: a gateway's route to the alias
// reaches sidecars and must speak mutual TLS to them. A sidecar has no part in
// it, since its workload dials the address that the name resolves to, which is
// the other service's. Of a headless service the ready endpoints are meant, as
// the gateway chooses among them.
func aliases(list []*mesh.Service, d *directory) {
	named := map[string]*mesh.Service{}
	for _, s := range list {
		if !s.External {
			named[s.Hostname] = s
		}
	}
	for _, s := range list {
		if !s.External || len(s.Endpoints) == 0 {
			continue
		}
		target := named[strings.TrimSuffix(s.Endpoints[0].Host, ".")]
		if target == nil {
			continue
		}
		var behind []mesh.Endpoint
		for _, e := range target.Endpoints {
			if w := d.named[e.Workload]; target.Headless && w != nil && !w.Ready {
				continue
			}
			for _, p := range s.Ports {
				if p.Number == e.ServicePort {
					behind = append(behind, e)
				}
			}
		}
		s.External, s.Resolution, s.Endpoints = false, "", behind
	}
}
