// Package judge decides whether a connection may live, from its facts and the
// configuration of the proxy that has it. It is pure, so that a new connection,
// one that has lived for days and one that somebody only asks about are judged
// by the same function: the proxy calls [Index.Judge] for every connection under
// every configuration, and package truth under one that nobody has applied yet.
//
// Start with [New].
package judge

import (
	"fmt"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"hasp/mesh"
	"hasp/policy/authz"
)

// Verdict is the answer to "may this connection live?". Deny is the zero value.
type Verdict struct {
	Allow bool
	Why   string // why not
	Mode  string
	Rule  mesh.Origin
}

// Judge decides from the facts of a connection alone.
func (x *Index) Judge(f *mesh.Connection) Verdict {
	if f.Direction == mesh.InboundDir {
		return x.inbound(f)
	}
	return x.outbound(f)
}

func (x *Index) inbound(f *mesh.Connection) Verdict {
	port := x.InboundPort(f.Destination.Port())
	v := Verdict{Mode: string(port.Mode), Rule: port.Origin}
	if f.Security == mesh.Probed {
		v.Allow = true // the proxy answers it: nothing of it reaches the workload
		return v
	}
	switch port.Mode {
	case mesh.ModeUnset, mesh.ModePermissive, mesh.ModeDisable:
		// mTLS begun under another mode is more than these ask for.
		return x.authorize(f, v)
	}
	// STRICT, and any word a newer control plane may know.
	switch {
	case f.Security != mesh.MutualTLS:
		v.Why = fmt.Sprintf("%s requires mutual TLS and the client spoke %s", Demand(v.Mode, v.Rule), spoke(f.Security))
	case !x.member(f.PeerIdentity):
		v.Why = x.notMember(f)
	default:
		return x.authorize(f, v)
	}
	return v
}

// authorize asks who may call, once the mode has nothing against how. An
// identity counts only where mutual TLS proved it. One of another trust domain,
// which a shared root may have signed, is nobody of the namespaces here that an
// object names, and is refused as under STRICT.
func (x *Index) authorize(f *mesh.Connection, v Verdict) Verdict {
	a := x.Config.Inbound.Authorization
	if a.IsZero() {
		v.Allow = true
		return v
	}
	caller := authz.Caller{Source: f.Source.Addr(), Destination: f.Destination}
	if f.Security == mesh.MutualTLS {
		if !x.member(f.PeerIdentity) {
			v.Why = x.notMember(f)
			return v
		}
		caller.Identity = f.PeerIdentity
	}
	d := authz.Decide(a, caller)
	if v.Allow = d.Allowed; !d.Allowed {
		v.Why, v.Rule = d.Why, d.Origin
	}
	return v
}

func (x *Index) member(id string) bool {
	i, err := spiffeid.FromString(id)
	return err == nil && i.MemberOf(x.TrustDomain)
}

func (x *Index) notMember(f *mesh.Connection) string {
	return fmt.Sprintf("%s is not of trust domain %s", f.PeerIdentity, x.TrustDomain)
}

func (x *Index) outbound(f *mesh.Connection) Verdict {
	if !f.Destination.IsValid() { // a gateway's: it goes to a cluster, not to an address
		if c := x.Clusters[f.Cluster]; c != nil {
			return x.cluster(c, f)
		}
		return Verdict{Allow: true} // the service is gone, and the connection goes with it
	}
	c := x.Route(f.Destination)
	if c == nil {
		v := Verdict{Allow: x.Config.Outbound.AllowAny, Mode: "ALLOW_ANY"}
		if !v.Allow {
			v.Mode = "REGISTRY_ONLY"
			v.Why = fmt.Sprintf("no service claims %s and the outbound traffic policy is REGISTRY_ONLY", f.Destination)
		}
		return v
	}
	return x.cluster(c, f)
}

func (x *Index) cluster(c *Cluster, f *mesh.Connection) Verdict {
	v := Verdict{Mode: ClientMode(c.TLS), Rule: c.TLS.Origin}
	if f.PeerWorkload != "" && f.PeerWorkload == x.Config.Node {
		v.Allow = true // to itself: it never leaves the workload
		return v
	}
	mutual := f.Security == mesh.MutualTLS
	switch c.TLS.Mode {
	case mesh.ClientIstioMutual, mesh.ClientMutual:
		v.Allow = mutual
	case mesh.ClientSimple:
		v.Allow = mutual || f.Security == mesh.SimpleTLS
	default:
		v.Allow = true
	}
	switch {
	case !v.Allow:
		v.Why = fmt.Sprintf("%s requires TLS and the connection is %s", Demand(v.Mode, v.Rule), spoke(f.Security))
	case mutual && len(c.IDs) > 0 && !contains(c.IDs, f.PeerIdentity):
		v.Allow = false
		v.Why = fmt.Sprintf("%s is no longer an identity of %s", f.PeerIdentity, c.Hostname)
	}
	return v
}

func contains(ids []spiffeid.ID, id string) bool {
	for _, i := range ids {
		if i.String() == id {
			return true
		}
	}
	return false
}
