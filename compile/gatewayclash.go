package compile

import (
	"fmt"
	"slices"
	"strings"

	"hasp/mesh"
)

// clash is what keeps a server off its port: something that an earlier server
// has there already, since on the wire there is one listener for a port and one
// certificate for a name. The older Gateway keeps what it has, so that nobody's
// new object breaks what is served. It names the field of the server and the
// way out; it is empty when there is nothing.
func (b *builder) clash(s *mesh.Server) (field, why string) {
	for i := range b.c.Gateway {
		have := &b.c.Gateway[i]
		if have.Port != s.Port {
			continue
		}
		owner := "Gateway " + have.Origin.Ref()
		if have.Protocol != s.Protocol {
			return "port", fmt.Sprintf("port %d speaks %s for %s; give the %s server another number", s.Port, word(have.Protocol), owner, word(s.Protocol))
		}
		host, both := common(have.Hosts, s.Hosts)
		switch {
		case s.Protocol == mesh.HTTPS && both:
			return "hosts", fmt.Sprintf("port %d has a certificate for %s from server %q of %s; remove the host from one of them", s.Port, host, have.Name, owner)
		case s.Protocol == mesh.HTTPS && have.Name == s.Name && have.Origin == s.Origin:
			return "port.name", fmt.Sprintf("%q is the name of another server on port %d; give this one its own", s.Name, s.Port)
		case s.HTTPSRedirect != have.HTTPSRedirect && both:
			return "tls.httpsRedirect", fmt.Sprintf("%t for %s, and %t in server %q of %s on the same port; make them equal", s.HTTPSRedirect, host, have.HTTPSRedirect, have.Name, owner)
		}
	}
	return "", ""
}

// common is a host that both lists name.
func common(a, b []string) (string, bool) {
	for _, h := range b {
		if slices.Contains(a, h) {
			return h, true
		}
	}
	return "", false
}

// word is a protocol as Gateways write it.
func word(p mesh.Protocol) string { return strings.ToUpper(string(p)) }
