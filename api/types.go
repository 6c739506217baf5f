package api

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Policy is authentication.istio.io/v1alpha1 Policy (Istio 1.0 to 1.5): how the
// services of a namespace authenticate their callers.
type Policy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              PolicySpec `json:"spec"`
}

// MeshPolicy is the cluster-scoped twin of Policy; only the one named "default"
// is read.
type MeshPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              PolicySpec `json:"spec"`
}

// PolicySpec is istio.authentication.v1alpha1.Policy.
type PolicySpec struct {
	// Targets are the services it is for; none means all of its scope.
	Targets          []Target       `json:"targets,omitempty"`
	Peers            []PeerMethod   `json:"peers,omitempty"`
	PeerIsOptional   bool           `json:"peerIsOptional,omitempty"`
	Origins          []OriginMethod `json:"origins,omitempty"`
	OriginIsOptional bool           `json:"originIsOptional,omitempty"`
	PrincipalBinding string         `json:"principalBinding,omitempty"`
}

// Target names a service by its short name, and some of its ports.
type Target struct {
	Name  string         `json:"name"`
	Ports []PortSelector `json:"ports,omitempty"`
}

// PortSelector is a service port, by number or by name.
type PortSelector struct {
	Number uint32 `json:"number,omitempty"`
	Name   string `json:"name,omitempty"`
}

// PeerMethod is one way to authenticate the peer. HasMTLS is true when the key
// "mtls" stands in it, even with a null value (which means STRICT). Its JSON
// form is in peer_json.go.
type PeerMethod struct {
	HasMTLS  bool   `json:"-"`
	AllowTLS bool   `json:"-"`
	MTLSMode string `json:"-"` // "STRICT" (also when not written) or "PERMISSIVE"
	HasJWT   bool   `json:"-"`
}

// OriginMethod is one way to authenticate the end user; hasp validates it and
// does not enforce it yet.
type OriginMethod struct {
	JWT *JWT `json:"jwt,omitempty"`
}

// JWT is istio.authentication.v1alpha1.Jwt.
type JWT struct {
	Issuer     string   `json:"issuer,omitempty"`
	Audiences  []string `json:"audiences,omitempty"`
	JwksURI    string   `json:"jwksUri,omitempty"`
	Jwks       string   `json:"jwks,omitempty"`
	JwtHeaders []string `json:"jwtHeaders,omitempty"`
	JwtParams  []string `json:"jwtParams,omitempty"`
	// TriggerRules say for which paths a token is looked at; none means all.
	TriggerRules []TriggerRule `json:"triggerRules,omitempty"`
}

// TriggerRule is istio.authentication.v1alpha1.Jwt.TriggerRule: it fires when
// the path is in none of ExcludedPaths and IncludedPaths is empty or has it.
type TriggerRule struct {
	ExcludedPaths []StringMatch `json:"excludedPaths,omitempty"`
	IncludedPaths []StringMatch `json:"includedPaths,omitempty"`
}

// StringMatch is istio.authentication.v1alpha1.StringMatch; one field is set.
type StringMatch struct {
	Exact  string `json:"exact,omitempty"`
	Prefix string `json:"prefix,omitempty"`
	Suffix string `json:"suffix,omitempty"`
	Regex  string `json:"regex,omitempty"`
}

// MeshConfig is the part of Istio's MeshConfig that hasp reads, with defaults
// filled in. ParseMeshConfig makes it.
type MeshConfig struct {
	// RootNamespace holds mesh-wide objects. Default "istio-system".
	RootNamespace string
	// TrustDomain of every identity. Default "cluster.local".
	TrustDomain string
	// EnableAutoMtls. Default true.
	EnableAutoMtls bool
	// OutboundAllowAny is outboundTrafficPolicy.mode ALLOW_ANY. Default true.
	OutboundAllowAny bool
	// MinTLS is meshMTLS.minProtocolVersion: "1.2" for TLSV1_2, else "1.3".
	MinTLS string
	// AccessLogFile is "" (no access log) or "/dev/stdout". Default "/dev/stdout".
	AccessLogFile string
	// AccessLogEncoding is "TEXT" or "JSON". Default "TEXT".
	AccessLogEncoding string
	// ConnectTimeout of upstream connections, in milliseconds. Default 10000.
	ConnectTimeoutMillis int64
	// DrainMillis is defaultConfig.drainDuration. Default 45000.
	DrainMillis int64
	// TerminationDrainMillis is defaultConfig.terminationDrainDuration; 0, the
	// default, leaves it to how the proxy was started (5 s).
	TerminationDrainMillis int64
	// IdleMillis is defaultConfig.proxyMetadata.ISTIO_META_IDLE_TIMEOUT; 0, the
	// default, leaves it to how the proxy was started (for ever).
	IdleMillis int64
	// NoTrunks is "false" in defaultConfig.proxyMetadata.HASP_TRUNKS.
	NoTrunks bool
}

// DomainSuffix is what services are named under; it follows the cluster, not
// the trust domain.
const DomainSuffix = "cluster.local"
