package truth

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"hasp/mesh"
	"hasp/world"
)

// shortest is how much of an id is enough.
const shortest = 6

// Why is what became of the connection whose trace begins with id, of 6 digits
// at least; of several it is the newest. False says that none is remembered.
func Why(w *world.World, f *Facts, id string) (Postmortem, bool) {
	id = strings.ToLower(strings.TrimSpace(id))
	if len(id) < shortest {
		return Postmortem{}, false
	}
	s := sceneOf(w, f)
	var found *pair
	traces := map[string]bool{}
	for _, p := range s.pairs() {
		if c := p.any(); strings.HasPrefix(c.Trace, id) {
			traces[c.Trace] = true
			if found == nil || c.Start.After(found.any().Start) {
				found = &p
			}
		}
	}
	if found == nil {
		return s.fromLedger(id)
	}
	m := mortem{talks: newTalks(s), pair: *found, Postmortem: Postmortem{Link: s.link(*found)}}
	m.SourceSkew, m.DestinationSkew = s.skew(m.Source), s.skew(m.Destination)
	m.tell()
	if n := len(traces); n > 1 {
		m.Sentence += fmt.Sprintf(" (%d connections have an id that begins with %s; this is the newest)", n, id)
	}
	return m.Postmortem, true
}

// any of its rows: they have the trace in common.
func (p pair) any() *Connection {
	if p.out != nil {
		return p.out
	}
	return p.in
}

func (s *scene) skew(p Party) time.Duration {
	if r := s.reporters[p.Workload]; r != nil {
		return r.Skew
	}
	return 0
}

// fromLedger is what the ledger knows of a connection whose row is forgotten:
// those that are the newest of their line.
func (s *scene) fromLedger(id string) (Postmortem, bool) {
	var found *mesh.Edge
	for i := range s.f.Edges {
		if e := &s.f.Edges[i]; strings.HasPrefix(e.LastTrace, id) && (found == nil || e.Last.After(found.Last)) {
			found = e
		}
	}
	if found == nil {
		return Postmortem{}, false
	}
	l := Link{
		Trace: found.LastTrace, Service: found.Service, Port: found.Port, Seen: "destination", Security: found.Security, Why: found.Why,
		Handshake: asClient(found), Allowed: found.Allowed, Generation: found.Generation, Protocol: found.Protocol, Start: found.Last, LastSeen: found.Last,
	}
	l.Source, l.Destination = s.ends(&found.EdgeKey)
	if found.Direction == mesh.OutboundDir {
		l.Seen, l.ClientMode, l.ClientRule = "source", found.Mode, found.Rule
	} else {
		l.Mode, l.Rule = found.Mode, found.Rule
	}
	m := mortem{talks: newTalks(s), Postmortem: Postmortem{Link: l, SourceSkew: s.skew(l.Source), DestinationSkew: s.skew(l.Destination)}}
	m.tell()
	m.Sentence += "; its own record is forgotten, this is from the ledger"
	return m.Postmortem, true
}

// mortem is a Postmortem on its way.
type mortem struct {
	*talks
	pair
	Postmortem
}

// end is one that gave up: its row, and the parties as it sees them.
type end struct {
	*Connection
	self, peer         Party
	selfSkew, peerSkew time.Duration
	client             bool
}

// tell finds the sentence and the fix.
func (m *mortem) tell() {
	e, ok := m.rootCause()
	if !ok {
		m.tellOfLife()
		return
	}
	switch r := e.Failure; r.Reason {
	case mesh.ReasonExpired, mesh.ReasonNotYetValid:
		m.tellOfTime(e)
	case mesh.ReasonUnknownAuthority, mesh.ReasonInvalidCertificate, mesh.ReasonWrongIdentity, mesh.ReasonOtherTrustDomain, mesh.ReasonNoCertificate, mesh.ReasonNoOwnCertificate:
		m.tellOfCertificate(e)
	case mesh.ReasonPlaintext, mesh.ReasonDenied, mesh.ReasonNoService:
		m.tellOfPolicy(e)
	default:
		m.tellOfNetwork(e)
	}
}

// rootCause is the end that gave up first: the one that did not only see the
// other do so.
func (m *mortem) rootCause() (end, bool) {
	var found []end
	for _, e := range []end{
		{Connection: m.in, self: m.Destination, peer: m.Source, selfSkew: m.DestinationSkew, peerSkew: m.SourceSkew},
		{Connection: m.out, self: m.Source, peer: m.Destination, selfSkew: m.SourceSkew, peerSkew: m.DestinationSkew, client: true},
	} {
		if e.Connection != nil && e.Failure != nil {
			found = append(found, e)
		}
	}
	if len(found) == 0 {
		return end{}, false
	}
	return slices.MinFunc(found, func(a, b end) int { return compareBools(a.Failure.ByPeer, b.Failure.ByPeer) }), true
}

// tellOfLife is of a connection that nobody says failed.
func (m *mortem) tellOfLife() {
	who := fmt.Sprintf("%s called %s", m.Source, m.target())
	switch {
	case !m.Allowed:
		what := "was refused"
		if m.Sent+m.Received > 0 {
			what = "was cut off"
		}
		m.Sentence = fmt.Sprintf("%s and %s: %s", who, what, cmp.Or(m.Link.Why, "nobody says why"))
		m.Fix = m.fixRefused()
	case m.Security == mesh.MutualTLS:
		m.Sentence = who + " by mutual TLS"
		if h := m.Handshake; h != nil && h.TLS != "" {
			m.Sentence += " (" + strings.TrimSuffix(strings.Join([]string{h.TLS, h.Group}, ", "), ", ") + ")"
		}
	case m.Security == mesh.Unknown:
		m.Sentence = who + " and has said nothing yet"
	default:
		m.Sentence = fmt.Sprintf("%s %s", who, spoken(m.Security))
		if m.Link.Why != "" {
			m.Sentence += ": " + m.Link.Why
		}
		if m.Destination.Meshed {
			m.Fix = m.fixPlaintext()
		}
	}
	if m.Disagreement != "" {
		m.Sentence += "; but " + m.Disagreement
	}
}

func spoken(s mesh.Security) string {
	switch s {
	case mesh.SimpleTLS:
		return "by TLS without a client certificate"
	case mesh.PassedTLS:
		return "by the application's own TLS"
	case mesh.Probed:
		return "as a kubelet's probe"
	}
	return "in plaintext"
}

// target is whom the client called, as it called it.
func (m *mortem) target() string {
	to := m.Destination.String()
	if m.Service != "" && m.Destination.Owner == "" {
		to = m.Service
	}
	return fmt.Sprintf("%s:%d", to, m.Port)
}

// fixPlaintext is what would make the connection mutual TLS.
func (m *mortem) fixPlaintext() string {
	c := cause{talks: m.talks, Plain: &Plain{Source: m.Source, Destination: m.Destination, Port: m.Port, Security: m.Security, Last: m.LastSeen}}
	if m.in != nil {
		c.Port = m.in.Destination.Port()
		c.server = &talk{edge: &mesh.Edge{}}
	}
	if m.out != nil {
		c.client = &talk{edge: &mesh.Edge{EdgeKey: mesh.EdgeKey{Node: m.out.Node, Service: m.out.Service, Port: goal(m.out).Port()}}}
	}
	if m.End.IsZero() {
		c.Open = 1
	}
	return c.remedy()
}

// fixRefused is what would let the client in, by the object that refused it.
func (m *mortem) fixRefused() string {
	switch {
	case m.Rule.Kind == "AuthorizationPolicy":
		who := "it has no identity that one could allow: " + m.fixPlaintext()
		if id := m.Source.Identity; id != "" && m.Security == mesh.MutualTLS {
			who = fmt.Sprintf("if it should be let in, have %s allow the principal %s (kubectl -n %s edit authorizationpolicy %s)",
				m.Rule, strings.TrimPrefix(id, "spiffe://"), m.Rule.Namespace, m.Rule.Name)
		}
		return who
	case m.Security != mesh.MutualTLS && m.Destination.Meshed:
		return m.fixPlaintext()
	case m.Rule.Name != "":
		return "look at " + m.Rule.String()
	}
	return ""
}
