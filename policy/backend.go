package policy

import (
	"slices"

	"hasp/mesh"
	"hasp/world"
)

// backend is one workload behind a port of a service.
type backend struct {
	wl   *mesh.Workload
	port uint16 // on the workload; 0 when it cannot be known
	id   string // SPIFFE ID, empty where no proxy presents one
	// assumed is true for the stand-in of a service that has no workload: what
	// would apply to whatever its selector will pick.
	assumed bool
}

func (b backend) mode(w *world.World) Server { return ServerMode(w, b.wl, b.port) }

func (b backend) sidecar() bool { return b.wl.Role == mesh.RoleSidecar }

// backends are the workloads behind a service's port: those its selector picks,
// or those its endpoints name (ServiceEntry). There is always at least one.
func backends(w *world.World, svc *mesh.Service, number uint16) []backend {
	sp := portOf(svc, number)
	var out []backend
	for _, wl := range w.WorkloadsOf(svc) {
		if port, ok := sp.On(wl); ok {
			b := backend{wl: wl, port: port}
			if wl.Role != mesh.RoleNone {
				b.id = wl.Identity(w.Mesh.TrustDomain)
			}
			out = append(out, b)
		}
	}
	if len(svc.Selector) == 0 {
		for _, e := range svc.Endpoints {
			if e.ServicePort == number {
				out = append(out, backend{wl: endpointWorkload(w, svc, e), port: e.Port, id: e.Identity})
			}
		}
	}
	if len(out) == 0 {
		wl := standIn(svc)
		port, _ := sp.On(wl)
		out = append(out, backend{wl: wl, port: port, assumed: true})
	}
	return out
}

// standIn plays a workload that a service's selector would pick.
func standIn(svc *mesh.Service) *mesh.Workload {
	return &mesh.Workload{Namespace: svc.Namespace, Name: svc.Name, Labels: svc.Selector, Role: mesh.RoleSidecar}
}

// endpointWorkload is the workload an endpoint names or, for an address of no
// workload we know, one with what the endpoint says about itself.
func endpointWorkload(w *world.World, svc *mesh.Service, e mesh.Endpoint) *mesh.Workload {
	if e.Workload != "" {
		if wl := w.Workload(e.Workload); wl != nil {
			return wl
		}
	}
	name := e.Host
	if e.Addr.IsValid() {
		name = e.Addr.String()
	}
	wl := &mesh.Workload{Namespace: svc.Namespace, Name: name, Labels: e.Labels}
	if e.Sidecar {
		wl.Role = mesh.RoleSidecar
	}
	return wl
}

// servicePortsAt are the service ports that lead to a workload's port.
func servicePortsAt(w *world.World, wl *mesh.Workload, port uint16) []servicePort {
	var out []servicePort
	for _, svc := range w.ServicesOf(wl) {
		for _, sp := range svc.Ports {
			if n, ok := sp.On(wl); ok && n == port {
				out = append(out, servicePort{svc, sp})
			}
		}
	}
	for _, svc := range w.ServicesLeadingTo(wl) {
		for _, e := range svc.Endpoints {
			if e.Workload == wl.Key() && e.Port == port {
				out = append(out, servicePort{svc, portOf(svc, e.ServicePort)})
			}
		}
	}
	return out
}

// portOf is a service's port by number. One that the service does not have is
// taken to lead to the same number.
func portOf(svc *mesh.Service, number uint16) mesh.ServicePort {
	i := slices.IndexFunc(svc.Ports, func(p mesh.ServicePort) bool { return p.Number == number })
	if i < 0 {
		return mesh.ServicePort{Number: number, TargetPort: number}
	}
	return svc.Ports[i]
}

// Identities are the SPIFFE IDs of the workloads behind a service's port,
// sorted, each once: what a client accepts as the server by default.
func Identities(w *world.World, svc *mesh.Service, port uint16) []string {
	var ids []string
	for _, b := range backends(w, svc, port) {
		if b.id != "" {
			ids = append(ids, b.id)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}
