package compile

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	networkingapi "istio.io/api/networking/v1alpha3"
	networking "istio.io/client-go/pkg/apis/networking/v1"

	"hasp/api"
	"hasp/mesh"
	"hasp/policy"
	"hasp/world"
)

// gateway fills in the servers, routes and clusters of a gateway workload, from
// the Gateways that select it and the VirtualServices that name those.
func gateway(w *world.World, wl *mesh.Workload, c *mesh.ProxyConfig) []Diagnostic {
	b := builder{w: w, wl: wl, c: c, clusters: map[string]bool{}, secrets: map[string]bool{}}
	// The oldest first: it keeps its ports and hosts (see clash).
	gateways := slices.Clone(w.Gateways)
	slices.SortStableFunc(gateways, func(a, b *networking.Gateway) int {
		return a.CreationTimestamp.Compare(b.CreationTimestamp.Time)
	})
	unanswered := policy.Authorization(w, wl)
	for _, p := range append(unanswered.Deny, unanswered.Allow...) {
		b.say(p.Origin, "spec: is not applied to what the gateway %s accepts; hasp authorizes at the workloads behind it", wl.Key())
	}
	for _, g := range gateways {
		if len(g.Spec.Selector) > 0 && !hasLabels(wl.Labels, g.Spec.Selector) {
			continue
		}
		for i, s := range g.Spec.Servers {
			b.server(g, s, fmt.Sprintf("servers[%d].", i))
		}
	}
	c.Outbound.AllowAny = w.Mesh.OutboundAllowAny
	slices.SortFunc(c.Outbound.Clusters, func(a, b mesh.Cluster) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(c.Secrets, func(a, b mesh.Secret) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortStableFunc(c.Gateway, func(a, b mesh.Server) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Name, b.Name))
	})
	return b.diagnostics
}

// proxyPorts are those that a proxy listens on for itself: admin, health and
// metrics, and, as in Istio, those of capture and of the agent.
var proxyPorts = []uint16{15000, 15001, 15004, 15006, 15008, 15020, api.ProxyHealthPort, 15053, api.ProxyMetricsPort}

type builder struct {
	w                 *world.World
	wl                *mesh.Workload
	c                 *mesh.ProxyConfig
	clusters, secrets map[string]bool
	diagnostics       []Diagnostic
}

func (b *builder) say(o mesh.Origin, format string, args ...any) {
	b.diagnostics = append(b.diagnostics, Diagnostic{o, fmt.Sprintf(format, args...)})
}

// server adds one server of a Gateway, whose fields are at the path. Servers
// for plain HTTP on one port are one listener: their hosts and routes are
// joined. One that cannot be served is left out and the rest stands.
func (b *builder) server(g *networking.Gateway, s *networkingapi.Server, path string) {
	origin := mesh.Origin{Kind: "Gateway", Namespace: g.Namespace, Name: g.Name}
	out := mesh.Server{Name: s.Port.GetName(), Port: uint16(s.Port.GetNumber()), Origin: origin}
	for _, h := range s.Hosts {
		out.Hosts = append(out.Hosts, hostOnly(h))
	}
	var secret *mesh.Secret
	switch p := strings.ToUpper(s.Port.GetProtocol()); p {
	case "HTTP", "HTTP2", "GRPC":
		out.Protocol = mesh.HTTP
		out.HTTPSRedirect = s.Tls.GetHttpsRedirect()
	case "HTTPS":
		out.Protocol = mesh.HTTPS
		var ok bool
		if secret, ok = b.serverTLS(s, path, &out); !ok {
			return
		}
	default:
		b.say(origin, "%sport.protocol %s is not served by the gateway; use HTTP or HTTPS", path, p)
		return
	}
	// A port that the gateway cannot open would make all of it not ready, and
	// whoever writes a Gateway for it is not its owner.
	if slices.Contains(proxyPorts, out.Port) {
		b.say(origin, "%sport.number %d is one of the gateway's own ports; choose another", path, out.Port)
		return
	}
	if field, why := b.clash(&out); field != "" {
		b.say(origin, "%s%s: %s", path, field, why)
		return
	}
	if secret != nil && !b.secrets[secret.Name] {
		b.secrets[secret.Name] = true
		b.c.Secrets = append(b.c.Secrets, *secret)
	}
	out.Routes = b.routes(g, s)
	if out.Protocol == mesh.HTTP {
		for i := range b.c.Gateway {
			have := &b.c.Gateway[i]
			if have.Port == out.Port && have.Protocol == mesh.HTTP && have.HTTPSRedirect == out.HTTPSRedirect {
				have.Hosts = append(have.Hosts, out.Hosts...)
				have.Routes = append(have.Routes, out.Routes...)
				byHost(have.Routes)
				return
			}
		}
	}
	b.c.Gateway = append(b.c.Gateway, out)
}

// serverTLS chooses the certificate. Files under /etc/certs or /etc/istio are
// where Istio's proxies find their own mesh certificate, so they mean that one.
// It returns the Secret, if it is one, and false when there is nothing to serve.
func (b *builder) serverTLS(s *networkingapi.Server, path string, out *mesh.Server) (*mesh.Secret, bool) {
	t := s.GetTls()
	switch t.GetMode() {
	case networkingapi.ServerTLSSettings_SIMPLE, networkingapi.ServerTLSSettings_MUTUAL:
		out.Mutual = t.GetMode() == networkingapi.ServerTLSSettings_MUTUAL
	default:
		b.say(out.Origin, "%stls.mode %s is not served by the gateway; use SIMPLE or MUTUAL", path, t.GetMode())
		return nil, false
	}
	if name := t.GetCredentialName(); name != "" {
		secret, ok := b.w.Secrets[b.wl.Namespace+"/"+name]
		if !ok {
			b.say(out.Origin, "%stls.credentialName: there is no TLS Secret %s/%s; make one with kubectl create secret tls %s -n %s", path, b.wl.Namespace, name, name, b.wl.Namespace)
			return nil, false
		}
		// The error names what is wrong, and never quotes the key.
		if _, err := tls.X509KeyPair(secret.Cert, secret.Key); err != nil {
			b.say(out.Origin, "%stls.credentialName: Secret %s/%s: %v; make it anew with kubectl create secret tls", path, b.wl.Namespace, name, err)
			return nil, false
		}
		if out.Mutual && !x509.NewCertPool().AppendCertsFromPEM(secret.CA) {
			b.say(out.Origin, "%stls.mode MUTUAL: Secret %s/%s has no ca.crt to verify clients with; add the key ca.crt to it, or use mode SIMPLE", path, b.wl.Namespace, name)
			return nil, false
		}
		out.Secret = secret.Name
		return &secret, true
	}
	if f := t.GetServerCertificate(); strings.HasPrefix(f, "/etc/certs/") || strings.HasPrefix(f, "/etc/istio/") {
		out.Secret = "default"
		return nil, true
	}
	b.say(out.Origin, "%stls.serverCertificate %q: the gateway reads no files; use credentialName with a TLS Secret, or /etc/certs/cert-chain.pem for the gateway's own certificate", path, t.GetServerCertificate())
	return nil, false
}

// routes of the VirtualServices bound to the Gateway whose hosts the server has.
func (b *builder) routes(g *networking.Gateway, s *networkingapi.Server) []mesh.HTTPRoute {
	var out []mesh.HTTPRoute
	for _, v := range b.w.VirtualServices {
		if !bound(v, g) {
			continue
		}
		hosts := commonHosts(s.Hosts, v)
		if len(hosts) == 0 {
			continue
		}
		for _, r := range v.Spec.Http {
			if route, ok := b.route(v, r); ok {
				route.Hosts = hosts
				out = append(out, route)
			}
		}
	}
	byHost(out)
	return out
}

// byHost puts the most specific host first, as a browser's user expects; within
// a host the order of the VirtualService stands.
func byHost(routes []mesh.HTTPRoute) {
	slices.SortStableFunc(routes, func(a, b mesh.HTTPRoute) int { return cmp.Compare(breadth(a.Hosts), breadth(b.Hosts)) })
}

func (b *builder) route(v *networking.VirtualService, r *networkingapi.HTTPRoute) (mesh.HTTPRoute, bool) {
	origin := mesh.Origin{Kind: "VirtualService", Namespace: v.Namespace, Name: v.Name}
	out := mesh.HTTPRoute{Origin: origin, Rewrite: r.GetRewrite().GetUri()}
	for _, m := range r.Match {
		hm, ok := httpMatch(m)
		if !ok {
			b.say(origin, "http[%s].match uses a condition other than uri and method, which the gateway does not evaluate; the route is left out", r.Name)
			return out, false
		}
		out.Matches = append(out.Matches, hm)
	}
	for _, d := range r.Route {
		cl := b.destination(origin, v.Namespace, d.GetDestination())
		if !b.clusters[cl.Name] {
			b.clusters[cl.Name] = true
			b.c.Outbound.Clusters = append(b.c.Outbound.Clusters, cl)
		}
		out.To = append(out.To, mesh.WeightedTarget{Cluster: cl.Name, Weight: int(d.Weight)})
	}
	return out, len(out.To) > 0
}

// destination is the cluster a route leads to. One that is not there becomes a
// cluster without endpoints: its requests fail with 503, as in Istio, and do not
// fall through to the next route.
func (b *builder) destination(origin mesh.Origin, namespace string, d *networkingapi.Destination) mesh.Cluster {
	host, port := qualify(d.GetHost(), namespace), uint16(d.GetPort().GetNumber())
	svc := b.w.Service(namespace, host)
	switch {
	case svc == nil:
		b.say(origin, "http[].route[].destination.host: there is no service %s", host)
	case port == 0 && len(svc.Ports) != 1:
		b.say(origin, "http[].route[].destination.port: %s has %d ports; name one", host, len(svc.Ports))
	case port == 0:
		return cluster(b.w, b.wl, svc, svc.Ports[0].Number, d.GetSubset())
	default:
		return cluster(b.w, b.wl, svc, port, d.GetSubset())
	}
	return mesh.Cluster{Name: clusterName(host, port, d.GetSubset()), Hostname: host, Port: port, Subset: d.GetSubset(), Protocol: mesh.HTTP}
}

func httpMatch(m *networkingapi.HTTPMatchRequest) (mesh.HTTPMatch, bool) {
	var out mesh.HTTPMatch
	if len(m.Headers)+len(m.WithoutHeaders)+len(m.QueryParams)+len(m.SourceLabels) > 0 || m.Scheme != nil || m.Authority != nil || m.IgnoreUriCase {
		return out, false
	}
	switch u := m.GetUri().GetMatchType().(type) {
	case *networkingapi.StringMatch_Exact:
		out.PathExact = u.Exact
	case *networkingapi.StringMatch_Prefix:
		out.PathPrefix = u.Prefix
	case *networkingapi.StringMatch_Regex:
		out.PathRegex = u.Regex
	}
	if m.Method != nil {
		out.Method = m.Method.GetExact()
		if out.Method == "" {
			return out, false
		}
	}
	return out, true
}

// bound: a VirtualService names its gateways as NAME (of its own namespace) or
// NAMESPACE/NAME.
func bound(v *networking.VirtualService, g *networking.Gateway) bool {
	for _, name := range v.Spec.Gateways {
		if name == g.Namespace+"/"+g.Name || name == g.Name && v.Namespace == g.Namespace {
			return true
		}
	}
	return false
}

// commonHosts are the VirtualService's hosts that the server serves. A server
// host NAMESPACE/HOST admits only that namespace's VirtualServices ("." is the
// gateway's own; "*" any).
func commonHosts(serverHosts []string, v *networking.VirtualService) []string {
	var out []string
	for _, h := range v.Spec.Hosts {
		for _, s := range serverHosts {
			if ns, _, ok := strings.Cut(s, "/"); ok && ns != "*" && ns != "." && ns != v.Namespace {
				continue
			}
			if both, ok := narrower(hostOnly(s), h); ok && !slices.Contains(out, both) {
				out = append(out, both)
			}
		}
	}
	return out
}

func hostOnly(h string) string {
	if _, host, ok := strings.Cut(h, "/"); ok {
		return host
	}
	return h
}

// narrower is what two host patterns have in common.
func narrower(a, b string) (string, bool) {
	covers := func(pattern, host string) bool {
		if pattern == "*" || pattern == host {
			return true
		}
		suffix, ok := strings.CutPrefix(pattern, "*")
		return ok && strings.HasSuffix(strings.TrimPrefix(host, "*"), suffix)
	}
	switch {
	case covers(a, b):
		return b, true
	case covers(b, a):
		return a, true
	}
	return "", false
}

// breadth orders hosts: exact, then wildcards, the longest first, then "*".
func breadth(hosts []string) int {
	widest := 0
	for _, h := range hosts {
		switch {
		case h == "*":
			widest = max(widest, 1000)
		case strings.HasPrefix(h, "*"):
			widest = max(widest, 999-len(h))
		}
	}
	return widest
}
