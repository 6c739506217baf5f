package proxy

import (
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"regexp"
	"strings"
	"time"

	"hasp/mesh"
)

// gatewayServer is a mesh.Server with its words made into what they mean.
type gatewayServer struct {
	*mesh.Server
	tls *tls.Config // HTTPS only
	// tlsErr is why the server has no certificate. Its handshakes fail with it
	// and the rest of the configuration serves.
	tlsErr error
	routes []*route
}

type route struct {
	*mesh.HTTPRoute
	matches []match
	targets []target
	total   int // of the weights
}

type match struct {
	mesh.HTTPMatch
	regex *regexp.Regexp
}

type target struct {
	cluster *cluster
	weight  int
}

func newGatewayServer(id Identity, now func() time.Time, srv *mesh.Server, secrets []mesh.Secret, clusters map[string]*cluster) (*gatewayServer, error) {
	g := &gatewayServer{Server: srv}
	switch srv.Protocol {
	case mesh.HTTP:
	case mesh.HTTPS:
		g.tls, g.tlsErr = gatewayTLS(id, now, srv, secrets)
	default:
		return nil, fmt.Errorf("protocol %q: a gateway serves http and https", srv.Protocol)
	}
	for i := range srv.Routes {
		r, err := newRoute(&srv.Routes[i], clusters)
		if err != nil {
			return nil, fmt.Errorf("route %d of %s: %w", i, srv.Routes[i].Origin.Ref(), err)
		}
		g.routes = append(g.routes, r)
	}
	return g, nil
}

func newRoute(r *mesh.HTTPRoute, clusters map[string]*cluster) (*route, error) {
	out := &route{HTTPRoute: r}
	for _, m := range r.Matches {
		c := match{HTTPMatch: m}
		if m.PathRegex != "" {
			re, err := regexp.Compile("^(?:" + m.PathRegex + ")$")
			if err != nil {
				return nil, fmt.Errorf("pathRegex %q: %w", m.PathRegex, err)
			}
			c.regex = re
		}
		out.matches = append(out.matches, c)
	}
	for _, t := range r.To {
		c := clusters[t.Cluster]
		if c == nil {
			return nil, fmt.Errorf("no cluster %q", t.Cluster)
		}
		if t.Weight < 0 {
			return nil, fmt.Errorf("weight %d of %s is negative", t.Weight, t.Cluster)
		}
		out.targets = append(out.targets, target{c, t.Weight})
		out.total += t.Weight
	}
	if len(out.targets) == 0 {
		return nil, fmt.Errorf("it leads nowhere")
	}
	return out, nil
}

// server is the one for a host name, the most specific first: exact, the
// longest wildcard, "*".
func (g *gatewaySettings) server(host string) *gatewayServer {
	var best *gatewayServer
	score := -1
	for _, s := range g.servers {
		for _, pattern := range s.Hosts {
			if n := hostScore(pattern, host); n > score {
				best, score = s, n
			}
		}
	}
	return best
}

// serverOf is the server a request is for. Under TLS it is the one whose
// certificate the client asked for: a Host header must not lead past the client
// certificate that another server requires.
func (g *gatewaySettings) serverOf(r *http.Request) *gatewayServer {
	if r.TLS != nil {
		return g.server(r.TLS.ServerName)
	}
	return g.server(hostname(r.Host))
}

// misdirected tells whether a request came on a connection that is another
// server's, or that was made before the server required a client certificate.
// The client is to try again on a new one (RFC 9110, section 15.5.20).
func (g *gatewaySettings) misdirected(s *gatewayServer, r *http.Request) bool {
	if r.TLS == nil {
		return false
	}
	if s.Mutual && len(r.TLS.PeerCertificates) == 0 {
		return true
	}
	other := g.server(hostname(r.Host))
	return other != nil && other != s
}

// hostScore is how well a pattern fits a host; -1 is not at all. A pattern may
// carry a namespace in front (NAMESPACE/HOST, as Gateways write them).
func hostScore(pattern, host string) int {
	if _, after, ok := strings.Cut(pattern, "/"); ok {
		pattern = after
	}
	pattern, host = strings.ToLower(pattern), strings.ToLower(host)
	switch {
	case pattern == "*":
		return 0
	case pattern == host:
		return 1 << 16
	case strings.HasPrefix(pattern, "*.") && strings.HasSuffix(host, pattern[1:]) && len(host) > len(pattern)-1:
		return len(pattern)
	}
	return -1
}

// route finds the first route for a request, and which of its matches it was
// (nil when the route takes everything).
func (s *gatewayServer) route(r *http.Request) (*route, *match) {
	host := hostname(r.Host)
	for _, rt := range s.routes {
		fits := false
		for _, h := range rt.Hosts {
			fits = fits || hostScore(h, host) >= 0
		}
		if !fits {
			continue
		}
		if len(rt.matches) == 0 {
			return rt, nil
		}
		for i := range rt.matches {
			if rt.matches[i].fits(r) {
				return rt, &rt.matches[i]
			}
		}
	}
	return nil, nil
}

func (m *match) fits(r *http.Request) bool {
	path := r.URL.Path
	return (m.Method == "" || m.Method == r.Method) &&
		(m.PathExact == "" || m.PathExact == path) &&
		strings.HasPrefix(path, m.PathPrefix) &&
		(m.regex == nil || m.regex.MatchString(path))
}

// pick draws a target by weight.
func (r *route) pick() *cluster {
	if r.total == 0 {
		return r.targets[rand.IntN(len(r.targets))].cluster
	}
	n := rand.IntN(r.total)
	for _, t := range r.targets {
		if n -= t.weight; n < 0 {
			return t.cluster
		}
	}
	return r.targets[len(r.targets)-1].cluster
}

// rewritten is the path to send: the matched part replaced by the rewrite, as
// Envoy's prefix_rewrite does; a route without a prefix matches "/".
func (r *route) rewritten(m *match, path string) string {
	if r.Rewrite == "" {
		return path
	}
	prefix := "/"
	switch {
	case m != nil && m.PathExact != "":
		return r.Rewrite
	case m != nil && m.PathPrefix != "":
		prefix = m.PathPrefix
	}
	return r.Rewrite + strings.TrimPrefix(path, prefix)
}

// hostname is a Host header without its port.
func hostname(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		return h
	}
	return strings.Trim(host, "[]")
}
