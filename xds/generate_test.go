package xds_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"hasp/mesh"
)

// gen makes configurations at random, in the form that Decode gives them:
// sorted, without what a mode does not use.
type gen struct{ *rand.Rand }

func (g gen) yes() bool { return g.IntN(2) == 0 }

func pick[T any](g gen, xs ...T) T { return xs[g.IntN(len(xs))] }

func (g gen) word() string {
	return pick(g, "boards", "app-ui", "userprofile", "shop", "a", "ü", "x y", "<&>") + fmt.Sprint(g.IntN(100))
}

func (g gen) identity() string {
	if g.IntN(4) == 0 {
		return ""
	}
	return mesh.Identity("cluster.local", pick(g, "shop", "bank"), g.word())
}

func (g gen) workload() string {
	if g.IntN(4) == 0 {
		return ""
	}
	return pick(g, "shop", "bank") + "/" + g.word()
}

func (g gen) addr() netip.Addr {
	if g.yes() {
		return netip.AddrFrom4([4]byte{10, byte(g.IntN(4)), byte(g.IntN(256)), byte(g.IntN(256))})
	}
	return netip.AddrFrom16([16]byte{0xfd, 0x77, 14: byte(g.IntN(256)), 15: byte(1 + g.IntN(255))})
}

func (g gen) port() uint16 { return uint16(1 + g.IntN(65535)) }

func (g gen) origin() mesh.Origin {
	if g.IntN(3) == 0 {
		return mesh.Origin{}
	}
	return mesh.Origin{Kind: pick(g, "Policy", "DestinationRule"), Namespace: pick(g, "", "shop"), Name: g.word(), Level: pick(g, mesh.LevelMesh, mesh.LevelPort)}
}

func (g gen) protocol() mesh.Protocol {
	return pick(g, mesh.TCP, mesh.HTTP, mesh.GRPC, mesh.HTTP2, mesh.Mongo, "")
}

func some[T any](g gen, max int, one func() T) []T {
	var out []T
	for range g.IntN(max + 1) {
		out = append(out, one())
	}
	return out
}

func (g gen) config() *mesh.ProxyConfig {
	c := &mesh.ProxyConfig{
		Node: "shop/boards-1", Identity: g.identity(), TrustDomain: "cluster.local",
		Role: pick(g, mesh.RoleSidecar, mesh.RoleGateway), MinTLS: pick(g, "", "1.2", "1.3"), Names: g.names(),
		Peers: some(g, 5, g.peer), Settings: g.settings(),
	}
	slices.SortStableFunc(c.Peers, func(a, b mesh.Peer) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Workload, b.Workload))
	})
	if c.Role == mesh.RoleSidecar && g.IntN(3) == 0 {
		c.OnDemand = true
		c.Peers = slices.CompactFunc(c.Peers, func(a, b mesh.Peer) bool { return a.Addr == b.Addr })
	}
	c.Outbound.AllowAny = g.yes()
	for i := range g.IntN(5) {
		c.Outbound.Clusters = append(c.Outbound.Clusters, g.cluster(i))
	}
	slices.SortFunc(c.Outbound.Clusters, func(a, b mesh.Cluster) int { return cmp.Compare(a.Name, b.Name) })
	if c.Role == mesh.RoleGateway {
		g.servers(c)
	} else {
		g.capture(c)
	}
	return c
}

func (g gen) settings() mesh.Settings {
	return mesh.Settings{
		AccessLog:              pick(g, mesh.LogAsStarted, mesh.LogOff, mesh.LogText, mesh.LogJSON),
		ConnectTimeoutMillis:   pick[int64](g, 0, 1, 1500, 10_000),
		DrainMillis:            pick[int64](g, 0, 45_000),
		TerminationDrainMillis: pick[int64](g, 0, 5000, 86_400_000),
		IdleMillis:             pick[int64](g, 0, 3_600_000),
		NoTrunks:               g.IntN(4) == 0,
	}
}

func (g gen) peer() mesh.Peer {
	return mesh.Peer{Addr: g.addr(), Workload: g.workload(), Identity: g.identity(), Sidecar: g.yes(), Names: g.names()}
}

func (g gen) capture(c *mesh.ProxyConfig) {
	c.Inbound.Default = g.inbound(0)
	if g.yes() {
		c.Inbound.Authorization = g.authorization()
	}
	for port := range 4 {
		if g.yes() {
			c.Inbound.Ports = append(c.Inbound.Ports, g.inbound(uint16(8080+port)))
		}
	}
	seen := map[netip.AddrPort]bool{}
	for _, cl := range c.Outbound.Clusters {
		l := mesh.Listener{Addr: g.addr(), Port: g.port(), Cluster: cl.Name}
		if g.IntN(5) == 0 {
			l.Addr = netip.Addr{}
		}
		if key := netip.AddrPortFrom(l.Addr, l.Port); !seen[key] {
			seen[key] = true
			c.Outbound.Listeners = append(c.Outbound.Listeners, l)
		}
	}
	slices.SortFunc(c.Outbound.Listeners, func(a, b mesh.Listener) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Port, b.Port))
	})
}

func (g gen) authorization() mesh.Authorization {
	block := func() netip.Prefix { return netip.PrefixFrom(g.addr(), 8+g.IntN(25)).Masked() }
	word := func() string { return pick(g, "*", g.word(), g.word()+"*", "*"+g.word()) }
	rule := func() mesh.AuthorizationRule {
		return mesh.AuthorizationRule{
			From: some(g, 2, func() mesh.AuthorizationSource {
				return mesh.AuthorizationSource{
					Principals: some(g, 2, word), NotPrincipals: some(g, 2, word), Namespaces: some(g, 2, word), NotNamespaces: some(g, 2, word),
					ServiceAccounts: some(g, 2, g.workload), TrustDomains: some(g, 2, word), IPBlocks: some(g, 2, block), NotIPBlocks: some(g, 2, block),
				}
			}),
			To: some(g, 2, func() mesh.AuthorizationTarget {
				return mesh.AuthorizationTarget{Ports: some(g, 2, g.port), NotPorts: some(g, 2, g.port)}
			}),
			When: some(g, 3, func() mesh.AuthorizationCondition {
				return pick(g,
					mesh.AuthorizationCondition{Key: mesh.KeySourceNamespace, Values: some(g, 2, word)},
					mesh.AuthorizationCondition{Key: mesh.KeySourceServiceAccount, NotValues: some(g, 2, word)},
					mesh.AuthorizationCondition{Key: mesh.KeySourceIP, Values: []string{"10.0.0.1", "fd00::/8"}},
					mesh.AuthorizationCondition{Key: mesh.KeyDestinationPort, Values: []string{"8080"}},
					mesh.AuthorizationCondition{Key: mesh.KeyDestinationIP, NotValues: []string{"10.0.0.0/8"}})
			}),
		}
	}
	rules := func() mesh.AuthorizationRules {
		return mesh.AuthorizationRules{Origin: g.origin(), Rules: some(g, 3, rule)}
	}
	return mesh.Authorization{Deny: some(g, 2, rules), Allow: some(g, 2, rules)}
}

func (g gen) inbound(port uint16) mesh.InboundPort {
	return mesh.InboundPort{
		Port: port, Origin: g.origin(), Protocol: g.protocol(), Service: pick(g, "", g.word()),
		Mode: pick(g, mesh.ModeUnset, mesh.ModeDisable, mesh.ModePermissive, mesh.ModeStrict, "LATER"),
	}
}

func (g gen) cluster(i int) mesh.Cluster {
	c := mesh.Cluster{
		Hostname: g.word(), Namespace: pick(g, "", "shop"), Port: g.port(), Subset: pick(g, "", "v1"),
		Protocol: g.protocol(), OriginalDst: g.IntN(4) == 0, TLS: g.tls(),
	}
	c.Name = fmt.Sprintf("outbound|%d|%s|%s.%d", c.Port, c.Subset, c.Hostname, i)
	c.Endpoints = some(g, 4, func() mesh.Endpoint { return g.endpoint(c.Port) })
	slices.SortStableFunc(c.Endpoints, func(a, b mesh.Endpoint) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Host, b.Host), cmp.Compare(a.Port, b.Port))
	})
	return c
}

func (g gen) endpoint(port uint16) mesh.Endpoint {
	ep := mesh.Endpoint{ServicePort: pick(g, port, port, 0, 7), Addr: g.addr(), Port: g.port(), Workload: g.workload(), Identity: g.identity(), Sidecar: g.yes()}
	if g.IntN(6) == 0 {
		ep.Addr, ep.Host = netip.Addr{}, g.word()+".example.com"
	}
	if g.yes() {
		ep.Labels = map[string]string{"app": g.word(), "version": ""}
	}
	return ep
}

func (g gen) tls() mesh.ClientTLS {
	t := mesh.ClientTLS{Origin: g.origin(), Mode: pick(g, mesh.ClientUnset, mesh.ClientDisable, mesh.ClientSimple, mesh.ClientMutual, mesh.ClientIstioMutual)}
	t.Auto = t.Mode == mesh.ClientUnset && g.yes()
	if t.Mode == mesh.ClientDisable || t.Mode == mesh.ClientUnset && !t.Auto {
		return t
	}
	t.SNI = pick(g, "", g.word())
	files := t.Mode == mesh.ClientSimple || t.Mode == mesh.ClientMutual
	t.InsecureSkipVerify = files && g.IntN(3) == 0
	if !t.InsecureSkipVerify {
		t.SubjectAltNames = some(g, 3, g.word)
		if files {
			t.CACertificates = pick(g, "", "/etc/ssl/ca.pem")
		}
	}
	if t.Mode == mesh.ClientMutual {
		t.ClientCertificate, t.PrivateKey = pick(g, "", "/c.pem"), pick(g, "", "/k.pem")
	}
	return t
}

func (g gen) servers(c *mesh.ProxyConfig) {
	for i := range g.IntN(3) {
		s := mesh.Secret{Name: fmt.Sprintf("kubernetes://cert-%d", i), Cert: []byte(g.word()), Key: []byte{0, 255, byte(i)}}
		if g.yes() {
			s.CA = []byte(g.word())
		}
		// A secret that no server names is not sent.
		c.Secrets = append(c.Secrets, s)
		c.Gateway = append(c.Gateway, mesh.Server{
			Name: g.word(), Port: 443, Protocol: mesh.HTTPS, Hosts: []string{fmt.Sprintf("s%d.example.com", i), fmt.Sprintf("*.s%d.example.com", i)},
			Secret: s.Name, Mutual: s.CA != nil && g.yes(), Routes: some(g, 3, func() mesh.HTTPRoute { return g.route(c.Outbound.Clusters) }), Origin: g.origin(),
		})
	}
	for range g.IntN(3) {
		c.Gateway = append(c.Gateway, mesh.Server{
			Name: g.word(), Port: pick[uint16](g, 80, 8080), Protocol: mesh.HTTP, Hosts: g.hosts(), HTTPSRedirect: g.yes(),
			Routes: some(g, 3, func() mesh.HTTPRoute { return g.route(c.Outbound.Clusters) }), Origin: g.origin(),
		})
	}
	if g.yes() {
		c.Gateway = append(c.Gateway, mesh.Server{Port: 8443, Protocol: mesh.HTTPS, Hosts: []string{"*"}, Secret: "default", Mutual: g.yes()})
	}
}

func (g gen) hosts() []string {
	return append([]string{pick(g, "*", "a.example.com", "*.example.com")}, some(g, 2, func() string { return g.word() + ".example.com" })...)
}

func (g gen) route(clusters []mesh.Cluster) mesh.HTTPRoute {
	r := mesh.HTTPRoute{Hosts: g.hosts(), Origin: g.origin(), Matches: some(g, 3, g.match)}
	if len(clusters) == 0 {
		return r
	}
	r.Rewrite = pick(g, "", "/new")
	r.To = []mesh.WeightedTarget{{Cluster: pick(g, clusters...).Name, Weight: pick(g, 0, 0, 100)}}
	for _, c := range clusters[:g.IntN(len(clusters))] {
		r.To = append(r.To, mesh.WeightedTarget{Cluster: c.Name, Weight: pick(g, 0, 10) * min(1, r.To[0].Weight)})
	}
	return r
}

func (g gen) match() mesh.HTTPMatch {
	m := mesh.HTTPMatch{Method: pick(g, "", "GET", "POST")}
	switch g.IntN(4) {
	case 0:
		m.PathExact = "/" + g.word()
	case 1:
		m.PathPrefix = pick(g, "/", "/boards/")
	case 2:
		m.PathRegex = "/[a-z]+"
	}
	return m
}

func (g gen) names() mesh.Names {
	if g.yes() {
		return mesh.Names{}
	}
	return mesh.Names{Owner: g.word(), App: pick(g, "", g.word()), Version: pick(g, "", "v1"), Service: g.word(), Revision: pick(g, "latest", "v1")}
}
