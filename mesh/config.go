package mesh

import "net/netip"

// ProxyConfig is everything one proxy is told. It is a value: built once by
// package compile, carried by package xds, swapped in whole by package proxy.
// Slices are sorted, so that equal configurations are deeply equal.
type ProxyConfig struct {
	// Generation of the World it was compiled from. It travels beside the xDS
	// resources, not in them, so that an unchanged resource stays unchanged.
	Generation uint64 `json:"generation"`

	Node        string `json:"node"`     // NAMESPACE/NAME of the workload
	Identity    string `json:"identity"` // its SPIFFE ID
	TrustDomain string `json:"trustDomain"`
	Role        Role   `json:"role"`
	// Names are what metrics call the workload.
	Names Names `json:"names,omitzero"`
	// MinTLS between proxies of the mesh: "1.3" (also when empty) or "1.2",
	// from MeshConfig.meshMTLS.minProtocolVersion.
	MinTLS string `json:"minTLS,omitempty"`
	// Settings of the proxy itself.
	Settings Settings `json:"settings,omitzero"`

	Inbound  Inbound  `json:"inbound"`
	Outbound Outbound `json:"outbound"`
	Gateway  []Server `json:"gateway,omitempty"` // role gateway only
	Secrets  []Secret `json:"secrets,omitempty"` // what Gateway refers to
	Peers    []Peer   `json:"peers,omitempty"`   // by Addr

	// OnDemand: of listeners with an address, of their clusters and of the peers
	// there are only those that the proxy asked for. What it did not ask for is
	// unknown, which is not the same as absent.
	OnDemand bool `json:"onDemand,omitempty"`
}

// Inbound is how the proxy treats callers of its workload.
type Inbound struct {
	// Default is for every port not listed; its Port is 0.
	Default InboundPort   `json:"default"`
	Ports   []InboundPort `json:"ports,omitempty"` // by Port
	// Authorization of callers, on top of the mode.
	Authorization Authorization `json:"authorization,omitzero"`
}

// InboundPort is one port of the workload.
type InboundPort struct {
	Port     uint16   `json:"port"`
	Mode     Mode     `json:"mode"`
	Origin   Origin   `json:"origin"` // what decided Mode
	Protocol Protocol `json:"protocol"`
	// Service is the hostname the port belongs to, for metrics and the log.
	Service string `json:"service,omitempty"`
}

// Outbound is how the proxy treats connections its workload makes.
type Outbound struct {
	// AllowAny lets connections to addresses no service claims pass through as
	// they are (MeshConfig.outboundTrafficPolicy ALLOW_ANY); otherwise they are
	// reset (REGISTRY_ONLY).
	AllowAny  bool       `json:"allowAny"`
	Listeners []Listener `json:"listeners,omitempty"` // by Addr, Port
	Clusters  []Cluster  `json:"clusters,omitempty"`  // by Name
}

// Listener sends what is addressed to Addr:Port to a cluster.
type Listener struct {
	// Addr is a service's virtual address, or, for a headless service, an
	// endpoint's own address. The invalid Addr matches any address (a
	// ServiceEntry without addresses).
	Addr    netip.Addr `json:"addr,omitzero"`
	Port    uint16     `json:"port"`
	Cluster string     `json:"cluster"`
}

// Cluster is one port of one service (and subset) as this proxy sees it.
type Cluster struct {
	// Name in Istio's form: outbound|8080||boards.shop.svc.cluster.local
	Name      string   `json:"name"`
	Hostname  string   `json:"hostname"`
	Namespace string   `json:"namespace,omitempty"`
	Port      uint16   `json:"port"`
	Subset    string   `json:"subset,omitempty"`
	Protocol  Protocol `json:"protocol"`
	// OriginalDst: go to the address the workload dialled, using the matching
	// endpoint for identity and TLS (headless services, resolution NONE).
	OriginalDst bool       `json:"originalDst,omitempty"`
	TLS         ClientTLS  `json:"tls"`
	Endpoints   []Endpoint `json:"endpoints,omitempty"` // by Addr, Host, Port
}

// ClientTLS is what the proxy speaks to a cluster.
type ClientTLS struct {
	Mode ClientMode `json:"mode,omitempty"`
	// Auto (only with ClientUnset): mutual TLS with mesh certificates to
	// endpoints that have a sidecar, plaintext to the others.
	Auto bool   `json:"auto,omitempty"`
	SNI  string `json:"sni,omitempty"`
	// SubjectAltNames the server must present one of. For mesh certificates
	// (ISTIO_MUTUAL, Auto) they are SPIFFE IDs; when empty there, the chosen
	// endpoint's Identity is required.
	SubjectAltNames []string `json:"subjectAltNames,omitempty"`
	// Files of SIMPLE and MUTUAL, as the DestinationRule names them.
	CACertificates     string `json:"caCertificates,omitempty"`
	ClientCertificate  string `json:"clientCertificate,omitempty"`
	PrivateKey         string `json:"privateKey,omitempty"`
	InsecureSkipVerify bool   `json:"insecureSkipVerify,omitempty"`
	Origin             Origin `json:"origin"` // what decided Mode
}

// Server is one port a gateway listens on.
type Server struct {
	Name     string   `json:"name,omitempty"`
	Port     uint16   `json:"port"`
	Protocol Protocol `json:"protocol"` // HTTP or HTTPS
	Hosts    []string `json:"hosts"`
	// Secret names the server certificate: a Secret of this configuration, or
	// "default" for the gateway's own SVID. Empty for plain HTTP.
	Secret string `json:"secret,omitempty"`
	// MutualCA, when true (tls mode MUTUAL), requires a client certificate that
	// the Secret's CA signed.
	Mutual        bool        `json:"mutual,omitempty"`
	HTTPSRedirect bool        `json:"httpsRedirect,omitempty"`
	Routes        []HTTPRoute `json:"routes,omitempty"` // in order, first match wins
	Origin        Origin      `json:"origin"`           // the Gateway
}

// HTTPRoute sends requests that match to clusters.
type HTTPRoute struct {
	Hosts   []string         `json:"hosts"`             // of the VirtualService: exact, "*", "*.suffix"
	Matches []HTTPMatch      `json:"matches,omitempty"` // any; none matches all
	To      []WeightedTarget `json:"to"`
	Rewrite string           `json:"rewrite,omitempty"` // new path prefix
	Origin  Origin           `json:"origin"`            // the VirtualService
}

// HTTPMatch is a conjunction; an empty field matches everything.
type HTTPMatch struct {
	PathExact  string `json:"pathExact,omitempty"`
	PathPrefix string `json:"pathPrefix,omitempty"`
	PathRegex  string `json:"pathRegex,omitempty"` // RE2, whole path
	Method     string `json:"method,omitempty"`
}

// WeightedTarget is a cluster and its share; all weights 0 means equal shares.
type WeightedTarget struct {
	Cluster string `json:"cluster"`
	Weight  int    `json:"weight,omitempty"`
}

// Secret is a server certificate for a gateway (from a Kubernetes TLS Secret).
type Secret struct {
	Name string `json:"name"` // kubernetes://NAME
	Cert []byte `json:"-"`    // PEM chain
	Key  []byte `json:"-"`    // PEM
	CA   []byte `json:"-"`    // PEM, for Mutual
}

// Peer is an address of the mesh: who is behind it and whether it speaks TLS.
// It is a hint (STRICT ignores it) and names callers in the log.
type Peer struct {
	Addr     netip.Addr `json:"addr"`
	Workload string     `json:"workload"` // NAMESPACE/NAME
	Identity string     `json:"identity"`
	Sidecar  bool       `json:"sidecar"`
	Names    Names      `json:"names,omitzero"`
}

// Names of the workload. The canonical ones are read from its labels in Istio's
// order.
func (w *Workload) Names() Names {
	first := func(fallback string, keys ...string) string {
		for _, k := range keys {
			if v := w.Labels[k]; v != "" {
				return v
			}
		}
		return fallback
	}
	owner := w.Owner
	if owner == "" {
		owner = w.Name
	}
	return Names{
		Owner: owner, App: w.Labels["app"], Version: w.Labels["version"],
		Service:  first(owner, "service.istio.io/canonical-name", "app.kubernetes.io/name", "app"),
		Revision: first("latest", "service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"),
	}
}

// Bootstrap is what starts a proxy: where its control plane is and how it
// proves itself there the first time. It is written to the proxy by whoever
// starts it, on an inherited file descriptor, because it carries a secret.
type Bootstrap struct {
	Node     string `json:"node"`     // NAMESPACE/NAME
	Identity string `json:"identity"` // expected SPIFFE ID
	Role     Role   `json:"role"`
	// ControlPlane is HOST:PORT of xDS and CA (15012); ControlPlaneID the
	// SPIFFE ID it must present.
	ControlPlane   string `json:"controlPlane"`
	ControlPlaneID string `json:"controlPlaneID"`
	// Roots is PEM: what signs the control plane and the workloads.
	Roots string `json:"roots"`
	// Token proves the identity once: a join token, or a ServiceAccount token.
	Token string `json:"token"`
	// TokenFile and RootsFile stand for Token and Roots where something keeps
	// them fresh in files (a projected volume): read anew for each use.
	TokenFile string `json:"tokenFile,omitempty"`
	RootsFile string `json:"rootsFile,omitempty"`
	// CA is HOST:PORT of the certificate service when it is not the control
	// plane (cert-manager's istio-csr); CAName the DNS name it must present then.
	CA     string `json:"ca,omitempty"`
	CAName string `json:"caName,omitempty"`
	// Probes are the kubelet's questions to the workload.
	Probes []Probe `json:"probes,omitempty"`
	// CertLifetime asked for, in seconds; 0 leaves it to the CA.
	CertLifetime int `json:"certLifetime,omitempty"`
	// Mark is set on every socket the proxy opens itself, so that capture lets
	// it pass; 0 sets none (capture then goes by user id).
	Mark int `json:"mark,omitempty"`
	// Inherited maps a gateway's port to the number of an inherited file
	// descriptor that already listens for it.
	Inherited map[uint16]int `json:"inherited,omitempty"`
	// Ports of the proxy; 0 takes Istio's: 15001, 15006, 15000, 15021, 15090.
	OutboundPort uint16 `json:"outboundPort,omitempty"`
	InboundPort  uint16 `json:"inboundPort,omitempty"`
	AdminPort    uint16 `json:"adminPort,omitempty"`
	HealthPort   uint16 `json:"healthPort,omitempty"`
	MetricsPort  uint16 `json:"metricsPort,omitempty"`
}
