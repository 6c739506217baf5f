package proxy

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hasp/mesh"
)

// series picks the samples of a metric out of a scrape, without labels that are
// the same on both ends.
func samples(scrape, name string) (out []string) {
	for line := range strings.Lines(scrape) {
		if strings.HasPrefix(line, name+"{") {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out
}

const identityPrefix = "spiffe://cluster.local/ns/shop/sa/"

// bothEnds is a lab whose two ends know each other by address.
func bothEnds(t *testing.T, proto mesh.Protocol, app netip.AddrPort) *lab {
	m := newLab(t, mesh.ModeStrict, echo)
	if app.IsValid() {
		m.app = app
		m.at = m.server.inboundFor(app)
	}
	in := inboundConfig(m.app.Port(), mesh.ModeStrict, proto)
	in.Node = "shop/boards-7d4b9cb5f-x2x9z"
	ui := mesh.Names{Owner: "app-ui", App: "ui", Version: "v1", Service: "ui", Revision: "v1"}
	boards := mesh.Names{Owner: "boards", Service: "boards", Revision: "latest"}
	in.Names, in.Peers = boards, []mesh.Peer{{Addr: m.client.addr, Workload: "shop/app-ui-6fcd58479d-4kq8v", Identity: m.client.spiffe, Sidecar: true, Names: ui}}
	m.server.apply(in)
	out := outboundConfig(m.at, m.server.spiffe, istioMutual(m.server.spiffe), proto)
	out.Node = "shop/app-ui-6fcd58479d-4kq8v"
	out.Names, out.Peers = ui, []mesh.Peer{{Addr: m.at.Addr(), Workload: "shop/boards-7d4b9cb5f-x2x9z", Identity: m.server.spiffe, Sidecar: true, Names: boards}}
	out.Outbound.Clusters[0].Endpoints[0].Workload = "shop/boards-7d4b9cb5f-x2x9z"
	m.client.apply(out)
	return m
}

const bothEndsLabels = `connection_security_policy="mutual_tls",destination_app="unknown",destination_canonical_revision="latest",destination_canonical_service="boards",destination_cluster="Kubernetes",destination_principal="spiffe://cluster.local/ns/shop/sa/boards",destination_service="boards.shop.svc.cluster.local",destination_service_name="boards",destination_service_namespace="shop",destination_version="unknown",destination_workload="boards",destination_workload_namespace="shop",%sreporter="%s",request_protocol="%s",%ssource_app="ui",source_canonical_revision="v1",source_canonical_service="ui",source_cluster="Kubernetes",source_principal="spiffe://cluster.local/ns/shop/sa/app-ui",source_version="v1",source_workload="app-ui",source_workload_namespace="shop"`

func TestTCPMetricsOfBothEnds(t *testing.T) {
	m := bothEnds(t, mesh.TCP, netip.AddrPort{})
	c := talk(t, "127.0.0.5", m.client.outboundTo(vip)) // sends and receives a byte
	for _, end := range []struct {
		n        *node
		reporter string
	}{{m.client, "source"}, {m.server, "destination"}} {
		labels := fmt.Sprintf(bothEndsLabels, "", end.reporter, "tcp", "")
		end.n.row(func(c mesh.Connection) bool { return c.Sent == 1 && c.Received == 1 }) // counted after it was written
		s := scrape(t, end.n)                                                             // while it lives
		for name, want := range map[string]string{
			"istio_tcp_connections_opened_total": "1", "istio_tcp_sent_bytes_total": "1", "istio_tcp_received_bytes_total": "1", "istio_tcp_connections_closed_total": "0",
		} {
			got := samples(s, name)
			if len(got) != 1 || got[0] != name+"{"+labels+"} "+want {
				t.Errorf("got  %s\nwant %s{%s} %s", got, name, labels, want)
			}
		}
	}
	say(t, c, "four")
	c.Close()
	m.server.row(ended)
	s := scrape(t, m.server)
	if got := samples(s, "istio_tcp_sent_bytes_total"); len(got) != 1 || !strings.HasSuffix(got[0], "} 5") {
		t.Errorf("sent: %s", got)
	}
	if got := samples(s, "istio_tcp_connections_closed_total"); len(got) != 1 || !strings.HasSuffix(got[0], "} 1") {
		t.Errorf("closed: %s", got)
	}
}

func TestHTTPMetricsOfBothEnds(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Date"] = nil // each response has its size
		if r.URL.Path == "/missing" {
			w.WriteHeader(404)
		}
	}))
	defer backend.Close()
	m := bothEnds(t, mesh.HTTP, netip.MustParseAddrPort(backend.Listener.Addr().String()))
	c := dial(t, "127.0.0.5", m.client.outboundTo(vip))
	br := bufio.NewReader(c)
	for _, path := range []string{"/", "/missing", "/"} {
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, res.Body)
	}
	c.Close()
	for _, end := range []struct {
		n        *node
		reporter string
	}{{m.client, "source"}, {m.server, "destination"}} {
		if f := end.n.row(ended); f.Requests != 3 {
			t.Errorf("%s: %d requests", end.reporter, f.Requests)
		}
		s := scrape(t, end.n)
		var want []string
		for _, x := range []struct{ code, n string }{{"200", "2"}, {"404", "1"}} {
			labels := fmt.Sprintf(bothEndsLabels, `grpc_response_status="",`, end.reporter, "http", `response_code="`+x.code+`",response_flags="-",`)
			want = append(want, "istio_requests_total{"+labels+"} "+x.n)
		}
		if diff := cmp.Diff(want, samples(s, "istio_requests_total")); diff != "" {
			t.Errorf("%s: %s", end.reporter, diff)
		}
		// GET / HTTP/1.1 CRLF Host: x CRLF CRLF, and what Go's server answers.
		labels := fmt.Sprintf(bothEndsLabels, `grpc_response_status="",`, end.reporter, "http", `response_code="200",response_flags="-",`)
		for name, bytes := range map[string]int{"istio_request_bytes_sum": 2 * 27, "istio_response_bytes_sum": 2 * len("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")} {
			if want := fmt.Sprintf("%s{%s} %d", name, labels, bytes); !slices.Contains(samples(s, name), want) {
				t.Errorf("got  %s\nwant %s", samples(s, name), want)
			}
		}
		if got := samples(s, "istio_tcp_connections_opened_total"); got != nil {
			t.Errorf("HTTP counted as TCP too: %s", got)
		}
	}
}

func TestOwnerName(t *testing.T) {
	for pod, want := range map[string]string{
		"boards-7d4b9cb5f-x2x9z":        "boards",
		"app-ui-6fcd58479d-4kq8v":       "app-ui",
		"boards-mongodb-0":              "boards-mongodb-0",
		"curl-boards-1":                 "curl-boards-1",
		"user-profile":                  "user-profile",
		"a-service-north-south":         "a-service-north-south", // vowels: no suffix
		"boards-7d4b9cb5f-x2x9z-manual": "boards-7d4b9cb5f-x2x9z-manual",
	} {
		if got := ownerName(pod); got != want {
			t.Errorf("%s: got %s, want %s", pod, got, want)
		}
	}
}

func TestSplitHost(t *testing.T) {
	for host, want := range map[string][2]string{
		"boards.shop.svc.cluster.local": {"boards", "shop"},
		"www.googleapis.com":            {"www.googleapis.com", ""},
		"PassthroughCluster":            {"PassthroughCluster", ""},
	} {
		if name, ns := splitHost(host); name != want[0] || ns != want[1] {
			t.Errorf("%s: got %s, %s", host, name, ns)
		}
	}
}

// However many callers there are, the number of series has a bound.
func TestSeriesAreBounded(t *testing.T) {
	m := newMetrics(&identity{}, time.Now)
	for i := range maxSeries + 500 {
		l := labels{Reporter: "destination", Source: end{Names: mesh.Names{Owner: fmt.Sprint("caller-", i)}}, Protocol: "tcp", Security: "none"}
		m.series(&l).countTCP()
	}
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		switch f.GetName() {
		case "istio_tcp_connections_opened_total":
			if n := len(f.Metric); n != maxSeries+1 {
				t.Errorf("%d series, want %d and one for the rest", n, maxSeries)
			}
		case "hasp_metric_overflow_total":
			if n := f.Metric[0].Counter.GetValue(); n != 500 {
				t.Errorf("%v overflows", n)
			}
		}
	}
}

func TestTableForgetsTheOldest(t *testing.T) {
	tab := newTable(2)
	now := time.Now()
	for range recentRows + 10 {
		r := tab.open(mesh.OutboundDir, nil, now)
		facts := r.end(now)
		tab.close(r, &facts, true)
	}
	a, b := tab.open(mesh.OutboundDir, nil, now), tab.open(mesh.OutboundDir, nil, now)
	if tab.open(mesh.OutboundDir, nil, now) != nil {
		t.Error("the table has more rows than its bound")
	}
	got := tab.snapshot()
	if len(got) != 2+recentRows || got[0].ID != a.id || got[1].ID != b.id {
		t.Fatalf("%d rows, first %d", len(got), got[0].ID)
	}
	for i := range recentRows {
		if want := uint64(recentRows + 10 - i); got[2+i].ID != want {
			t.Fatalf("recent row %d is %d, want %d", i, got[2+i].ID, want)
		}
	}
}

func TestAccessLogLines(t *testing.T) {
	start := time.Date(2026, 11, 24, 15, 0, 0, 123e6, time.UTC)
	f := mesh.Connection{
		ID: 7, Trace: "0123456789abcdef", Direction: mesh.InboundDir, Source: netip.MustParseAddrPort("10.77.0.5:40312"), Destination: netip.MustParseAddrPort("[fd77::9]:8080"),
		Upstream: netip.MustParseAddrPort("[fd77::9]:8080"), Service: boardsHost, PeerIdentity: identityPrefix + "app-ui", PeerWorkload: "shop/app-ui",
		Security: mesh.MutualTLS, TLS: "1.3", Group: "X25519MLKEM768", Allowed: true, Mode: "STRICT",
		Rule:       mesh.Origin{Kind: "Policy", Namespace: "shop", Name: "default", Level: "namespace"},
		Generation: 42, Sent: 423, Received: 80, Requests: 1, Start: start, End: start.Add(12345 * time.Microsecond),
	}
	refused := mesh.Connection{
		Direction: mesh.InboundDir, Source: netip.MustParseAddrPort("10.77.0.9:1"), Destination: netip.MustParseAddrPort("10.77.0.4:8080"),
		Security: mesh.Unknown, Why: "a \"quoted\"\nreason", Start: start, End: start, Trace: "fedcba9876543210",
		Failure: &mesh.Failure{Stage: mesh.StageHandshake, Reason: mesh.ReasonExpired, At: start, Presented: &mesh.Certificate{Identity: "spiffe://x/y"}},
	}
	var b strings.Builder
	l := newAccessLog(&b)
	l.connection(mesh.LogText, &f)
	l.connection(mesh.LogText, &refused)
	want := `[2026-11-24T15:00:00.123Z] inbound 10.77.0.5:40312 -> [fd77::9]:8080 mutual_tls allowed mode=STRICT rule="Policy shop/default (namespace)" generation=42 peer=spiffe://cluster.local/ns/shop/sa/app-ui workload=shop/app-ui service=boards.shop.svc.cluster.local upstream=[fd77::9]:8080 tls=1.3/X25519MLKEM768 sent=423 received=80 requests=1 duration=12.345ms trace=0123456789abcdef
[2026-11-24T15:00:00.123Z] inbound 10.77.0.9:1 -> 10.77.0.4:8080 unknown refused generation=0 sent=0 received=0 duration=0s trace=fedcba9876543210 reason=expired why="a \"quoted\"\nreason"
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
	for _, f := range []mesh.Connection{f, refused} {
		b.Reset()
		newAccessLog(&b).connection(mesh.LogJSON, &f)
		var back mesh.Connection
		if err := json.Unmarshal([]byte(b.String()), &back); err != nil || !cmp.Equal(back, f, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })) {
			t.Errorf("json: %v, %s", err, b.String())
		}
	}
	if !strings.Contains(b.String(), `"trace":"fedcba9876543210"`) || !strings.Contains(b.String(), `"reason":"expired"`) {
		t.Errorf("json: %s", b.String())
	}
}

func TestAdminPages(t *testing.T) {
	m := newLab(t, mesh.ModeStrict, echo)
	get := func(h http.Handler, path string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w.Code, w.Body.String()
	}
	if _, err := m.viaClient(t); err != nil {
		t.Fatal(err)
	}
	m.server.row(ended)
	admin := m.server.AdminHandler()
	for _, tc := range []struct{ path, want string }{
		{"/", "/connections\n"},
		{"/config_dump", `"mode": "STRICT"`},
		{"/connections", `"peerIdentity": "spiffe://cluster.local/ns/shop/sa/app-ui"`},
		{"/certs", `"identity": "spiffe://cluster.local/ns/shop/sa/boards"`},
		{"/ready", "LIVE\n"},
		{"/stats", "hasp_config_generation 1\n"},
		{"/stats/prometheus", "hasp_certificate_expiry_seconds 3"},
		{"/debug/pprof/", "goroutine"},
	} {
		if code, body := get(admin, tc.path); code != 200 || !strings.Contains(body, tc.want) {
			t.Errorf("%s: %d %s", tc.path, code, body)
		}
	}
	if code, _ := get(m.server.HealthHandler(), "/config_dump"); code != 404 {
		t.Errorf("the health port shows the configuration: %d", code)
	}

	fresh := newNode(t, m.ca, "fresh", "127.0.0.3")
	for _, step := range []struct {
		do   func()
		code int
		want string
	}{
		{func() {}, 503, "the proxy has no configuration yet\n"},
		{func() { fresh.apply(inboundConfig(1, mesh.ModeStrict, mesh.TCP)) }, 200, "LIVE\n"},
		{func() { fresh.id.cert.Store(nil) }, 503, "the proxy has no certificate: the authority has not answered\n"},
	} {
		step.do()
		if code, body := get(fresh.HealthHandler(), "/healthz/ready"); code != step.code || body != step.want {
			t.Errorf("got %d %q, want %d %q", code, body, step.code, step.want)
		}
	}
}

// Keys of gateway secrets are in the configuration; the dump must not show them.
func TestConfigDumpHidesKeys(t *testing.T) {
	n := newNode(t, newTestCA(t), "gateway", "127.0.0.3")
	n.apply(mesh.ProxyConfig{Secrets: []mesh.Secret{{Name: "kubernetes://x", Key: []byte("PRIVATE"), Cert: []byte("CERT")}}})
	w := httptest.NewRecorder()
	n.AdminHandler().ServeHTTP(w, httptest.NewRequest("GET", "/config_dump", nil))
	if s := w.Body.String(); !strings.Contains(s, "kubernetes://x") || strings.Contains(s, "PRIVATE") || strings.Contains(s, "UFJJVkFURQ") {
		t.Errorf("dump: %s", s)
	}
}
