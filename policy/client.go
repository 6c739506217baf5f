package policy

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	networkingapi "istio.io/api/networking/v1alpha3"

	"hasp/mesh"
	"hasp/world"
)

// ClientTLS is what a client in a namespace speaks to a port of a service (and
// to a subset of it, "" for the whole). A nil client stands for any workload of
// the namespace that has a proxy; a client without one follows no rule and
// speaks plaintext whatever they say.
func ClientTLS(w *world.World, client *mesh.Workload, namespace string, svc *mesh.Service, port uint16, subset string) Client {
	l := lookup{root: w.Mesh.RootNamespace, client: client, namespace: namespace, svc: svc}
	group, lost := l.find(w)
	if client != nil && client.Role == mesh.RoleNone {
		return unproxied(group, lost, l.root)
	}
	tls, origin, merged := merge(group, l.root, port, subset)
	c := Client{Origin: origin, Lost: append(merged, lost...)}
	if tls != nil {
		c.Set = true
		c.Mode = mesh.ClientMode(tls.GetMode().String())
	} else {
		c.Auto = autoTLS(w, svc, port)
		if c.Auto && origin.Name == "" {
			c.Origin = mesh.Origin{Level: mesh.LevelAuto}
		}
	}
	c.TLS = c.fill(w, tls, svc, port, subset)
	return c
}

// unproxied is a client that has no proxy to apply the rules.
func unproxied(group []candidate, lost []Loser, root string) Client {
	var c Client
	for _, g := range group {
		c.Lost = append(c.Lost, Loser{g.origin(root), "the client has no sidecar to apply it"})
	}
	c.Lost = append(c.Lost, lost...)
	return c
}

// autoTLS reports whether auto mutual TLS speaks for a client that no rule
// tells: it is on, the service is ours, and its servers have not turned mutual
// TLS off.
func autoTLS(w *world.World, svc *mesh.Service, port uint16) bool {
	return w.Mesh.EnableAutoMtls && !svc.External && ServiceMode(w, svc, port).Mode != mesh.ModeDisable
}

// merge makes one rule of those for the same host, oldest first: the first
// trafficPolicy that says anything is kept whole, subsets are pooled and the
// first of a name wins.
func merge(group []candidate, root string, port uint16, subset string) (tls *networkingapi.ClientTLSSettings, origin mesh.Origin, lost []Loser) {
	if len(group) == 0 {
		return nil, mesh.Origin{}, nil
	}
	// Without any trafficPolicy the oldest rule stands for the group.
	origin = group[0].origin(root)
	var top, sub *candidate
	for i := range group {
		c := &group[i]
		if policy := c.rule.Spec.GetTrafficPolicy(); proto.Size(policy) > 0 {
			if top == nil {
				top = c
				var atPort bool
				tls, atPort = tlsAt(policy, port)
				origin = atLevel(c.origin(root), atPort)
			} else {
				lost = append(lost, Loser{c.origin(root), seniority(top.rule, top.origin(root).String(), c.rule) +
					" and for the same host: its trafficPolicy is kept whole"})
			}
		}
		s := subsetNamed(c, subset)
		switch {
		case s == nil:
		case sub == nil:
			sub = c
		default:
			lost = append(lost, Loser{c.origin(root), fmt.Sprintf("the first subset %q is that of %s", subset, sub.origin(root))})
		}
	}
	if sub == nil {
		return tls, origin, lost
	}
	subTLS, atPort := tlsAt(subsetNamed(sub, subset).GetTrafficPolicy(), port)
	if subTLS == nil && !atPort {
		return tls, origin, lost // the subset says nothing about tls and inherits
	}
	if o := sub.origin(root); !sameObject(o, origin) && tls != nil {
		lost = append(lost, Loser{origin, fmt.Sprintf("the subset %q of %s is more specific", subset, o)})
	}
	return subTLS, atLevel(sub.origin(root), atPort), lost
}

// tlsAt is what a traffic policy says about tls for a service port. A
// portLevelSettings entry for the port replaces the policy: one that sets only
// loadBalancer takes tls away.
func tlsAt(p *networkingapi.TrafficPolicy, port uint16) (tls *networkingapi.ClientTLSSettings, atPort bool) {
	for _, s := range p.GetPortLevelSettings() {
		if s.GetPort().GetNumber() == uint32(port) {
			return s.GetTls(), true
		}
	}
	return p.GetTls(), false
}

func atLevel(o mesh.Origin, atPort bool) mesh.Origin {
	if atPort {
		o.Level = mesh.LevelPort
	}
	return o
}

func subsetNamed(c *candidate, name string) *networkingapi.Subset {
	if name == "" {
		return nil
	}
	for _, s := range c.rule.Spec.GetSubsets() {
		if s.GetName() == name {
			return s
		}
	}
	return nil
}

// fill is the whole setting. With mesh certificates the server's name and
// identities default to Istio's: outbound_.<port>_.<subset>_.<host>, and those
// of the service's workloads.
func (c Client) fill(w *world.World, tls *networkingapi.ClientTLSSettings, svc *mesh.Service, port uint16, subset string) mesh.ClientTLS {
	out := mesh.ClientTLS{Mode: c.Mode, Auto: c.Auto, Origin: c.Origin}
	if c.Mode == mesh.ClientDisable || !c.Set && !c.Auto {
		return out
	}
	out.SNI = tls.GetSni()
	out.SubjectAltNames = tls.GetSubjectAltNames()
	if len(out.SubjectAltNames) == 0 {
		out.SubjectAltNames = svc.SubjectAltNames
	}
	if c.Mode == mesh.ClientIstioMutual || c.Auto {
		if out.SNI == "" {
			out.SNI = fmt.Sprintf("outbound_.%d_.%s_.%s", port, subset, svc.Hostname)
		}
		if len(out.SubjectAltNames) == 0 {
			out.SubjectAltNames = Identities(w, svc, port)
		}
		return out
	}
	if out.SNI == "" && !strings.HasPrefix(svc.Hostname, "*") {
		out.SNI = svc.Hostname
	}
	out.CACertificates = tls.GetCaCertificates()
	out.ClientCertificate = tls.GetClientCertificate()
	out.PrivateKey = tls.GetPrivateKey()
	out.InsecureSkipVerify = tls.GetInsecureSkipVerify().GetValue()
	return out
}
