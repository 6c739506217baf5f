package mesh

import "net/netip"

// Authorization says which callers a workload accepts: the AuthorizationPolicy
// objects of security.istio.io that apply to it, as far as they can be answered
// for a connection. Package policy/authz answers.
type Authorization struct {
	Deny  []AuthorizationRules `json:"deny,omitempty"`  // one match refuses
	Allow []AuthorizationRules `json:"allow,omitempty"` // where there are any, one must match
}

// IsZero reports whether nothing is said, and so everything allowed.
func (a Authorization) IsZero() bool { return len(a.Deny) == 0 && len(a.Allow) == 0 }

// AuthorizationRules are those of one object. None means: matches nothing.
type AuthorizationRules struct {
	Origin Origin              `json:"origin"`
	Rules  []AuthorizationRule `json:"rules,omitempty"`
}

// AuthorizationRule matches when one of From, one of To and all of When do. An
// empty list matches everything.
type AuthorizationRule struct {
	From []AuthorizationSource    `json:"from,omitempty"`
	To   []AuthorizationTarget    `json:"to,omitempty"`
	When []AuthorizationCondition `json:"when,omitempty"`
}

// AuthorizationSource is a conjunction of fields; a field matches when one of
// its values does, an empty one always, and a Not field when none does. Values
// may begin or end with "*", and "*" alone is any that is there.
type AuthorizationSource struct {
	// Principals are SPIFFE IDs without "spiffe://", as Istio writes them.
	Principals         []string       `json:"principals,omitempty"`
	NotPrincipals      []string       `json:"notPrincipals,omitempty"`
	Namespaces         []string       `json:"namespaces,omitempty"`
	NotNamespaces      []string       `json:"notNamespaces,omitempty"`
	ServiceAccounts    []string       `json:"serviceAccounts,omitempty"` // NAMESPACE/NAME
	NotServiceAccounts []string       `json:"notServiceAccounts,omitempty"`
	TrustDomains       []string       `json:"trustDomains,omitempty"`
	NotTrustDomains    []string       `json:"notTrustDomains,omitempty"`
	IPBlocks           []netip.Prefix `json:"ipBlocks,omitempty"`
	NotIPBlocks        []netip.Prefix `json:"notIpBlocks,omitempty"`
}

// AuthorizationTarget is about the port that the workload is reached at.
type AuthorizationTarget struct {
	Ports    []uint16 `json:"ports,omitempty"`
	NotPorts []uint16 `json:"notPorts,omitempty"`
}

// AuthorizationCondition is one "when": a key and values as for a source.
type AuthorizationCondition struct {
	Key       AuthorizationKey `json:"key"`
	Values    []string         `json:"values,omitempty"`
	NotValues []string         `json:"notValues,omitempty"`
}

// AuthorizationKey is a condition's key that a connection answers.
type AuthorizationKey string

const (
	KeySourceIP             AuthorizationKey = "source.ip"
	KeySourceNamespace      AuthorizationKey = "source.namespace"
	KeySourcePrincipal      AuthorizationKey = "source.principal"
	KeySourceServiceAccount AuthorizationKey = "source.serviceAccount"
	KeySourceTrustDomain    AuthorizationKey = "source.trustDomain"
	KeyDestinationIP        AuthorizationKey = "destination.ip"
	KeyDestinationPort      AuthorizationKey = "destination.port"
)
