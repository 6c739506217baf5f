package truth

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"hasp/mesh"
)

// stamp is a time for a person.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// howLong rounds to what a person wants to know.
func howLong(d time.Duration) string {
	switch d = d.Abs(); {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	case d >= time.Minute:
		return d.Round(time.Second).String()
	}
	return d.Round(time.Millisecond).String()
}

// clockOf says how a clock is against the control plane's.
func clockOf(p Party, skew time.Duration) string {
	switch {
	case skew > maxSkew:
		return fmt.Sprintf("the clock of %s is %s ahead", p.name(), howLong(skew))
	case skew < -maxSkew:
		return fmt.Sprintf("the clock of %s is %s behind", p.name(), howLong(skew))
	}
	return fmt.Sprintf("the clock of %s is right", p.name())
}

// name is that of the very pod, where there is one.
func (p Party) name() string { return cmp.Or(p.Workload, p.String()) }

// logs is how to see what a proxy said.
func logs(p Party) string {
	return fmt.Sprintf("kubectl -n %s logs %s -c istio-proxy", p.Namespace, strings.TrimPrefix(p.Workload, p.Namespace+"/"))
}

// restart is how to have a proxy begin anew.
func restart(p Party) string {
	return fmt.Sprintf("kubectl -n %s delete pod %s", p.Namespace, strings.TrimPrefix(p.Workload, p.Namespace+"/"))
}

// shown is the certificate that was, a blank one when it is not known.
func (e end) shown() mesh.Certificate {
	if e.Failure.Presented == nil {
		return mesh.Certificate{}
	}
	return *e.Failure.Presented
}

// holder is who the certificate says it is of.
func (e end) holder() string { return cmp.Or(e.shown().Identity, e.peer.String()) }

// tellOfTime is of a certificate that is not valid at the time.
func (m *mortem) tellOfTime(e end) {
	c, now := e.shown(), e.Failure.At
	head := fmt.Sprintf("the proxy of %s refused the certificate of %s", e.self.name(), e.holder())
	// What the control plane's clock says it was when it was refused.
	right := now.Add(-e.selfSkew)
	clocks := clockOf(e.self, e.selfSkew)
	if e.peer.Meshed {
		clocks += " and " + clockOf(e.peer, e.peerSkew)
	}
	ownClock := fmt.Sprintf("set the clock of the machine of %s, which is %s off (timedatectl set-ntp true)", e.self.name(), howLong(e.selfSkew))
	if e.Failure.Reason == mesh.ReasonExpired {
		m.Sentence = fmt.Sprintf("%s, which had expired %s before, at %s; by the control plane's clock, %s", head, howLong(now.Sub(c.NotAfter)), stamp(c.NotAfter), clocks)
		if right.After(c.NotAfter) {
			m.Fix = fmt.Sprintf("the proxy of %s did not renew it: see why (%s), and begin it anew (%s)", e.peer.name(), logs(e.peer), restart(e.peer))
			return
		}
		m.Fix = ownClock
		return
	}
	m.Sentence = fmt.Sprintf("%s, which is not valid before %s, %s later; by the control plane's clock, %s", head, stamp(c.NotBefore), howLong(c.NotBefore.Sub(now)), clocks)
	if right.Before(c.NotBefore) {
		m.Fix = "whatever signed it has a clock that is ahead: set the clock of the control plane's machine, or of the CA's (timedatectl set-ntp true)"
		return
	}
	m.Fix = ownClock
}

// tellOfCertificate is of one that is not right, or not there.
func (m *mortem) tellOfCertificate(e end) {
	c, f := e.shown(), e.Failure
	head := fmt.Sprintf("the proxy of %s refused the certificate of %s", e.self.name(), e.holder())
	switch f.Reason {
	case mesh.ReasonUnknownAuthority:
		m.Sentence = fmt.Sprintf("%s: %s signed it, which none of its roots has signed", head, cmp.Or(c.Issuer, "somebody unknown"))
		if f.Own != nil && f.Own.Issuer != c.Issuer {
			m.Sentence += fmt.Sprintf("; its own is signed by %s", f.Own.Issuer)
		}
		m.Fix = fmt.Sprintf("both ends must have the same root: if it was replaced, the one that still has the old one needs to begin anew (%s, or %s); if the other end is of another mesh, call it through its gateway", restart(e.self), restart(e.peer))
		if !e.peer.Meshed {
			m.Fix = fmt.Sprintf("%s is not of this mesh: have it call through an ingress gateway, or give it a sidecar of this mesh", e.peer)
		}
	case mesh.ReasonWrongIdentity:
		m.Sentence = fmt.Sprintf("the proxy of %s expected %s and was shown %s", e.self.name(), oneOf(f.Expected), cmp.Or(c.Identity, "none of them"))
		m.Fix = fmt.Sprintf("if %s is the right server, its account or the subjectAltNames of %s are not what was meant", e.holder(), m.rules())
		if m.Service != "" {
			m.Fix += fmt.Sprintf("; if not, look at what the selector of %s picks", m.Service)
		}
	case mesh.ReasonOtherTrustDomain:
		m.Sentence = fmt.Sprintf("%s, which is of another trust domain than its own, %s", head, f.TrustDomain)
		m.Fix = fmt.Sprintf("identities of other trust domains are let in by nothing: run both ends with trustDomain %s, or call through a gateway of this mesh", f.TrustDomain)
	case mesh.ReasonNoCertificate:
		m.Sentence = fmt.Sprintf("%s spoke TLS to %s without a client certificate", m.Source, m.target())
		m.Fix = "TLS of the application's own is none of the mesh's: let it speak plaintext to its sidecar"
		if !m.Source.Meshed {
			m.Fix = m.fixPlaintext()
		}
	case mesh.ReasonNoOwnCertificate:
		m.Sentence = fmt.Sprintf("the proxy of %s has no certificate yet, or no roots", e.self.name())
		m.Fix = fmt.Sprintf("it asks the control plane for one: see what it was told (%s)", logs(e.self))
	default:
		m.Sentence = fmt.Sprintf("%s: %s", head, cmp.Or(f.Error, "it is not valid"))
		m.Fix = "the mesh takes certificates with one SPIFFE ID, for servers and clients, and not those of CAs: have the control plane issue it"
	}
}

func oneOf(ids []string) string {
	switch len(ids) {
	case 0:
		return "somebody else"
	case 1:
		return ids[0]
	}
	return "one of " + strings.Join(ids, ", ")
}

// rules that told the client what to speak.
func (m *mortem) rules() string {
	if m.ClientRule.Name == "" {
		return "a DestinationRule for it"
	}
	return m.ClientRule.String()
}

// tellOfPolicy is of a refusal by an object.
func (m *mortem) tellOfPolicy(e end) {
	switch {
	case e.Failure.Reason == mesh.ReasonNoService:
		m.Sentence = fmt.Sprintf("the proxy of %s let nothing out to %s, which no service claims, since the outbound traffic policy is REGISTRY_ONLY", e.self.name(), m.target())
		m.Fix = "write a ServiceEntry for it, or set outboundTrafficPolicy.mode to ALLOW_ANY"
	case e.Failure.Reason == mesh.ReasonDenied:
		m.Sentence = fmt.Sprintf("%s was refused by %s: %s", m.Source, m.target(), cmp.Or(e.Why, e.Failure.Error))
		m.Security = cmp.Or(e.Security, m.Security)
		m.Fix = m.fixRefused()
	case e.client:
		m.Sentence = fmt.Sprintf("%s spoke TLS to %s, which answered in plaintext", m.Source, m.target())
		m.Fix = fmt.Sprintf("something at %s bypasses its proxy: take port %d out of the annotation traffic.sidecar.istio.io/excludeInboundPorts of its pods", m.Destination, m.Port)
		if !m.Destination.Meshed {
			m.Fix = fmt.Sprintf("it has no sidecar: %s; or have %s not ask for TLS", giveSidecar(m.Destination), m.rules())
		}
	default:
		m.Sentence = fmt.Sprintf("%s spoke plaintext to %s, which takes only mutual TLS", m.Source, m.target())
		if e.Rule.Name != "" {
			m.Sentence += fmt.Sprintf(": %s of %s", cmp.Or(e.Mode, "STRICT"), e.Rule)
		}
		m.Security = mesh.Plaintext
		m.Fix = m.fixPlaintext()
	}
}

// tellOfNetwork is of what no policy and no certificate has to do with, and of
// an end that gave up without saying why.
func (m *mortem) tellOfNetwork(e end) {
	where := m.target()
	if e.client && e.Upstream.IsValid() {
		where += " at " + e.Upstream.String()
	}
	switch f := e.Failure; f.Reason {
	case mesh.ReasonRefused, mesh.ReasonNotListening:
		m.Sentence = fmt.Sprintf("nobody listens at %s", where)
		m.Fix = fmt.Sprintf("see whether the application of %s runs and listens on the port, and whether targetPort of the Service is that port", m.Destination)
		if e.client && m.Destination.Meshed {
			m.Sentence += ", not even its proxy"
			m.Fix = fmt.Sprintf("see whether the pod is ready, and its proxy well (%s)", logs(m.Destination))
		}
	case mesh.ReasonNoEndpoint:
		m.Sentence = fmt.Sprintf("%s has no endpoint that could be called", cmp.Or(m.Service, where))
		m.Fix = "see whether a ready pod has the labels that the Service selects, and the port it leads to"
	case mesh.ReasonUnreachable, mesh.ReasonTimeout:
		m.Sentence = fmt.Sprintf("%s did not answer %s in time", where, m.Source)
		if f.Stage == mesh.StageHandshake {
			m.Sentence = fmt.Sprintf("%s did not finish its handshake with %s in time", e.peer, e.self)
		}
		m.Fix = "see whether a NetworkPolicy or a firewall is between them, and whether the machine is there"
	case mesh.ReasonNoConfiguration:
		m.Sentence = fmt.Sprintf("the proxy of %s had no configuration yet", e.self.name())
		m.Fix = fmt.Sprintf("it asks the control plane for one: see what it was told (%s)", logs(e.self))
	default:
		m.tellOfSilence(e)
	}
}

// tellOfSilence is of an end that only saw that the other one gave up.
func (m *mortem) tellOfSilence(e end) {
	f := e.Failure
	did := map[string]string{
		mesh.ReasonAlert: "ended the handshake with an alert", mesh.ReasonReset: "reset the connection", mesh.ReasonClosed: "closed the connection before it said anything",
	}[f.Reason]
	if did == "" {
		m.Sentence = fmt.Sprintf("%s called %s and it failed: %s", m.Source, m.target(), cmp.Or(f.Error, "nobody says why"))
		m.Fix = fmt.Sprintf("see what the proxy said (%s)", logs(e.self))
		return
	}
	m.Sentence = fmt.Sprintf("%s %s", e.peer, did)
	if f.Error != "" {
		m.Sentence += ": " + f.Error
	}
	switch {
	case !e.peer.Meshed && !e.client:
		m.Fix = fmt.Sprintf("%s has no proxy that would tell why: look at its log", e.peer)
	case !e.peer.Meshed:
		m.Fix = fmt.Sprintf("%s has no sidecar: %s; or have %s not ask for TLS", e.peer, giveSidecar(e.peer), m.rules())
		if e.Security == mesh.Plaintext {
			m.Fix = fmt.Sprintf("%s has no proxy that would tell why: look at its log", e.peer)
		}
	case !m.answers(e.peer.Workload):
		m.Fix = fmt.Sprintf("the proxy of %s does not report, so it does not say why: see its log (%s)", e.peer.name(), logs(e.peer))
	default:
		m.Sentence += "; its proxy has no record of it"
		m.Fix = fmt.Sprintf("ask again in a moment; if it stays so, the port bypasses the proxy of %s", e.peer.name())
	}
}
