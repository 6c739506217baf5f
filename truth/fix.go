package truth

import (
	"fmt"
	"strings"

	"hasp/mesh"
	"hasp/policy"
)

// cause is a line of plaintext, and what its ends' proxies say: server is nil
// when the server's saw nothing of it, client when the client has none or its
// saw nothing.
type cause struct {
	*talks
	*Plain
	server, client *talk
}

// fix is what would make it mutual TLS.
func (c cause) fix() string {
	if !c.MutualSince.IsZero() {
		return "nothing is left to do: it speaks mutual TLS now"
	}
	if by, cut := c.cutOff(); cut {
		return fmt.Sprintf("%s is STRICT and refuses it now; to let it in again, %s", by, c.remedy())
	}
	return c.remedy()
}

// cutOff reports whether the server takes no plaintext any more, and by which
// object.
func (c cause) cutOff() (by mesh.Origin, cut bool) {
	wl := c.w.Workload(c.Destination.Workload)
	if wl == nil || c.Open > 0 {
		return by, false
	}
	s := policy.ServerMode(c.w, wl, c.Port)
	return s.Origin, s.Mode == mesh.ModeStrict
}

// remedy is what the client needs.
func (c cause) remedy() string {
	from := c.Source
	switch {
	case from.Kind == KindHost:
		return "processes of a host and pods on its network have no sidecar: call from a pod of the mesh, or through an ingress gateway"
	case from.Kind == KindUnknown:
		return "nobody knows any more whose address it was: see with hasp connections who it is when it comes again"
	case from.Kind != KindWorkload && from.Kind != KindGateway:
		return "the client is outside the mesh: let it call through an ingress gateway, which speaks mutual TLS to " + c.Destination.String()
	case !from.Meshed && !c.meshedNow():
		return c.sidecarFor(from)
	case c.client == nil && c.later():
		return fmt.Sprintf("%s has a sidecar now: its next connection will show", from)
	case c.Security == mesh.PassedTLS:
		return fmt.Sprintf("the application speaks TLS of its own: let it speak plaintext to %s and its sidecar will encrypt, or keep port %d out of STRICT with portLevelMtls", c.Destination, c.Port)
	case c.server == nil && c.answers(c.Destination.Workload) && !c.fresh():
		return fmt.Sprintf("the proxy of %s did not see it: take port %d out of the annotation traffic.sidecar.istio.io/excludeInboundPorts of its pods, if it is there, and see with hasp verify what bypasses the proxy", c.Destination, c.Port)
	case c.client == nil && c.answers(from.Workload) && !c.fresh():
		return fmt.Sprintf("the proxy of %s did not see it: take port %d, or the server's addresses, out of the annotations traffic.sidecar.istio.io/excludeOutboundPorts and excludeOutboundIPRanges of its pods", from, c.Port)
	case c.client != nil && c.client.edge.Service == "":
		return fmt.Sprintf("the client calls an address that no service claims: call %s by the name of a Service", c.Destination)
	}
	return c.fixClient()
}

// fresh reports whether an end may be about to tell of it.
func (c cause) fresh() bool { return c.f.At.Sub(c.First) < patience }

// meshedNow reports whether a pod that is no more was replaced by some that have
// proxies.
func (c cause) meshedNow() bool {
	id := c.Source.ID()
	return c.w.Workload(c.Source.Workload) == nil && c.present[id] && !c.bare[id]
}

// later reports whether the client's proxies came after the plaintext.
func (c cause) later() bool {
	r := c.reporters[c.Source.Workload]
	return r == nil || r.Since.After(c.Last)
}

// sidecarFor is how a client gets a sidecar. A bare pod that has ended calls
// nobody, but its like may come again.
func (s *scene) sidecarFor(p Party) string {
	if p.Workload != "" && p.Workload == p.ID() && s.w.Workload(p.Workload) == nil {
		return fmt.Sprintf(`make %s, whose pod has ended, anew with the label sidecar.istio.io/inject: "true"`, p)
	}
	return giveSidecar(p)
}

// giveSidecar is how a workload gets one.
func giveSidecar(p Party) string {
	switch p.Workload {
	case "":
		return p.String() + " is no pod, and cannot have one"
	case p.ID():
		return fmt.Sprintf(`give %s a sidecar: make its pod anew with the label sidecar.istio.io/inject: "true"`, p)
	}
	return fmt.Sprintf(`give %s a sidecar, with the label sidecar.istio.io/inject: "true" on its pods: kubectl -n %s patch deployment %s -p '{"spec":{"template":{"metadata":{"labels":{"sidecar.istio.io/inject":"true"}}}}}'`,
		p, p.Namespace, p.Owner)
}

// fixClient is what a client's settings need, that has a proxy and spoke
// plaintext all the same.
func (c cause) fixClient() string {
	wl := c.w.Workload(c.Source.Workload)
	svc, port := c.calledService()
	if wl == nil || svc == nil {
		return "the pod or the service is no more: it need not come again"
	}
	tls := policy.ClientTLS(c.w, wl, wl.Namespace, svc, port, "")
	switch {
	case tls.Set && tls.Mode != mesh.ClientIstioMutual:
		return fmt.Sprintf("%s says tls.mode %s: change it to ISTIO_MUTUAL (kubectl -n %s edit destinationrule %s)", tls.Origin, tls.Mode, tls.Origin.Namespace, tls.Origin.Name)
	case !tls.Set && !tls.Auto && c.w.Mesh.EnableAutoMtls:
		server := policy.ServiceMode(c.w, svc, port)
		if server.Mode == mesh.ModeDisable {
			return fmt.Sprintf("%s says DISABLE: change it to PERMISSIVE, and clients speak mutual TLS (kubectl -n %s edit %s %s)",
				server.Origin, server.Origin.Namespace, strings.ToLower(server.Origin.Kind), server.Origin.Name)
		}
	case !tls.Set && !tls.Auto && tls.Origin.Name != "":
		return fmt.Sprintf("auto mTLS is off and %s sets no tls: set its trafficPolicy.tls.mode to ISTIO_MUTUAL (kubectl -n %s edit destinationrule %s), or turn enableAutoMtls on", tls.Origin, tls.Origin.Namespace, tls.Origin.Name)
	case !tls.Set && !tls.Auto:
		return fmt.Sprintf("auto mTLS is off and no rule asks for TLS: turn enableAutoMtls on, or apply a DestinationRule in namespace %s with spec {host: %s, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}", svc.Namespace, svc.Hostname)
	}
	if c.Open > 0 {
		return "its settings ask for mutual TLS now: the connections made before stay plaintext until they end, so restart the client"
	}
	return "its settings ask for mutual TLS now: its next connection will show"
}

// calledService is the service and its port that the client called.
func (c cause) calledService() (*mesh.Service, uint16) {
	if c.client != nil {
		return c.service(c.client.edge), c.client.edge.Port
	}
	to := c.w.Workload(c.Destination.Workload)
	if to == nil {
		return nil, 0
	}
	for _, svc := range c.w.ServicesOf(to) {
		for _, p := range svc.Ports {
			if n, ok := p.On(to); ok && n == c.Port {
				return svc, p.Number
			}
		}
	}
	return nil, 0
}
