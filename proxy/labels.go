package proxy

import (
	"net/netip"
	"strings"

	"hasp/mesh"
)

// labels are Istio's standard labels that all its series carry here, in the
// order of labelNames.
// https://istio.io/latest/docs/reference/config/metrics/
type labels struct {
	Reporter            string
	Source, Destination end
	Service             string
	ServiceName         string
	ServiceNamespace    string
	Protocol            string
	Security            string
}

// end is the client or the server.
type end struct {
	Namespace, Principal string
	mesh.Names
}

// homeCluster is the name of the only cluster there is, as Istio calls it.
const homeCluster = "Kubernetes"

var labelNames = []string{
	"reporter",
	"source_workload", "source_workload_namespace", "source_principal",
	"source_app", "source_version", "source_canonical_service", "source_canonical_revision", "source_cluster",
	"destination_workload", "destination_workload_namespace", "destination_principal",
	"destination_app", "destination_version", "destination_canonical_service", "destination_canonical_revision", "destination_cluster",
	"destination_service", "destination_service_name", "destination_service_namespace",
	"request_protocol", "connection_security_policy",
}

func (e *end) values() []string {
	cluster := ""
	if e.Namespace != "" {
		cluster = homeCluster
	}
	return []string{e.Owner, e.Namespace, e.Principal, e.App, e.Version, e.Service, e.Revision, cluster}
}

func (l *labels) values() []string {
	out := append([]string{l.Reporter}, l.Source.values()...)
	out = append(out, l.Destination.values()...)
	out = append(out, l.Service, l.ServiceName, l.ServiceNamespace, l.Protocol, l.Security)
	for i, v := range out {
		if v == "" {
			out[i] = "unknown"
		}
	}
	return out
}

// connectionLabels says who called whom, seen from the proxy at either end.
func connectionLabels(s *settings, f *mesh.Connection) labels {
	l := labels{Protocol: "tcp", Security: securityLabel(f.Security)}
	if speaksHTTP(f.Protocol) {
		l.Protocol = "http" // a request of gRPC says so itself
	}
	self := end{Names: s.config.Names}
	var selfName string
	if self.Namespace, selfName = workload(s.config.Node, f.LocalIdentity); self.Owner == "" {
		self.Owner = selfName
	}
	if f.Security == mesh.MutualTLS {
		self.Principal = f.LocalIdentity
	}
	if f.Direction == mesh.InboundDir {
		l.Reporter, l.Source, l.Destination = "destination", peerEnd(s, f, f.Source.Addr()), self
	} else {
		l.Reporter, l.Source, l.Destination = "source", self, peerEnd(s, f, f.Upstream.Addr())
	}
	l.Service = f.Service
	if l.Service == "" {
		l.Service = f.Cluster // PassthroughCluster, as Istio has it
	}
	l.ServiceName, l.ServiceNamespace = splitHost(l.Service)
	return l
}

// speaksHTTP tells whether requests are looked for on a port.
func speaksHTTP(p mesh.Protocol) bool {
	return p == mesh.HTTP || p == mesh.HTTP2 || p == mesh.GRPC
}

// peerEnd is the other end, by the directory where it has the address.
func peerEnd(s *settings, f *mesh.Connection, addr netip.Addr) end {
	e := end{Principal: f.PeerIdentity}
	var name string
	e.Namespace, name = workload(f.PeerWorkload, f.PeerIdentity)
	p, ok := s.peers[addr.Unmap()]
	if !ok {
		p = s.names[addr.Unmap()]
	}
	if p.Workload != "" && p.Workload == f.PeerWorkload {
		e.Names = p.Names
	}
	if e.Owner == "" {
		e.Owner = name
	}
	return e
}

// securityLabel is Istio's word: TLS that the mesh did not authenticate
// mutually is "none" there.
func securityLabel(s mesh.Security) string {
	switch s {
	case mesh.MutualTLS:
		return "mutual_tls"
	case mesh.Unknown:
		return "unknown"
	}
	return "none"
}

// workload takes NAMESPACE/NAME apart and makes the pod's name its owner's. An
// unknown workload with an identity is at least of that namespace.
func workload(key, identity string) (namespace, name string) {
	namespace, name, ok := strings.Cut(key, "/")
	if ok {
		return namespace, ownerName(name)
	}
	_, namespace, _, _ = mesh.ParseIdentity(identity)
	return namespace, ""
}

// suffixAlphabet is what Kubernetes makes random name suffixes of: no vowels
// and none of 0, 1, 3, so that no words come out.
// https://github.com/kubernetes/apimachinery/blob/master/pkg/util/rand/rand.go
const suffixAlphabet = "bcdfghjklmnpqrstvwxz2456789"

// ownerName is the Deployment's name in a pod's name, NAME-HASH-RANDOM, and the
// name itself for any other. Istio's labels name the owner: a pod a label would
// have no bound.
func ownerName(pod string) string {
	rest, random, ok := cutLast(pod)
	if !ok || len(random) != 5 || strings.Trim(random, suffixAlphabet) != "" {
		return pod
	}
	owner, hash, ok := cutLast(rest)
	if !ok || len(hash) < 6 || len(hash) > 10 || strings.Trim(hash, suffixAlphabet) != "" {
		return pod
	}
	return owner
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '-')
	if i <= 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// splitHost takes the name and namespace out of NAME.NAMESPACE.svc.DOMAIN; any
// other host is its own name.
func splitHost(host string) (name, namespace string) {
	parts := strings.SplitN(host, ".", 4)
	if len(parts) >= 3 && parts[2] == "svc" {
		return parts[0], parts[1]
	}
	return host, ""
}
