package source

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"hasp/api"
	"hasp/mesh"
)

// exportToKey is Istio's annotation of a Service with the namespaces that see it.
const exportToKey = "networking.istio.io/exportTo"

// service is a Service without what is behind it.
func service(s *corev1.Service) *mesh.Service {
	namespace := cmp.Or(s.Namespace, "default")
	svc := &mesh.Service{
		Namespace: namespace, Name: s.Name, Labels: s.Labels,
		Hostname: s.Name + "." + namespace + ".svc." + api.DomainSuffix,
		Headless: s.Spec.ClusterIP == corev1.ClusterIPNone,
		Selector: s.Spec.Selector,
		ExportTo: exportTo(s.Annotations[exportToKey]),
	}
	for _, ip := range append(slices.Clone(s.Spec.ClusterIPs), s.Spec.ClusterIP) {
		if a, err := netip.ParseAddr(ip); err == nil && !slices.Contains(svc.Addresses, a) {
			svc.Addresses = append(svc.Addresses, a)
		}
	}
	for _, p := range s.Spec.Ports {
		if p.Protocol == "" || p.Protocol == corev1.ProtocolTCP {
			svc.Ports = append(svc.Ports, servicePort(p))
		}
	}
	return svc
}

func servicePort(p corev1.ServicePort) mesh.ServicePort {
	sp := mesh.ServicePort{Name: p.Name, Number: uint16(p.Port)}
	if p.AppProtocol != nil {
		sp.Protocol = protocol(*p.AppProtocol)
	} else {
		sp.Protocol = protocol(p.Name)
	}
	switch {
	case p.TargetPort.Type == intstr.String && p.TargetPort.StrVal != "":
		sp.TargetName = p.TargetPort.StrVal
	case p.TargetPort.IntVal != 0:
		sp.TargetPort = uint16(p.TargetPort.IntVal)
	default:
		sp.TargetPort = uint16(p.Port)
	}
	return sp
}

// protocol reads Istio's port naming, <protocol>[-<suffix>], and appProtocol's
// standard names. What it does not know is TCP.
func protocol(name string) mesh.Protocol {
	name = strings.ToLower(name)
	switch name {
	case "kubernetes.io/h2c":
		return mesh.HTTP2
	case "kubernetes.io/ws", "grpc-web":
		return mesh.HTTP
	}
	word, _, _ := strings.Cut(name, "-")
	switch p := mesh.Protocol(word); p {
	case mesh.HTTP, mesh.HTTP2, mesh.GRPC, mesh.HTTPS, mesh.TLS, mesh.Mongo, mesh.MySQL, mesh.Redis:
		return p
	}
	return mesh.TCP
}

// endpoints of one workload: one for each port and address. A workload without
// an address (a manifest's) gives one without an address.
func endpoints(svc *mesh.Service, w *mesh.Workload, trustDomain string) []mesh.Endpoint {
	addrs := w.Addresses
	if len(addrs) == 0 {
		addrs = []netip.Addr{{}}
	}
	var out []mesh.Endpoint
	for _, p := range svc.Ports {
		port, ok := p.On(w)
		if !ok {
			continue
		}
		for _, a := range addrs {
			out = append(out, endpointOf(w, trustDomain, mesh.Endpoint{ServicePort: p.Number, Addr: a, Port: port}))
		}
	}
	return out
}

// endpointOf fills in who is at the endpoint.
func endpointOf(w *mesh.Workload, trustDomain string, e mesh.Endpoint) mesh.Endpoint {
	e.Workload, e.Labels, e.Sidecar = w.Key(), w.Labels, w.Role == mesh.RoleSidecar
	if w.Role != mesh.RoleNone {
		e.Identity = w.Identity(trustDomain)
	}
	return e
}

// samePlace: one endpoint that was found in two ways.
func samePlace(a, b mesh.Endpoint) bool {
	return a.ServicePort == b.ServicePort && a.Addr == b.Addr && a.Host == b.Host && a.Port == b.Port
}

// ofFamilies keeps the endpoints whose address is of one of the families, since
// a Service with virtual addresses of one family leads to addresses of that
// family only. A manifest may leave the families to the API server.
func ofFamilies(list []mesh.Endpoint, families []corev1.IPFamily) []mesh.Endpoint {
	if len(families) == 0 {
		return list
	}
	return slices.DeleteFunc(list, func(e mesh.Endpoint) bool {
		family := corev1.IPv6Protocol
		if e.Addr.Unmap().Is4() {
			family = corev1.IPv4Protocol
		}
		return e.Addr.IsValid() && !slices.Contains(families, family)
	})
}

func sortEndpoints(list []mesh.Endpoint) {
	slices.SortStableFunc(list, func(a, b mesh.Endpoint) int {
		return cmp.Or(cmp.Compare(a.ServicePort, b.ServicePort), a.Addr.Compare(b.Addr), cmp.Compare(a.Host, b.Host),
			cmp.Compare(a.Port, b.Port), cmp.Compare(a.Workload, b.Workload))
	})
}

func exportTo(annotation string) []string {
	if annotation == "" {
		return nil
	}
	var out []string
	for _, s := range strings.Split(annotation, ",") {
		out = append(out, strings.TrimSpace(s))
	}
	return out
}

// selects: an empty selector picks nothing, as for a Kubernetes Service.
func selects(selector, labels map[string]string) bool {
	if len(selector) == 0 {
		return false
	}
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return true
}
