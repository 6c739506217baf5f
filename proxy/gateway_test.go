package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"hasp/mesh"
)

// gatewayLab is a gateway in front of a STRICT server.
type gatewayLab struct {
	ca          *testCA
	gw, server  *node
	at          netip.AddrPort // of the server's inbound listener
	http, https uint16
	config      mesh.ProxyConfig
}

func newGatewayLab(t *testing.T, h http.Handler, change ...func(*Config)) *gatewayLab {
	t.Helper()
	m := &gatewayLab{ca: newTestCA(t)}
	backend := httptest.NewServer(h)
	t.Cleanup(backend.Close)
	appAddr := netip.MustParseAddrPort(backend.Listener.Addr().String())
	m.server = newNode(t, m.ca, "app-ui", "127.0.0.9")
	m.at = m.server.inboundFor(appAddr)
	m.server.apply(inboundConfig(appAddr.Port(), mesh.ModeStrict, mesh.HTTP))

	ln, lns := listenOn(t, "127.0.0.1"), listenOn(t, "127.0.0.1")
	m.http, m.https = addrPort(ln.Addr()).Port(), addrPort(lns.Addr()).Port()
	m.gw = newNode(t, m.ca, "gateway", "127.0.0.8", func(c *Config) {
		c.Inherited = map[uint16]net.Listener{m.http: ln, m.https: lns}
		c.DrainTimeout = time.Second
		for _, f := range change {
			f(c)
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.gw.Run(ctx, Listeners{}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	m.config = outboundConfig(m.at, m.server.spiffe, istioMutual(m.server.spiffe), mesh.HTTP)
	m.config.Role = mesh.RoleGateway
	m.config.Gateway = []mesh.Server{m.serve(m.http, mesh.HTTP, mesh.HTTPRoute{Hosts: []string{"*"}})}
	return m
}

// serve is a gateway server with routes that all lead to the one cluster.
func (m *gatewayLab) serve(port uint16, proto mesh.Protocol, routes ...mesh.HTTPRoute) mesh.Server {
	for i := range routes {
		if routes[i].To == nil {
			routes[i].To = []mesh.WeightedTarget{{Cluster: m.config.Outbound.Clusters[0].Name}}
		}
		routes[i].Origin = mesh.Origin{Kind: "VirtualService", Namespace: "shop", Name: "front"}
	}
	return mesh.Server{Port: port, Protocol: proto, Hosts: []string{"*"}, Routes: routes,
		Origin: mesh.Origin{Kind: "Gateway", Namespace: "shop", Name: "ingress"}}
}

func (m *gatewayLab) get(t *testing.T, path string, change ...func(*http.Request)) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequest("GET", fmt.Sprintf("http://127.0.0.1:%d%s", m.http, path), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(req)
	}
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	c := &http.Client{Transport: tr, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b), res.Header
}

// mirror tells what of a request arrived.
var mirror = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "%s %s host=%s proto=%s for=%s id=%d", r.Method, r.URL.RequestURI(), r.Host,
		r.Header.Get("X-Forwarded-Proto"), r.Header.Get("X-Forwarded-For"), len(r.Header.Get("X-Request-Id")))
})

func TestGatewayForwardsOverMutualTLS(t *testing.T) {
	m := newGatewayLab(t, mirror)
	m.gw.apply(m.config)
	code, body, _ := m.get(t, "/boards?x=1", func(r *http.Request) {
		r.Host = "shop.example"
		r.Header.Set("X-Forwarded-For", "6.6.6.6") // a stranger's claim
	})
	if want := "GET /boards?x=1 host=shop.example proto=http for=127.0.0.1 id=36"; code != 200 || body != want {
		t.Errorf("got %d %q\nwant 200 %q", code, body, want)
	}
	f := m.server.row(func(c mesh.Connection) bool { return c.Requests == 1 })
	if f.Security != mesh.MutualTLS || f.PeerIdentity != m.gw.spiffe {
		t.Errorf("server saw %s from %q", f.Security, f.PeerIdentity)
	}
	line := m.gw.log.String()
	for _, want := range []string{`"GET /boards?x=1 HTTP/1.1" 200 -`, "route=shop/front", "mutual_tls", "peer=" + m.server.spiffe} {
		if !strings.Contains(line, want) {
			t.Errorf("the log lacks %q: %s", want, line)
		}
	}
	metrics := scrape(t, m.gw)
	want := `istio_requests_total{connection_security_policy="mutual_tls",destination_app="unknown",destination_canonical_revision="unknown",destination_canonical_service="unknown",destination_cluster="Kubernetes",destination_principal="spiffe://cluster.local/ns/shop/sa/app-ui",destination_service="boards.shop.svc.cluster.local",destination_service_name="boards",destination_service_namespace="shop",destination_version="unknown",destination_workload="boards",destination_workload_namespace="shop",grpc_response_status="",reporter="source",request_protocol="http",response_code="200",response_flags="-",source_app="unknown",source_canonical_revision="unknown",source_canonical_service="unknown",source_cluster="Kubernetes",source_principal="spiffe://cluster.local/ns/shop/sa/gateway",source_version="unknown",source_workload="gateway",source_workload_namespace="shop"} 1`
	if !strings.Contains(metrics, want) {
		t.Errorf("metrics lack\n%s\namong\n%s", want, metrics)
	}
}

func scrape(t *testing.T, n *node) string {
	t.Helper()
	w := httptest.NewRecorder()
	n.MetricsHandler().ServeHTTP(w, httptest.NewRequest("GET", "/stats/prometheus", nil))
	return w.Body.String()
}

func TestGatewayCountsGRPC(t *testing.T) {
	m := newGatewayLab(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, code := http.TrailerPrefix+"Grpc-Status", "5"
		if r.URL.Path == "/announced" {
			status, code = "Grpc-Status", "7"
			w.Header().Set("Trailer", status)
		}
		fmt.Fprint(w, "hello")
		w.(http.Flusher).Flush()
		w.Header().Set(status, code)
	}))
	m.gw.apply(m.config)
	for _, path := range []string{"/", "/announced"} {
		m.get(t, path, func(r *http.Request) { r.Method = "POST"; r.Header.Set("Content-Type", "application/grpc+proto") })
	}
	want := []string{"grpc 200 - status=5 x1", "grpc 200 - status=7 x1"}
	until(t, "both are counted", func() bool { return slices.Equal(m.gw.outcomes(t), want) })
}

func TestGatewayRoutes(t *testing.T) {
	m := newGatewayLab(t, mirror)
	m.config.Gateway = []mesh.Server{m.serve(m.http, mesh.HTTP,
		mesh.HTTPRoute{Hosts: []string{"api.example"}, Matches: []mesh.HTTPMatch{{PathPrefix: "/v1/"}}, Rewrite: "/"},
		mesh.HTTPRoute{Hosts: []string{"*.example"}, Matches: []mesh.HTTPMatch{{PathExact: "/only"}, {PathRegex: "/n/[0-9]+", Method: "GET"}}},
	)}
	m.gw.apply(m.config)
	for _, tc := range []struct {
		host, path string
		want       int
		uri        string
	}{
		{"api.example", "/v1/items?a=b", 200, "/items?a=b"},
		{"API.example:8080", "/v1/items", 200, "/items"},
		{"api.example", "/v2/items", 404, ""},
		{"www.example", "/only", 200, "/only"},
		{"www.example", "/only/", 404, ""},
		{"www.example", "/n/12", 200, "/n/12"},
		{"www.example", "/n/12x", 404, ""},
		{"example", "/only", 404, ""},
	} {
		code, body, _ := m.get(t, tc.path, func(r *http.Request) { r.Host = tc.host })
		if code != tc.want || code == 200 && !strings.HasPrefix(body, "GET "+tc.uri+" ") {
			t.Errorf("%s%s: got %d %q, want %d %s", tc.host, tc.path, code, body, tc.want, tc.uri)
		}
	}
}

func TestGatewayWithoutAServerSays503(t *testing.T) {
	m := newGatewayLab(t, mirror)
	dead := listenOn(t, "127.0.0.1")
	at := addrPort(dead.Addr())
	dead.Close()
	m.config.Outbound.Clusters[0].Endpoints[0].Addr, m.config.Outbound.Clusters[0].Endpoints[0].Port = at.Addr(), at.Port()
	m.gw.apply(m.config)
	code, body, header := m.get(t, "/")
	f := m.gw.row(ended)
	if want := "upstream connect error or disconnect/reset before headers. reset reason: connection failure\nhasp why " + f.Trace; code != 503 || body != want || header.Get("X-Hasp-Trace") != f.Trace {
		t.Errorf("got %d %q, %q", code, body, header)
	}
	until(t, "the request is logged", func() bool { return strings.Contains(m.gw.log.String(), "503 UF") })
	if line, want := m.gw.log.String(), "trace="+f.Trace+" reason=refused why="; strings.Count(line, want) != 2 { // of the connection and of the request
		t.Errorf("%q is not twice in the log: %s", want, line)
	}
}

func TestGatewayRefusesAServerThatIsSomebodyElse(t *testing.T) {
	m := newGatewayLab(t, mirror)
	m.config.Outbound.Clusters[0].TLS = istioMutual("spiffe://cluster.local/ns/shop/sa/other")
	m.gw.apply(m.config)
	if code, _, _ := m.get(t, "/"); code != 503 {
		t.Errorf("got %d", code)
	}
	f := m.gw.row(ended)
	if want := "the server is spiffe://cluster.local/ns/shop/sa/app-ui, not spiffe://cluster.local/ns/shop/sa/other"; !strings.HasSuffix(f.Why, want) {
		t.Errorf("why %q", f.Why)
	}
}

func TestGatewayHTTPSAndRedirect(t *testing.T) {
	m := newGatewayLab(t, mirror)
	m.config.Secrets = []mesh.Secret{m.secret(t, "shop-cert", "shop.example")}
	plain, secure := m.serve(m.http, mesh.HTTP), m.serve(m.https, mesh.HTTPS, mesh.HTTPRoute{Hosts: []string{"*"}})
	plain.HTTPSRedirect = true
	secure.Secret = "kubernetes://shop-cert"
	m.config.Gateway = []mesh.Server{plain, secure}
	m.gw.apply(m.config)

	code, _, h := m.get(t, "/boards?x=1", func(r *http.Request) { r.Host = "shop.example" })
	if want := fmt.Sprintf("https://shop.example:%d/boards?x=1", m.https); code != 301 || h.Get("Location") != want {
		t.Errorf("got %d to %q, want 301 to %q", code, h.Get("Location"), want)
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: m.ca.pool, ServerName: "shop.example"}, ForceAttemptHTTP2: true}
	defer tr.CloseIdleConnections()
	res, err := (&http.Client{Transport: tr}).Get(fmt.Sprintf("https://127.0.0.1:%d/", m.https))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	if res.ProtoMajor != 2 || !strings.Contains(string(b), "proto=https") {
		t.Errorf("got %s %q", res.Proto, b)
	}
}

func TestGatewayUpgrade(t *testing.T) {
	m := newGatewayLab(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		line, _ := rw.ReadString('\n')
		io.WriteString(c, "you said "+line)
	}))
	m.gw.apply(m.config)
	c := dial(t, "127.0.0.1", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), m.http))
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	br := bufio.NewReader(c)
	res, err := http.ReadResponse(br, nil)
	if err != nil || res.StatusCode != 101 {
		t.Fatalf("got %v, %v", res, err)
	}
	io.WriteString(c, "hi\n")
	if line, err := br.ReadString('\n'); line != "you said hi\n" || err != nil {
		t.Errorf("got %q, %v", line, err)
	}
}

// A pooled connection must not carry a request once the rule it was made under
// has changed.
func TestGatewayPoolFollowsPolicy(t *testing.T) {
	m := newGatewayLab(t, mirror)
	loose := m.config
	m.server.apply(inboundConfig(m.server.row0().Port(), mesh.ModePermissive, mesh.HTTP))
	loose.Outbound.Clusters = append([]mesh.Cluster(nil), loose.Outbound.Clusters...)
	loose.Outbound.Clusters[0].TLS = mesh.ClientTLS{Mode: mesh.ClientDisable}
	m.gw.apply(loose)
	if code, _, _ := m.get(t, "/"); code != 200 {
		t.Fatalf("plaintext: got %d", code)
	}
	m.gw.apply(m.config)
	if code, _, _ := m.get(t, "/"); code != 200 {
		t.Fatalf("mutual: got %d", code)
	}
	var kinds []string
	for _, c := range m.gw.Connections() {
		kinds = append(kinds, fmt.Sprintf("%s live=%v", c.Security, !ended(c)))
	}
	if got := strings.Join(kinds, ", "); got != "mutual_tls live=true, none live=false" {
		t.Errorf("connections: %s", got)
	}
}

// row0 is the one original destination of a node.
func (n *node) row0() (dst netip.AddrPort) {
	n.dst.Range(func(_, v any) bool { dst = v.(netip.AddrPort); return false })
	return dst
}

// A gateway takes so many connections from outside and resets the rest.
func TestGatewayBoundsConnections(t *testing.T) {
	m := newGatewayLab(t, mirror)
	m.gw.cfg.MaxConnections = 2 // nothing has been served yet
	m.gw.apply(m.config)
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), m.http)
	talkHTTP := func() (net.Conn, error) {
		c, err := net.Dial("tcp", at.String())
		if err != nil {
			return nil, err // reset before connect returned
		}
		t.Cleanup(func() { c.Close() })
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		_, err = http.ReadResponse(bufio.NewReader(c), nil)
		return c, err
	}
	a, err := talkHTTP()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := talkHTTP(); err != nil {
		t.Fatal(err)
	}
	if _, err := talkHTTP(); err == nil {
		t.Error("a third was served")
	}
	a.Close()
	for end := time.Now().Add(patience); m.gw.gateways.outside.Load() > 1 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if _, err := talkHTTP(); err != nil {
		t.Errorf("after one left: %v", err)
	}
}
