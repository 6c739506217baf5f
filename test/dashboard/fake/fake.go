// Package fake is a backend for the dashboard with facts that nobody reported:
// a shop of a few services, one of which still speaks plaintext.
package fake

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"hasp/dashboard"
	"hasp/mesh"
	"hasp/truth"
)

// At is the time of the facts.
var At = time.Date(2026, time.November, 29, 12, 0, 0, 0, time.UTC)

// Mesh is the backend. Its fields may be changed by Change only, once it serves.
type Mesh struct {
	mu      sync.Mutex
	changed chan struct{}

	Edges   []truth.GraphEdge
	Nodes   []truth.GraphNode
	Changes []truth.Change
	Lines   []truth.Plain
	Err     error
}

// Shop is a mesh with traffic of every kind.
func Shop() *Mesh {
	node := func(name, kind string, meshed bool) truth.GraphNode {
		n := truth.GraphNode{ID: "shop/" + name, Namespace: "shop", Name: name, Kind: kind, Meshed: meshed, Workloads: []string{"shop/" + name + "-7d4b9c-x2x"}}
		if meshed {
			n.Identities = []string{identity(name)}
		}
		return n
	}
	m := &Mesh{
		changed: make(chan struct{}),
		Nodes: []truth.GraphNode{
			{ID: "10.88.0.77", Name: "10.88.0.77", Kind: "outside"},
			node("boards", "workload", true), node("boards-db", "workload", true), node("gateway", "gateway", true),
			node("mailer", "workload", true), node("metrics-collector", "workload", false), node("profiles", "workload", true),
			node("queue", "workload", true), node("web", "workload", true),
		},
		Changes: []truth.Change{
			{At: At.Add(-time.Minute), Generation: 17, Object: policy("default", "namespace"), Verb: "changed", Who: "alice (kubectl-apply)", What: "mtls.mode PERMISSIVE", Enforced: At.Add(-time.Minute + 14*time.Millisecond)},
			{At: At.Add(-26 * time.Hour), Generation: 16, Object: mesh.Origin{Kind: "DestinationRule", Namespace: "shop", Name: "boards"}, Verb: "created", Who: "argocd", What: "tls.mode ISTIO_MUTUAL", Enforced: At.Add(-26*time.Hour + 9*time.Millisecond)},
		},
	}
	http := func(from, to string, port uint16, n, errors uint64) truth.GraphEdge {
		e := edge(from, to, port, "closed", mesh.HTTP)
		e.MutualTLS, e.Open, e.Requests, e.Errors, e.P50, e.P99 = 12, 4, n, errors, 4*time.Millisecond, 38*time.Millisecond
		e.Handshake = shake(from, to)
		return e
	}
	tcp := func(from, to string, port uint16, p mesh.Protocol) truth.GraphEdge {
		e := edge(from, to, port, "closed", p)
		e.MutualTLS, e.Open, e.Handshake = 3, 3, shake(from, to)
		return e
	}
	plain := edge("shop/metrics-collector", "shop/boards", 8080, "open", mesh.HTTP)
	plain.Plaintext, plain.Requests, plain.P50, plain.P99, plain.Why = 6, 24, 3*time.Millisecond, 9*time.Millisecond, "no sidecar at the source"
	part := edge("shop/web", "shop/profiles", 8080, "partial", mesh.GRPC)
	part.MutualTLS, part.Plaintext, part.Requests, part.P50, part.P99 = 5, 1, 310, 2*time.Millisecond, 21*time.Millisecond
	part.Disagreement = "the client reports mutual TLS, the server reports nothing"
	part.Seen, part.Handshake = "source", shake("shop/web", "shop/profiles")
	refused := edge("10.88.0.77", "shop/boards-db", 5432, "refused", mesh.TCP)
	refused.Refused, refused.Why = 2, "plaintext to a STRICT port"
	entry := edge("10.88.0.77", "shop/gateway", 8443, "open", mesh.HTTPS)
	entry.MutualTLS, entry.Plaintext, entry.Open, entry.Why = 0, 9, 2, "TLS of the server only"
	m.Edges = []truth.GraphEdge{
		entry, refused, tcp("shop/boards", "shop/boards-db", 5432, mesh.TCP), tcp("shop/boards", "shop/queue", 6379, mesh.Redis),
		http("shop/gateway", "shop/web", 8080, 2520, 3), plain, tcp("shop/queue", "shop/mailer", 2525, mesh.TCP),
		http("shop/web", "shop/boards", 8080, 1980, 0), part,
	}
	m.Lines = []truth.Plain{{
		Source: Party("shop/metrics-collector", false), Destination: Party("shop/boards", true), Service: "boards.shop.svc.cluster.local", Port: 8080,
		First: At.Add(-48 * time.Hour), Last: At.Add(-2 * time.Second), Count: 6, Security: mesh.Plaintext,
		Why: "no sidecar at the source", Fix: "inject shop/metrics-collector",
	}}
	return m
}

func identity(name string) string { return mesh.Identity("cluster.local", "shop", name) }

func policy(name, level string) mesh.Origin {
	return mesh.Origin{Kind: "PeerAuthentication", Namespace: "shop", Name: name, Level: level}
}

func edge(from, to string, port uint16, lock string, p mesh.Protocol) truth.GraphEdge {
	return truth.GraphEdge{
		From: from, To: to, Port: port, Lock: lock, Protocol: p, Seen: "both", Last: At, Sent: 91000, Received: 12000,
		Service: strings.TrimPrefix(to, "shop/") + ".shop.svc.cluster.local", Rules: []mesh.Origin{policy("default", "namespace")},
	}
}

func shake(from, to string) *mesh.Handshake {
	return &mesh.Handshake{
		At: At.Add(-3 * time.Second), TLS: "1.3", Group: "X25519MLKEM768", Cipher: "TLS_AES_128_GCM_SHA256", ALPN: "istio",
		LocalIdentity: identity(strings.TrimPrefix(from, "shop/")), PeerIdentity: identity(strings.TrimPrefix(to, "shop/")),
	}
}

// Party of a node of the graph.
func Party(node string, meshed bool) truth.Party {
	namespace, name, ok := strings.Cut(node, "/")
	if !ok {
		return truth.Party{Kind: truth.KindOutside, Address: node}
	}
	p := truth.Party{Kind: truth.KindWorkload, Workload: node + "-7d4b9c-x2x", Owner: name, Namespace: namespace, Address: "10.88.0.12", Meshed: meshed}
	if meshed {
		p.Identity = identity(name)
	}
	return p
}

// Change the facts, and tell whoever waits.
func (m *Mesh) Change(f func(*Mesh)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(m)
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *Mesh) Changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

// Status has the fields of hasp status on one machine.
func (m *Mesh) Status(context.Context) (any, error) {
	type fields = map[string]any
	return fields{"app": true, "page": "http://127.0.0.1:8080", "control": fields{
		"trustDomain": "cluster.local", "generation": 17, "autoMtls": true, "services": 8, "workloads": 9,
		"last": fields{"seen": At, "enforced": At.Add(3 * time.Millisecond)},
		"proxies": []fields{
			{"node": "shop/web", "identity": identity("web"), "connected": true, "ackedGeneration": 17},
			{"node": "shop/old", "identity": identity("old"), "connected": true, "ackedGeneration": 16},
			{"node": "shop/bad", "identity": identity("bad"), "connected": true, "ackedGeneration": 16, "nack": fields{"generation": 17, "message": "cannot do <x>"}},
			{"node": "shop/off", "identity": identity("off"), "ackedGeneration": 16},
		},
		"unmeshed": []string{"shop/metrics-collector"},
	}}, m.Err
}

func (m *Mesh) Facts(context.Context) (*truth.Facts, error) {
	return &truth.Facts{
		Version: 4, At: At, Since: At.Add(-720 * time.Hour), Generation: 17,
		Proxies: []truth.Reporter{{Node: "shop/boards-7d4b9c-x2x", Identity: identity("boards"), Connected: true, At: At.Add(-time.Second), Skew: -3 * time.Millisecond, Generation: 17}},
		Edges: []mesh.Edge{{
			EdgeKey: mesh.EdgeKey{Node: "shop/boards-7d4b9c-x2x", Direction: mesh.InboundDir, Peer: "shop/web-7d4b9c-x2x", Port: 8080, Security: mesh.MutualTLS, Allowed: true},
			Mode:    "PERMISSIVE", Rule: policy("default", "namespace"), Generation: 17, First: At.Add(-time.Hour), Last: At, Connections: 12, Open: 4,
		}, {
			EdgeKey: mesh.EdgeKey{Node: "shop/boards-7d4b9c-x2x", Direction: mesh.InboundDir, PeerNet: netip.MustParsePrefix("10.88.0.0/24"), Port: 8080, Security: mesh.Plaintext, Allowed: true},
			Why:     "no sidecar at the source", Mode: "PERMISSIVE", Rule: policy("default", "namespace"), Generation: 16, First: At.Add(-time.Hour), Last: At.Add(-time.Minute), Connections: 2,
		}},
	}, m.Err
}

func (m *Mesh) Links(context.Context, string) ([]truth.Link, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var links []truth.Link
	for i, e := range m.Edges {
		l := truth.Link{
			Trace: fmt.Sprintf("%016x", 0x5ca1ab1e00000000+i), Source: Party(e.From, e.Lock != "open"), Destination: Party(e.To, true),
			Service: e.Service, Port: e.Port, Seen: e.Seen, Security: mesh.MutualTLS, Allowed: e.Lock != "refused", Mode: "PERMISSIVE", Rule: policy("default", "namespace"),
			Generation: 17, Protocol: e.Protocol, Sent: 9100, Received: 1200, Start: At.Add(-time.Minute), LastSeen: At, Handshake: e.Handshake, Why: e.Why, Disagreement: e.Disagreement,
		}
		if e.Lock == "open" || e.Lock == "refused" {
			l.Security = mesh.Plaintext
		}
		links = append(links, l)
	}
	return links, m.Err
}

func (m *Mesh) Plaintext(context.Context) (truth.PlainLedger, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return truth.PlainLedger{
		At: At, Since: At.Add(-720 * time.Hour), Lines: m.Lines,
		Servers: []truth.Called{{Namespace: "shop", Name: "boards", Meshed: true, Plain: len(m.Lines)}, {Namespace: "shop", Name: "web", Meshed: true}},
	}, m.Err
}

// Graph has the lock of its edges.
func (m *Mesh) Graph(_ context.Context, window time.Duration) (truth.Graph, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	g := truth.Graph{At: At, Generation: 17, Window: window, Nodes: m.Nodes, Edges: m.Edges, MutualTLS: 1}
	var tls, all uint64
	for _, e := range m.Edges {
		tls, all = tls+e.MutualTLS, all+e.MutualTLS+e.Plaintext
	}
	if all > 0 {
		g.Lock, g.MutualTLS = "partial", float64(tls)/float64(all)
		if tls == all {
			g.Lock = "closed"
		}
	}
	return g, m.Err
}

// Why knows the first link, as one that failed.
func (m *Mesh) Why(ctx context.Context, id string) (truth.Postmortem, error) {
	links, err := m.Links(ctx, "")
	if err != nil || len(links) == 0 || id != links[0].Trace {
		return truth.Postmortem{}, dashboard.ErrUnknown
	}
	l := links[0]
	l.Allowed, l.Security, l.Handshake = false, mesh.Unknown, nil
	l.AtSource = &truth.Connection{Node: "shop/gateway-7d4b9c-x2x", Connection: mesh.Connection{Why: "handshake failed", Failure: &mesh.Failure{
		Stage: "handshake", Reason: "unknown_authority", Error: "x509: certificate signed by unknown authority", Expected: []string{identity("boards-db")},
		Presented:   &mesh.Certificate{Identity: "spiffe://other.example/ns/shop/sa/boards-db", Issuer: "CN=other", Serial: "4d2", NotBefore: At.Add(-time.Hour), NotAfter: At.Add(time.Hour)},
		TrustDomain: "cluster.local", SNI: "outbound_.8443_._.gateway.shop.svc.cluster.local", Offered: []string{"istio"}, At: At,
	}}}
	return truth.Postmortem{Link: l, Sentence: "The server's certificate is of another authority.", Fix: "Restart the server, so that it gets a certificate of this mesh.", SourceSkew: -40 * time.Millisecond}, nil
}

func (m *Mesh) Timeline(context.Context) ([]truth.Change, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Changes, m.Err
}

// WhatIf answers for one policy: STRICT in the namespace.
func (m *Mesh) WhatIf(_ context.Context, yaml []byte) (truth.Answer, error) {
	a := truth.Answer{Generation: 17, Since: At.Add(-720 * time.Hour)}
	if !strings.Contains(string(yaml), "kind:") {
		return a, &dashboard.Invalid{Reason: "line 1: no kind"}
	}
	a.Objects = []string{"PeerAuthentication shop/default changed"}
	if strings.Contains(string(yaml), "STRICT") {
		a.Effects = []truth.Effect{
			{What: truth.Cut, Source: Party("shop/metrics-collector", false), Destination: Party("shop/boards", true), Port: 8080, Live: 2, Last: At, Why: "it has no sidecar", Fix: "inject shop/metrics-collector"},
			{What: truth.Cut, Source: Party("10.88.0.99", false), Destination: Party("shop/queue", true), Port: 6379, Last: At.Add(-20 * time.Hour), Why: "it is outside the mesh"},
			{What: truth.Upgraded, Source: Party("shop/web", true), Destination: Party("shop/profiles", true), Port: 8080, Live: 1, Last: At, Why: "auto mTLS"},
		}
		a.Warnings = []string{"shop/reports was never seen and has no sidecar: it would be refused"}
	}
	return a, nil
}
