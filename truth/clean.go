package truth

import (
	"slices"
	"strings"
	"unicode"

	"hasp/mesh"
)

// maxList bounds the lists of a failure.
const maxList = 8

// text is a stranger's string made fit to keep and to print: of bounded length
// and without what a terminal would obey.
func (l *Limits) text(s string) string {
	if len(s) > l.Text {
		s = s[:max(l.Text-len("…"), 0)] + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(s, "?"))
}

func (l *Limits) list(in []string) []string {
	var out []string
	for _, s := range in[:min(len(in), maxList)] {
		out = append(out, l.text(s))
	}
	return out
}

func (l *Limits) origin(o mesh.Origin) mesh.Origin {
	return mesh.Origin{Kind: l.text(o.Kind), Namespace: l.text(o.Namespace), Name: l.text(o.Name), Level: l.text(o.Level)}
}

func (l *Limits) handshake(h *mesh.Handshake) *mesh.Handshake {
	if h == nil {
		return nil
	}
	return &mesh.Handshake{
		At: h.At, Reused: h.Reused, TLS: l.text(h.TLS), Group: l.text(h.Group), Cipher: l.text(h.Cipher), ALPN: l.text(h.ALPN), Resumed: h.Resumed,
		LocalIdentity: l.text(h.LocalIdentity), PeerIdentity: l.text(h.PeerIdentity),
	}
}

func (l *Limits) failure(f *mesh.Failure) *mesh.Failure {
	if f == nil {
		return nil
	}
	return &mesh.Failure{
		Stage: l.text(f.Stage), Reason: l.text(f.Reason), Error: l.text(f.Error), ByPeer: f.ByPeer,
		Expected: l.list(f.Expected), Presented: l.certificate(f.Presented), Own: l.certificate(f.Own),
		TrustDomain: l.text(f.TrustDomain), SNI: l.text(f.SNI), Offered: l.list(f.Offered), At: f.At,
	}
}

func (l *Limits) certificate(c *mesh.Certificate) *mesh.Certificate {
	if c == nil {
		return nil
	}
	return &mesh.Certificate{Identity: l.text(c.Identity), Issuer: l.text(c.Issuer), Serial: l.text(c.Serial), NotBefore: c.NotBefore, NotAfter: c.NotAfter}
}

// connection cleans all strings of a row.
func (l *Limits) connection(c mesh.Connection) mesh.Connection {
	for _, s := range []*string{&c.Service, &c.Cluster, &c.PeerIdentity, &c.PeerWorkload, &c.Why, &c.TLS, &c.Group, &c.Cipher, &c.ALPN, &c.Mode} {
		*s = l.text(*s)
	}
	c.Trace = trace(c.Trace)
	c.Protocol = mesh.Protocol(l.text(string(c.Protocol)))
	c.Security = security(c.Security)
	c.Rule = l.origin(c.Rule)
	c.Failure = l.failure(c.Failure)
	return c
}

// edge cleans all strings of a line, and its list.
func (l *Limits) edge(e mesh.Edge) mesh.Edge {
	for _, s := range []*string{&e.Peer, &e.PeerIdentity, &e.Service, &e.Why, &e.Mode} {
		*s = l.text(*s)
	}
	e.LastTrace = trace(e.LastTrace)
	e.Protocol = mesh.Protocol(l.text(string(e.Protocol)))
	e.Security = security(e.Security)
	if e.Security != mesh.MutualTLS && e.Security != mesh.SimpleTLS {
		e.PeerIdentity = "" // nothing proved it
	}
	e.Rule = l.origin(e.Rule)
	e.Handshake = l.handshake(e.Handshake)
	if len(e.Latency) != len(mesh.LatencyBounds)+1 {
		e.Latency = nil
	}
	e.Latency = slices.Clone(e.Latency)
	return e
}

// trace is an id as TraceOf makes it, or nothing.
func trace(s string) string {
	if len(s) != 16 || strings.Trim(s, "0123456789abcdef") != "" {
		return ""
	}
	return s
}

func security(s mesh.Security) mesh.Security {
	switch s {
	case mesh.Plaintext, mesh.MutualTLS, mesh.SimpleTLS, mesh.PassedTLS, mesh.Probed:
		return s
	}
	return mesh.Unknown
}

func direction(d mesh.Direction) bool { return d == mesh.InboundDir || d == mesh.OutboundDir }
