package truth

import (
	"fmt"

	"hasp/mesh"
)

// fix is what would spare the client.
func (q *question) fix(t *relation, o outcome) string {
	host := t.service()
	if host == "" {
		host = t.to.String()
	}
	port := fmt.Sprintf("or let port %d of %s take plaintext (PERMISSIVE in portLevelMtls of a PeerAuthentication that selects it)", t.port, t.to)
	switch o.reason {
	case unmeshed:
		if t.from.Workload == "" {
			return "call from inside the mesh or through a gateway, " + port
		}
		return q.sidecarFor(t.from) + ", " + port
	case around:
		return fmt.Sprintf("find out why this traffic goes past the sidecar of %s (an annotation traffic.sidecar.istio.io/exclude..., or a process with the proxy's user id), %s", t.from, port)
	case unset:
		if t.out != nil && t.out.service == "" {
			return fmt.Sprintf("call %s by the name of a Service rather than by address, %s", t.to, port)
		}
		if o.rule.Name != "" { // another one might lose to it
			return fmt.Sprintf("set trafficPolicy.tls.mode ISTIO_MUTUAL in %s first, which is the rule for %s and says nothing of tls, or turn auto mTLS on", o.rule, host)
		}
		return fmt.Sprintf("apply first a DestinationRule for %s with trafficPolicy.tls.mode ISTIO_MUTUAL, or turn auto mTLS on", host)
	case disabled, ownTLS:
		return fmt.Sprintf("set tls.mode of %s to ISTIO_MUTUAL first", o.rule)
	case needless:
		if o.rule.Kind == "DestinationRule" {
			return fmt.Sprintf("take tls out of %s for %s", o.rule, host)
		}
		return fmt.Sprintf("leave %s PERMISSIVE until its clients speak plaintext (a DestinationRule for %s with tls.mode DISABLE)", t.to, host)
	case wrongName:
		return fmt.Sprintf("correct subjectAltNames of %s, or leave them out", o.rule)
	case unauthorized:
		return q.authorizationFix(t, o)
	case unclaimed:
		return fmt.Sprintf("add a ServiceEntry for %s, or leave outboundTrafficPolicy.mode ALLOW_ANY", t.to)
	case gone:
		return ""
	}
	return ""
}

// authorizationFix: who proves no identity cannot be named in a rule.
func (q *question) authorizationFix(t *relation, o outcome) string {
	if o.security != mesh.MutualTLS {
		return fmt.Sprintf("%s proves no identity that %s could go by: have it speak mutual TLS, or name its address in ipBlocks", t.from, o.rule)
	}
	return fmt.Sprintf("make an exception for %s in %s", t.from.Identity, o.rule)
}
