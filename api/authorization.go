package api

import (
	"slices"

	securityapi "istio.io/api/security/v1beta1"
)

// DryRunKey is Istio's annotation of an AuthorizationPolicy that only tries.
const DryRunKey = "istio.io/dry-run"

// DryRun reports whether the annotations say so.
func DryRun(annotations map[string]string) bool { return annotations[DryRunKey] == "true" }

// TargetsElsewhere reports whether a policy is for what it names by targetRefs
// (a waypoint, a Gateway of gateway.networking.k8s.io), which hasp does not have.
func TargetsElsewhere(s *securityapi.AuthorizationPolicy) bool {
	return s.GetTargetRef() != nil || len(s.GetTargetRefs()) > 0
}

// connectionKeys are the keys of "when" that a connection answers; those of
// Istio's other keys that it knows are about requests.
var (
	connectionKeys = []string{"source.ip", "source.namespace", "source.principal", "source.serviceAccount", "source.trustDomain", "destination.ip", "destination.port"}
	requestKeys    = []string{"remote.ip", "request.auth.principal", "request.auth.audiences", "request.auth.presenter", "connection.sni"}
	requestMaps    = []string{"request.headers[", "request.auth.claims[", "experimental.envoy.filters."}
)

// AboutRequestsKey reports whether a condition cannot be answered for a
// connection.
func AboutRequestsKey(key string) bool { return !slices.Contains(connectionKeys, key) }

// AboutRequestsSource reports whether a source asks about requests.
func AboutRequestsSource(s *securityapi.Source) bool {
	return len(s.GetRequestPrincipals())+len(s.GetNotRequestPrincipals())+
		len(s.GetRemoteIpBlocks())+len(s.GetNotRemoteIpBlocks()) > 0
}

// AboutRequestsOperation reports whether an operation asks about requests.
func AboutRequestsOperation(o *securityapi.Operation) bool {
	return len(o.GetHosts())+len(o.GetNotHosts())+len(o.GetMethods())+len(o.GetNotMethods())+
		len(o.GetPaths())+len(o.GetNotPaths()) > 0
}
