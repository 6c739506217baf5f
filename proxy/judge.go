package proxy

import (
	"fmt"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"hasp/mesh"
	"hasp/policy/authz"
)

// verdict is the answer to "may this connection live?". Deny is the zero value.
type verdict struct {
	Allow bool
	Why   string // why not
	Mode  string
	Rule  mesh.Origin
}

// judge decides from the facts of a connection alone, so that a new connection
// and one that has lived for days get the same answer. It is pure.
func judge(s *settings, f *mesh.Connection) verdict {
	if f.Direction == mesh.InboundDir {
		return judgeInbound(s, f)
	}
	return judgeOutbound(s, f)
}

func judgeInbound(s *settings, f *mesh.Connection) verdict {
	port := s.inboundPort(f.Destination.Port())
	v := verdict{Mode: string(port.Mode), Rule: port.Origin}
	if f.Security == mesh.Probed {
		v.Allow = true // the proxy answers it: nothing of it reaches the workload
		return v
	}
	switch port.Mode {
	case mesh.ModeUnset, mesh.ModePermissive, mesh.ModeDisable:
		// mTLS begun under another mode is more than these ask for.
		return authorize(s, f, v)
	}
	// STRICT, and any word a newer control plane may know.
	switch {
	case f.Security != mesh.MutualTLS:
		v.Why = fmt.Sprintf("%s requires mutual TLS and the client spoke %s", demand(v.Mode, v.Rule), spoke(f.Security))
	case !member(s.trustDomain, f.PeerIdentity):
		v.Why = notMember(s, f)
	default:
		return authorize(s, f, v)
	}
	return v
}

// authorize asks who may call, once the mode has nothing against how. An
// identity counts only where mutual TLS proved it. One of another trust domain,
// which a shared root may have signed, is nobody of the namespaces here that an
// object names, and is refused as under STRICT.
func authorize(s *settings, f *mesh.Connection, v verdict) verdict {
	a := s.config.Inbound.Authorization
	if a.IsZero() {
		v.Allow = true
		return v
	}
	caller := authz.Caller{Source: f.Source.Addr(), Destination: f.Destination}
	if f.Security == mesh.MutualTLS {
		if !member(s.trustDomain, f.PeerIdentity) {
			v.Why = notMember(s, f)
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

func notMember(s *settings, f *mesh.Connection) string {
	return fmt.Sprintf("%s is not of trust domain %s", f.PeerIdentity, s.trustDomain)
}

func judgeOutbound(s *settings, f *mesh.Connection) verdict {
	if !f.Destination.IsValid() { // a gateway's: it goes to a cluster, not to an address
		if c := s.clusters[f.Cluster]; c != nil {
			return judgeCluster(s, c, f)
		}
		return verdict{Allow: true} // the service is gone, and the connection goes with it
	}
	c := s.route(f.Destination)
	if c == nil {
		v := verdict{Allow: s.config.Outbound.AllowAny, Mode: "ALLOW_ANY"}
		if !v.Allow {
			v.Mode = "REGISTRY_ONLY"
			v.Why = fmt.Sprintf("no service claims %s and the outbound traffic policy is REGISTRY_ONLY", f.Destination)
		}
		return v
	}
	return judgeCluster(s, c, f)
}

func judgeCluster(s *settings, c *cluster, f *mesh.Connection) verdict {
	v := verdict{Mode: clientMode(c.TLS), Rule: c.TLS.Origin}
	if f.PeerWorkload != "" && f.PeerWorkload == s.config.Node {
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
		v.Why = fmt.Sprintf("%s requires TLS and the connection is %s", demand(v.Mode, v.Rule), spoke(f.Security))
	case mutual && len(c.ids) > 0 && !contains(c.ids, f.PeerIdentity):
		v.Allow = false
		v.Why = fmt.Sprintf("%s is no longer an identity of %s", f.PeerIdentity, c.Hostname)
	}
	return v
}

// clientMode is a word for what is spoken to a cluster.
func clientMode(t mesh.ClientTLS) string {
	switch {
	case t.Mode != mesh.ClientUnset:
		return string(t.Mode)
	case t.Auto:
		return "AUTO"
	}
	return "UNSET" // plaintext, because nothing asks for more
}

func demand(mode string, o mesh.Origin) string {
	if o.Name == "" {
		return "mode " + mode
	}
	return fmt.Sprintf("%s of %s", mode, o)
}

func spoke(s mesh.Security) string {
	switch s {
	case mesh.Plaintext:
		return "plaintext"
	case mesh.PassedTLS:
		return "TLS of its own"
	case mesh.SimpleTLS:
		return "TLS without a client certificate"
	}
	return string(s)
}

func member(td spiffeid.TrustDomain, id string) bool {
	i, err := spiffeid.FromString(id)
	return err == nil && i.MemberOf(td)
}

func contains(ids []spiffeid.ID, id string) bool {
	for _, i := range ids {
		if i.String() == id {
			return true
		}
	}
	return false
}
