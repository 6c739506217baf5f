package truth

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"hasp/mesh"
	"hasp/world"
)

const (
	// patience is how long an end may take to report what the other one did.
	patience = 3 * time.Second
	// hesitation is how much later one end may see the end of a connection than
	// the other.
	hesitation = time.Second
	// clockError is what two ends' times of one connection may differ by.
	clockError = 5 * time.Second
)

// Links are the connections of a workload (its pod or Deployment, as
// NAMESPACE/NAME, NAME.NAMESPACE or NAME), or all of them for "": the live ones
// first, then those that ended, each the newest first.
func Links(w *world.World, f *Facts, workload string) []Link {
	s := sceneOf(w, f)
	var out []Link
	for _, p := range s.pairs() {
		l := s.link(p)
		if workload == "" || l.Source.is(workload) || l.Destination.is(workload) {
			out = append(out, l)
		}
	}
	slices.SortStableFunc(out, func(a, b Link) int {
		return cmp.Or(compareBools(!a.End.IsZero(), !b.End.IsZero()), b.Start.Compare(a.Start), cmp.Compare(a.Trace, b.Trace))
	})
	return out
}

// pair is the rows of one connection: of the client's proxy, of the server's, or
// of both.
type pair struct{ out, in *Connection }

// pairs joins the rows of both ends. For TLS between proxies a trace is of one
// connection only; otherwise it is of two sockets, which may have been used
// before, so the times must overlap too. The rows must also name each other: a
// proxy that repeats a trace it has heard of joins nothing.
func (s *scene) pairs() []pair {
	byTrace := map[string][]*Connection{}
	rows := s.f.Connections
	for i := range rows {
		if c := &rows[i]; c.Direction == mesh.InboundDir && c.Trace != "" {
			byTrace[c.Trace] = append(byTrace[c.Trace], c)
		}
	}
	joined := map[*Connection]bool{}
	var out []pair
	for i := range rows {
		c := &rows[i]
		if c.Direction != mesh.OutboundDir {
			continue
		}
		p := pair{out: c}
		for _, in := range byTrace[c.Trace] {
			if !joined[in] && s.sameConnection(c, in) && (p.in == nil || apart(c, in) < apart(c, p.in)) {
				p.in = in
			}
		}
		if p.in != nil {
			joined[p.in] = true
		}
		out = append(out, p)
	}
	s.remapped(out, joined)
	for i := range rows {
		if c := &rows[i]; c.Direction == mesh.InboundDir && !joined[c] {
			out = append(out, pair{in: c})
		}
	}
	return out
}

// remapped joins what is left over of connections that ended, where the server's
// kernel gave one another port: two connections from one port to two ports of a
// workload would be the same once both are redirected to its proxy (Linux's
// nf_nat picks a free port for the second). A trace of addresses is another at
// each end then. All else must fit, and fit nothing else.
func (s *scene) remapped(pairs []pair, joined map[*Connection]bool) {
	type halves struct{ out, in []int }
	type place struct {
		client netip.Addr
		server netip.AddrPort
	}
	left := map[place]*halves{}
	at := func(client netip.AddrPort, server netip.AddrPort) *halves {
		p := place{client.Addr().Unmap(), netip.AddrPortFrom(server.Addr().Unmap(), server.Port())}
		if left[p] == nil {
			left[p] = &halves{}
		}
		return left[p]
	}
	for i, p := range pairs {
		if c := p.out; p.in == nil && c.Upstream.IsValid() && !c.End.IsZero() {
			h := at(c.Local, c.Upstream)
			h.out = append(h.out, i)
		}
	}
	rows := s.f.Connections
	for i := range rows {
		if c := &rows[i]; c.Direction == mesh.InboundDir && !joined[c] && !c.End.IsZero() {
			h := at(c.Source, c.Destination)
			h.in = append(h.in, i)
		}
	}
	for _, h := range left {
		for _, o := range h.out {
			out, fits := pairs[o].out, []*Connection(nil)
			for _, i := range h.in {
				in := &rows[i]
				if !joined[in] && out.Sent == in.Sent && out.Received == in.Received && apart(out, in) < hesitation && s.sameConnection(out, in) {
					fits = append(fits, in)
				}
			}
			if len(fits) == 1 {
				pairs[o].in, joined[fits[0]] = fits[0], true
			}
		}
	}
}

func apart(a, b *Connection) time.Duration { return a.Start.Sub(b.Start).Abs() }

func (s *scene) sameConnection(out, in *Connection) bool {
	if out.PeerWorkload != "" && out.PeerWorkload != in.Node || in.PeerWorkload != "" && in.PeerWorkload != out.Node {
		return false
	}
	return begins(out).Before(ends(in)) && begins(in).Before(ends(out))
}

func begins(c *Connection) time.Time { return c.Start.Add(-clockError) }

func ends(c *Connection) time.Time {
	if c.End.IsZero() {
		return c.LastSeen.Add(100 * 365 * 24 * time.Hour) // it lives
	}
	return c.End.Add(clockError)
}

// link makes one of a pair.
func (s *scene) link(p pair) Link {
	l := Link{AtSource: p.out, AtDestination: p.in}
	l.Source, l.Destination = s.source(p), s.destination(p)
	for _, c := range []*Connection{p.out, p.in} {
		if c != nil {
			l.add(c)
		}
	}
	l.security(p)
	if c := p.in; c != nil {
		l.Seen, l.Port, l.Mode, l.Rule = "destination", c.Destination.Port(), c.Mode, c.Rule
	}
	if c := p.out; c != nil {
		if l.Seen = "source"; p.in != nil {
			l.Seen = "both"
		}
		l.ClientMode, l.ClientRule = c.Mode, c.Rule
		if port := goal(c).Port(); port != 0 {
			l.Port = port
		}
	}
	l.Handshake = handshakeOf(p)
	l.Disagreement = s.disagreement(&l, p)
	return l
}

// goal is where a client's proxy was asked to go. A gateway's connections go to
// the endpoint it chose.
func goal(c *Connection) netip.AddrPort {
	if c.Destination.IsValid() {
		return c.Destination
	}
	return c.Upstream
}

func (s *scene) source(p pair) Party {
	var out Party
	switch {
	case p.out != nil:
		out = s.workload(p.out.Node)
		out.Address = text(p.out.Source)
		out.Identity = p.out.LocalIdentity
	case p.in.PeerWorkload != "":
		out = s.workload(p.in.PeerWorkload)
		out.Address = text(p.in.Source)
	default:
		out = s.address(p.in.Source.Addr())
	}
	if p.in != nil && p.in.Security == mesh.MutualTLS && p.in.PeerIdentity != "" {
		out.Identity = p.in.PeerIdentity // as proved
	}
	return out
}

func (s *scene) destination(p pair) Party {
	var out Party
	switch {
	case p.in != nil:
		out = s.workload(p.in.Node)
		out.Address = text(p.in.Destination)
		out.Identity = p.in.LocalIdentity
	case p.out.PeerWorkload != "":
		out = s.workload(p.out.PeerWorkload)
		out.Address = text(p.out.Upstream)
	case p.out.Upstream.IsValid():
		out = s.called(p.out.Node, p.out.Service, p.out.Upstream.Addr())
	default:
		out = s.called(p.out.Node, p.out.Service, p.out.Destination.Addr()) // it never got further
	}
	if p.out != nil && proved(p.out) {
		out.Identity = p.out.PeerIdentity
	}
	return out
}

func proved(c *Connection) bool {
	return (c.Security == mesh.MutualTLS || c.Security == mesh.SimpleTLS) && c.PeerIdentity != ""
}

func text(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.Addr().Unmap().String()
}

// add what both ends say alike.
func (l *Link) add(c *Connection) {
	first := l.Start.IsZero()
	l.Trace = cmp.Or(l.Trace, c.Trace)
	l.Service = cmp.Or(l.Service, c.Service)
	if l.Protocol == "" || l.Protocol == mesh.TCP {
		l.Protocol = cmp.Or(c.Protocol, l.Protocol)
	}
	l.Allowed = c.Allowed && (first || l.Allowed)
	l.Generation = max(l.Generation, c.Generation)
	l.Sent, l.Received = max(l.Sent, c.Sent), max(l.Received, c.Received)
	l.Requests, l.Errors = max(l.Requests, c.Requests), max(l.Errors, c.Errors)
	if first || c.Start.Before(l.Start) {
		l.Start = c.Start
	}
	if c.LastSeen.After(l.LastSeen) {
		l.LastSeen = c.LastSeen
	}
	if c.End.After(l.End) {
		l.End = c.End
	}
}

// security is what was spoken, and why that. Where the ends differ it is the
// weaker: nobody is told of encryption that one end did not see.
func (l *Link) security(p pair) {
	says := p.in
	if says == nil || p.out != nil && settled(p.out) && weakness(p.out) > weakness(p.in) {
		says = p.out
	}
	if says.Security == mesh.Unknown && p.out != nil {
		says = p.out
	}
	l.Security = says.Security
	// A refusal is explained by who refused, plaintext by who chose it: the
	// client, if it has a proxy.
	switch {
	case p.in != nil && !p.in.Allowed:
		l.Why = p.in.Why
	case p.out != nil && (p.out.Why != "" || p.in == nil):
		l.Why = p.out.Why
	default:
		l.Why = p.in.Why
	}
}

// settled rows know what they spoke.
func settled(c *Connection) bool { return c.Security != mesh.Unknown && c.Failure == nil }

func weakness(c *Connection) int {
	switch c.Security {
	case mesh.MutualTLS:
		return 1
	case mesh.SimpleTLS:
		return 2
	case mesh.PassedTLS:
		return 3
	case mesh.Plaintext:
		// A client's proxy does not look into what it passes on: the server's may
		// know it for TLS.
		if c.Direction == mesh.OutboundDir {
			return 3
		}
		return 4
	}
	return 0
}

// handshakeOf is what was agreed on, as the client sees it.
func handshakeOf(p pair) *mesh.Handshake {
	for _, c := range []*Connection{p.out, p.in} {
		if c == nil || c.TLS == "" {
			continue
		}
		h := &mesh.Handshake{At: c.Start, Reused: c.Reused, TLS: c.TLS, Group: c.Group, Cipher: c.Cipher, ALPN: c.ALPN, Resumed: c.Resumed,
			LocalIdentity: c.LocalIdentity, PeerIdentity: c.PeerIdentity}
		if c.Reused > 0 {
			h.At = c.HandshakeAt
		}
		if c.Direction == mesh.InboundDir {
			h.LocalIdentity, h.PeerIdentity = h.PeerIdentity, h.LocalIdentity
		}
		return h
	}
	return nil
}

// disagreement is what the ends say differently, in a sentence.
func (s *scene) disagreement(l *Link, p pair) string {
	switch {
	case p.in == nil:
		return s.unseen(l, l.Destination, "received", p.out)
	case p.out == nil:
		return s.unseen(l, l.Source, "made", p.in)
	case !settled(p.out) || !settled(p.in):
		return ""
	}
	var diff []string
	differ := func(what, client, server string) {
		if client != server {
			diff = append(diff, fmt.Sprintf("the client's proxy says %s %s and the server's %s", what, cmp.Or(client, "none"), cmp.Or(server, "none")))
		}
	}
	out, in := p.out, p.in
	switch mutual := out.Security == mesh.MutualTLS; {
	case mutual && in.Security == mesh.PassedTLS:
		// certificates of the client's own files (MUTUAL), which the server's
		// proxy passes on
	case mutual != (in.Security == mesh.MutualTLS):
		differ("security is", string(out.Security), string(in.Security))
	case mutual:
		differ("TLS is", out.TLS, in.TLS)
		differ("the server is", out.PeerIdentity, in.LocalIdentity)
		differ("the client is", out.LocalIdentity, in.PeerIdentity)
	}
	return strings.Join(diff, "; ")
}

// unseen says that an end which should have reported a connection did not, or
// nothing when that proves nothing.
func (s *scene) unseen(l *Link, absent Party, did string, c *Connection) string {
	switch {
	case c.Failure != nil || !c.Allowed: // it may never have come so far
		return ""
	case c.Security == mesh.Probed || c.PeerWorkload == c.Node:
		return "" // nobody's proxy makes a probe, and a call to oneself leaves none
	case absent.Kind == KindGateway && did == "received":
		return "" // what a gateway accepts is no row of its table
	case !absent.Meshed || !s.answers(absent.Workload):
		return ""
	case s.f.At.Sub(l.Start) < patience || !l.LastSeen.After(s.reporters[absent.Workload].Complete.Add(hesitation)):
		return "" // it may come yet, or may be forgotten already
	}
	return unheard(absent.Workload, did)
}

func unheard(workload, did string) string {
	return fmt.Sprintf("%s has a proxy and did not report that it %s the connection: it bypassed the proxy, or the proxy does not tell", workload, did)
}
