// Package mesh holds the nouns of the mesh: workloads, services, endpoints, the
// configuration of one proxy and the facts about one connection. It decides
// nothing (package policy does), translates nothing (package compile does) and
// imports nothing of ours, so that the sidecar can link it and stay small.
//
// Start with [ProxyConfig]: it is everything a proxy is told, and what the
// xds package carries over the wire.
package mesh

import (
	"net/netip"
	"strings"
)

// Mode is how a server treats callers: the words of Istio's
// PeerAuthentication.MutualTLS.Mode. The zero value means that nothing sets it.
// A proxy serves ModeUnset as PERMISSIVE and any word it does not know as
// STRICT.
type Mode string

const (
	ModeUnset      Mode = ""
	ModeDisable    Mode = "DISABLE"
	ModePermissive Mode = "PERMISSIVE"
	ModeStrict     Mode = "STRICT"
)

// ClientMode is what a client speaks to a destination: the words of Istio's
// DestinationRule ClientTLSSettings.TLSmode. The zero value means that no rule
// sets it.
type ClientMode string

const (
	ClientUnset       ClientMode = ""
	ClientDisable     ClientMode = "DISABLE"
	ClientSimple      ClientMode = "SIMPLE"
	ClientMutual      ClientMode = "MUTUAL"
	ClientIstioMutual ClientMode = "ISTIO_MUTUAL"
)

// Protocol is the application protocol of a port, in lower case as in Istio's
// port names and appProtocol: "http", "http2", "grpc", "https", "tls", "tcp",
// "mongo", "mysql", "redis", "udp". Unknown names are "tcp".
type Protocol string

const (
	HTTP  Protocol = "http"
	HTTP2 Protocol = "http2"
	GRPC  Protocol = "grpc"
	HTTPS Protocol = "https"
	TLS   Protocol = "tls"
	TCP   Protocol = "tcp"
	Mongo Protocol = "mongo"
	MySQL Protocol = "mysql"
	Redis Protocol = "redis"
	UDP   Protocol = "udp"
)

// Levels at which an object can decide, most specific first.
const (
	LevelPort      = "port"
	LevelWorkload  = "workload"
	LevelService   = "service"
	LevelNamespace = "namespace"
	LevelMesh      = "mesh"
	LevelAuto      = "auto" // auto mTLS, no object
)

// Origin names the object that decided something and at which level. The zero
// value means that no object did.
type Origin struct {
	Kind      string `json:"kind,omitempty"` // "Policy", "DestinationRule", ...
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	Level     string `json:"level,omitempty"`
}

// Ref is NAMESPACE/NAME as istioctl prints it ("/default" for a cluster-scoped
// object), or "-" when no object decided.
func (o Origin) Ref() string {
	if o.Name == "" {
		return "-"
	}
	return o.Namespace + "/" + o.Name
}

// String is the origin for a person: "Policy microservices-demo/default (namespace)".
func (o Origin) String() string {
	if o.Name == "" {
		return "default"
	}
	if o.Level == "" {
		return o.Kind + " " + o.Ref()
	}
	return o.Kind + " " + o.Ref() + " (" + o.Level + ")"
}

// Role is what a proxy is to its workload.
type Role string

const (
	RoleNone    Role = ""        // the workload has no proxy
	RoleSidecar Role = "sidecar" // captures the workload's traffic
	RoleGateway Role = "gateway" // serves Gateway objects; no capture
)

// Workload is one running instance: a pod, or what plays one. With manifests
// alone (no mesh running) it stands for the pods of a Deployment.
type Workload struct {
	Namespace      string            `json:"namespace"`
	Name           string            `json:"name"`            // the pod's name
	Owner          string            `json:"owner,omitempty"` // the Deployment's name, if any
	ServiceAccount string            `json:"serviceAccount"`
	Labels         map[string]string `json:"labels,omitempty"`
	Addresses      []netip.Addr      `json:"addresses,omitempty"`
	Ports          []WorkloadPort    `json:"ports,omitempty"`
	Role           Role              `json:"role,omitempty"`
	Ready          bool              `json:"ready"`
	// HostNetwork pods share their address with the node and never have a sidecar.
	HostNetwork bool `json:"hostNetwork,omitempty"`
}

// WorkloadPort is a port a workload's containers declare.
type WorkloadPort struct {
	Name   string `json:"name,omitempty"`
	Number uint16 `json:"number"`
}

// Key is NAMESPACE/NAME.
func (w *Workload) Key() string { return w.Namespace + "/" + w.Name }

// Identity is the workload's SPIFFE ID,
// spiffe://<trust domain>/ns/<namespace>/sa/<service account>.
func (w *Workload) Identity(trustDomain string) string {
	return Identity(trustDomain, w.Namespace, w.ServiceAccount)
}

// Identity is the SPIFFE ID of a service account, as Istio writes it.
// An empty account is "default".
func Identity(trustDomain, namespace, account string) string {
	if account == "" {
		account = "default"
	}
	return "spiffe://" + trustDomain + "/ns/" + namespace + "/sa/" + account
}

// ParseIdentity takes an identity of the form that Identity writes apart.
func ParseIdentity(id string) (trustDomain, namespace, account string, ok bool) {
	rest, ok := strings.CutPrefix(id, "spiffe://")
	if !ok {
		return "", "", "", false
	}
	p := strings.Split(rest, "/")
	if len(p) != 5 || p[1] != "ns" || p[3] != "sa" || p[0] == "" || p[2] == "" || p[4] == "" {
		return "", "", "", false
	}
	return p[0], p[2], p[4], true
}

// Who hasp verify shows itself as: a good certificate is of the service account
// VerifierAccount, in the root namespace, and one of another trust domain is of
// StrangerDomain, which no mesh can have (RFC 2606).
const (
	VerifierAccount = "hasp-verify"
	StrangerDomain  = "hasp-verify.invalid"
)

// OfVerifier is whether an identity is one that hasp verify shows.
func OfVerifier(id, rootNamespace string) bool {
	domain, namespace, account, ok := ParseIdentity(id)
	return ok && (domain == StrangerDomain || namespace == rootNamespace && account == VerifierAccount)
}

// Nobodys are addresses that nobody has (RFC 5737, RFC 3849): a connection there
// comes about only if it is captured. hasp tries them to see whether it is.
func Nobodys() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
}

// Service is a name that clients call: a Kubernetes Service or one host of a
// ServiceEntry.
type Service struct {
	Namespace string            `json:"namespace"`
	Name      string            `json:"name"`     // object's name
	Hostname  string            `json:"hostname"` // boards.shop.svc.cluster.local
	Labels    map[string]string `json:"labels,omitempty"`
	// Addresses are the virtual addresses; none for a headless service.
	Addresses []netip.Addr  `json:"addresses,omitempty"`
	Ports     []ServicePort `json:"ports"`
	// Endpoints that can be called: the ready ones, and of a headless service
	// all, since its clients have chosen one when they call.
	Endpoints []Endpoint `json:"endpoints,omitempty"`
	Headless  bool       `json:"headless,omitempty"`
	// External is true for a ServiceEntry with location MESH_EXTERNAL, and for
	// an ExternalName service.
	External bool `json:"external,omitempty"`
	// Resolution is the ServiceEntry's: NONE, STATIC, DNS. Empty for a Service.
	Resolution string `json:"resolution,omitempty"`
	// SubjectAltNames, from a ServiceEntry, are what the servers must present.
	SubjectAltNames []string `json:"subjectAltNames,omitempty"`
	// ExportTo lists namespaces that see the service; empty or "*" means all,
	// "." its own.
	ExportTo []string `json:"exportTo,omitempty"`
	// Selector picks the workloads of a Kubernetes Service.
	Selector map[string]string `json:"selector,omitempty"`
}

// ServicePort is a port of a service.
type ServicePort struct {
	Name     string   `json:"name,omitempty"`
	Number   uint16   `json:"number"`
	Protocol Protocol `json:"protocol"`
	// TargetPort is the port on the workloads when it is a number, 0 when
	// TargetName has to be looked up in each workload.
	TargetPort uint16 `json:"targetPort,omitempty"`
	TargetName string `json:"targetName,omitempty"`
}

// On is the port of a workload behind the service port, and false when the
// workload declares no port of the name the service gives.
func (p ServicePort) On(w *Workload) (uint16, bool) {
	switch {
	case p.TargetPort != 0:
		return p.TargetPort, true
	case p.TargetName == "":
		return p.Number, true
	}
	for _, wp := range w.Ports {
		if wp.Name == p.TargetName {
			return wp.Number, true
		}
	}
	return 0, false
}

// Endpoint is one address behind one port of a service.
type Endpoint struct {
	// ServicePort is the service's port this endpoint serves.
	ServicePort uint16 `json:"servicePort"`
	// Addr is the address, or invalid when Host must be resolved by DNS.
	Addr netip.Addr `json:"addr,omitzero"`
	Host string     `json:"host,omitempty"`
	Port uint16     `json:"port"` // on the workload
	// Workload is NAMESPACE/NAME of the workload, empty for an address outside
	// the mesh.
	Workload string `json:"workload,omitempty"`
	Identity string `json:"identity,omitempty"` // SPIFFE ID
	// Sidecar is true when a proxy of the mesh terminates TLS there
	// (tlsMode=istio in Istio's endpoint metadata).
	Sidecar bool              `json:"sidecar,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
}
