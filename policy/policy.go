// Package policy decides: how a server treats its callers ([ServerMode],
// [ServiceMode]), what a client speaks to a destination ([ClientTLS]) and
// whether the two get along ([Check]). Every answer names the object that
// decided, at which level, and the objects that lost and why.
//
// All of it is pure: a World and the two ends in, a verdict out; no I/O, no
// goroutine, no clock. Two generations of the API live side by side:
//
//   - authentication.istio.io/v1alpha1 Policy and MeshPolicy (legacy.go): the
//     most specific one replaces the others, the oldest wins among equals;
//   - security.istio.io PeerAuthentication (peerauthn.go): levels inherit, and
//     where one applies it takes over from Policy, as in Istio 1.5;
//   - networking.istio.io DestinationRule (client.go, rules.go) for the client.
package policy

import (
	"hasp/mesh"
)

// Server is how a workload's proxy treats callers of one port.
type Server struct {
	// Mode is ModeUnset when nothing sets it; a proxy then serves PERMISSIVE.
	Mode mesh.Mode
	// Origin is the object that set Mode, zero when nothing does.
	Origin mesh.Origin
	Lost   []Loser // in order of precedence
}

// Client is what a client's proxy speaks to one port of a service.
type Client struct {
	Mode mesh.ClientMode
	// Set is true when a rule says tls, be it DISABLE.
	Set bool
	// Auto is true when no rule says tls and auto mutual TLS takes over: mesh
	// certificates to endpoints that take them, plaintext to the others.
	Auto bool
	// TLS is the whole setting with defaults filled in, for compile.
	TLS mesh.ClientTLS
	// Origin is the rule that decided. A rule that matches and says no tls is
	// named here too (Set is false then): it is the one to edit.
	Origin mesh.Origin
	Lost   []Loser // in order of precedence
}

// Loser is an object of the right kind that matched too and did not decide.
type Loser struct {
	Origin mesh.Origin
	Why    string // a clause for a person, lower case, no full stop
}

// servicePort is one port of one service.
type servicePort struct {
	svc  *mesh.Service
	port mesh.ServicePort
}
