package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"hasp/mesh"
)

// kubelet asks as a kubelet of Kubernetes 1.37 does.
// https://github.com/kubernetes/kubernetes/blob/v1.37.0/pkg/probe/http
type kubelet struct {
	path    string
	host    string
	headers []mesh.ProbeHeader
	scheme  string          // "http" when empty
	ctx     context.Context // when it gives up; nil for after its patience
}

// ask returns the status, or what the kubelet would say in its event.
func (k kubelet) ask(t testing.TB, at netip.AddrPort, pod string) (int, error) {
	t.Helper()
	transport := &http.Transport{
		TLSClientConfig:    &tls.Config{InsecureSkipVerify: true},
		DisableKeepAlives:  true,
		DisableCompression: true,
		ForceAttemptHTTP2:  true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 7)}}
			return d.DialContext(ctx, "tcp", at.String())
		},
	}
	defer transport.CloseIdleConnections()
	scheme := k.scheme
	if scheme == "" {
		scheme = "http"
	}
	ctx := k.ctx
	if ctx == nil {
		ctx = t.Context()
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+pod+k.path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range k.headers {
		r.Header.Add(h.Name, h.Value)
	}
	if _, ok := r.Header["User-Agent"]; !ok {
		r.Header.Set("User-Agent", "kube-probe/1.37")
	}
	if _, ok := r.Header["Accept"]; !ok {
		r.Header.Set("Accept", "*/*")
	} else if r.Header.Get("Accept") == "" {
		r.Header.Del("Accept")
	}
	r.Host = k.host
	client := &http.Client{Transport: transport, Timeout: patience, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if r.URL.Hostname() != via[0].URL.Hostname() {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	res, err := client.Do(r)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil && len(b) > 0 {
		t.Errorf("the answer has a body: %q", b)
	}
	return res.StatusCode, err
}

// probedApp is an HTTP workload that counts what reaches it.
type probedApp struct {
	at    netip.AddrPort
	bytes atomic.Int64
	conns atomic.Int64
	seen  chan *http.Request
}

// newProbedApp answers /healthz with 200, /STATUS with that status, /hang not
// at all, /local and /away with redirects. With a certificate it speaks TLS.
func newProbedApp(t testing.TB, cert *tls.Certificate) *probedApp {
	a := &probedApp{seen: make(chan *http.Request, 16)}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		code, err := strconv.Atoi(strings.Trim(r.URL.Path, "/"))
		if err != nil {
			code = http.StatusOK
		}
		w.Header().Set("X-Secret", "of the workload")
		w.WriteHeader(code)
		if code >= 200 && code != 204 && code != 304 {
			io.WriteString(w, "the workload's words")
		}
	})
	mux.HandleFunc("/hang", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/local", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/500", http.StatusFound) })
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://login.example/", http.StatusFound)
	})
	mux.HandleFunc("/round", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/round", http.StatusFound) })
	ln := listenOn(t, "127.0.0.1")
	a.at = addrPort(ln.Addr())
	var l net.Listener = countingListener{ln, a}
	if cert != nil {
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{*cert}, NextProtos: []string{"h2", "http/1.1"}})
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case a.seen <- r:
		default:
		}
		mux.ServeHTTP(w, r)
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Serve(l)
	}()
	t.Cleanup(func() { srv.Close(); <-done })
	return a
}

type countingListener struct {
	net.Listener
	a *probedApp
}

func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.a.conns.Add(1)
	return countedConn{c, l.a}, nil
}

type countedConn struct {
	net.Conn
	a *probedApp
}

func (c countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.a.bytes.Add(int64(n))
	return n, err
}

// probedNode is a sidecar in a mode with probes declared; it returns where the
// kubelet dials.
func probedNode(t testing.TB, a netip.AddrPort, mode mesh.Mode, list ...mesh.Probe) (*node, netip.AddrPort) {
	t.Helper()
	for i := range list {
		list[i].Port = a.Port()
	}
	n := newNode(t, newTestCA(t), "boards", "127.0.0.9", func(c *Config) { c.Probes = list })
	n.apply(inboundConfig(a.Port(), mode, mesh.HTTP))
	return n, n.inboundFor(a)
}

func TestHTTPProbeUnderStrict(t *testing.T) {
	a := newProbedApp(t, nil)
	pod := a.at.String()
	for _, tc := range []struct {
		name    string
		probe   mesh.Probe
		kubelet kubelet
		code    int
		why     string
	}{
		{"plain", mesh.Probe{Path: "/healthz"}, kubelet{path: "/healthz"}, 200, "HTTP probe GET /healthz: the workload answered 200"},
		{"no path", mesh.Probe{Path: "/"}, kubelet{}, 200, "HTTP probe GET /: the workload answered 200"},
		{"query", mesh.Probe{Path: "/healthz?deep=1&x=a%20b"}, kubelet{path: "/healthz?deep=1&x=a%20b"}, 200, "HTTP probe GET /healthz?deep=1&x=a%20b: the workload answered 200"},
		{"path without a slash", mesh.Probe{Path: "healthz"}, kubelet{path: "/healthz"}, 200, "HTTP probe GET /healthz: the workload answered 200"},
		{"says 500", mesh.Probe{Path: "/500"}, kubelet{path: "/500"}, 500, "HTTP probe GET /500: the workload answered 500"},
		{"says 204", mesh.Probe{Path: "/204"}, kubelet{path: "/204"}, 204, "HTTP probe GET /204: the workload answered 204"},
		{"says 304", mesh.Probe{Path: "/304"}, kubelet{path: "/304"}, 304, "HTTP probe GET /304: the workload answered 304"},
		{"redirect in the pod is followed", mesh.Probe{Path: "/local"}, kubelet{path: "/local"}, 500, "HTTP probe GET /local: the workload answered 500"},
		{"redirect elsewhere is told", mesh.Probe{Path: "/away"}, kubelet{path: "/away"}, 302, "HTTP probe GET /away: the workload answered 302"},
		{"host", mesh.Probe{Path: "/healthz", Host: "boards.example"}, kubelet{path: "/healthz", host: "boards.example"}, 200, "HTTP probe GET /healthz: the workload answered 200"},
		{"headers", mesh.Probe{Path: "/healthz", Headers: []mesh.ProbeHeader{{Name: "x-b", Value: " 2 "}, {Name: "X-A", Value: "1"}, {Name: "X-B", Value: "3"}}},
			kubelet{path: "/healthz", headers: []mesh.ProbeHeader{{Name: "x-b", Value: " 2 "}, {Name: "X-A", Value: "1"}, {Name: "X-B", Value: "3"}}}, 200, "HTTP probe GET /healthz: the workload answered 200"},
		{"own agent and accept", mesh.Probe{Path: "/healthz", Headers: []mesh.ProbeHeader{{Name: "User-Agent", Value: "my probe"}, {Name: "Accept", Value: "text/plain"}}},
			kubelet{path: "/healthz", headers: []mesh.ProbeHeader{{Name: "User-Agent", Value: "my probe"}, {Name: "Accept", Value: "text/plain"}}}, 200, "HTTP probe GET /healthz: the workload answered 200"},
		{"no agent, no accept", mesh.Probe{Path: "/healthz", Headers: []mesh.ProbeHeader{{Name: "User-Agent"}, {Name: "Accept"}}},
			kubelet{path: "/healthz", headers: []mesh.ProbeHeader{{Name: "User-Agent"}, {Name: "Accept"}}}, 200, "HTTP probe GET /healthz: the workload answered 200"},
		{"own connection header", mesh.Probe{Path: "/healthz", Headers: []mesh.ProbeHeader{{Name: "Connection", Value: "keep-alive"}}},
			kubelet{path: "/healthz", headers: []mesh.ProbeHeader{{Name: "Connection", Value: "keep-alive"}}}, 200, "HTTP probe GET /healthz: the workload answered 200"},
		{"headers no client sends", mesh.Probe{Path: "/healthz", Headers: []mesh.ProbeHeader{{Name: "Content-Length", Value: "3"}, {Name: "Transfer-Encoding", Value: "chunked"}}},
			kubelet{path: "/healthz"}, 200, "HTTP probe GET /healthz: the workload answered 200"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.probe.Kind = mesh.ProbeHTTP
			n, at := probedNode(t, a.at, mesh.ModeStrict, mesh.Probe{Kind: mesh.ProbeHTTP, Path: "/other"}, tc.probe)
			code, err := tc.kubelet.ask(t, at, pod)
			if code != tc.code || err != nil {
				t.Errorf("got %d, %v; want %d", code, err, tc.code)
			}
			f := n.row(ended)
			if f.Security != mesh.Probed || f.Why != tc.why || !f.Allowed || f.Mode != "STRICT" {
				t.Errorf("row: %+v", f)
			}
			n.Close() // the line is written when the connection has ended
			if line := n.log.String(); !strings.Contains(line, " probe allowed mode=STRICT ") {
				t.Errorf("access log: %s", line)
			}
		})
	}
}

// What the workload is asked is what the pod declares.
func TestProbeAsTheWorkloadSeesIt(t *testing.T) {
	a := newProbedApp(t, nil)
	probe := mesh.Probe{Kind: mesh.ProbeHTTP, Path: "/healthz", Host: "boards.example", Headers: []mesh.ProbeHeader{{Name: "X-A", Value: "1"}}}
	_, at := probedNode(t, a.at, mesh.ModeStrict, probe)
	if code, err := (kubelet{path: "/healthz", host: "boards.example", headers: probe.Headers}).ask(t, at, a.at.String()); code != 200 || err != nil {
		t.Fatal(code, err)
	}
	r := <-a.seen
	got := fmt.Sprint(r.Method, " ", r.RequestURI, " ", r.Host, " ", r.Header)
	if want := "GET /healthz boards.example map[Accept:[*/*] Connection:[close] User-Agent:[kube-probe/1.37] X-A:[1]]"; got != want {
		t.Errorf("the workload was asked\n%s, want\n%s", got, want)
	}
}

func TestProbeOfAWorkloadThatDoesNotAnswer(t *testing.T) {
	a := newProbedApp(t, nil)
	n, at := probedNode(t, a.at, mesh.ModeStrict, mesh.Probe{Kind: mesh.ProbeHTTP, Path: "/hang"}, mesh.Probe{Kind: mesh.ProbeHTTP, Path: "/round"})
	ctx, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	go func() { <-a.seen; giveUp() }()
	if _, err := (kubelet{path: "/hang", ctx: ctx}).ask(t, at, a.at.String()); !errors.Is(err, context.Canceled) {
		t.Errorf("hang: %v, want no answer", err)
	}
	if f := n.row(ended); f.Security != mesh.Probed || f.Why != "HTTP probe GET /hang: the client left before the answer" {
		t.Errorf("row: %+v", f)
	}
	if _, err := (kubelet{path: "/round"}).ask(t, at, a.at.String()); err == nil {
		t.Error("round and round: no error")
	}
	n.row(func(c mesh.Connection) bool { return ended(c) && strings.Contains(c.Why, "stopped after 10 redirects") })

	dead := listenOn(t, "127.0.0.1")
	gone := addrPort(dead.Addr())
	dead.Close()
	n, at = probedNode(t, gone, mesh.ModeStrict, mesh.Probe{Kind: mesh.ProbeHTTP, Path: "/healthz"})
	if code, err := (kubelet{path: "/healthz"}).ask(t, at, gone.String()); err == nil {
		t.Errorf("nobody listens: status %d", code)
	}
	if f := n.row(ended); !strings.HasSuffix(f.Why, "connection refused") {
		t.Errorf("row: %+v", f)
	}
}

// Near misses: reset as any plaintext is, no byte back, and none reaches the
// workload.
func TestNoProbe(t *testing.T) {
	a := newProbedApp(t, nil)
	declared := []mesh.Probe{
		{Kind: mesh.ProbeHTTP, Path: "/healthz", Headers: []mesh.ProbeHeader{{Name: "X-A", Value: "1"}}},
		{Kind: mesh.ProbeHTTP, Path: "/ready"},
		{Kind: mesh.ProbeTCP},
	}
	host := "Host: " + a.at.String() + "\r\n"
	const agent, rest = "User-Agent: kube-probe/1.37\r\n", "Accept: */*\r\nConnection: close\r\n\r\n"
	good := "GET /healthz HTTP/1.1\r\n" + host + agent + "X-A: 1\r\n" + rest
	for name, msg := range map[string]string{
		"another path":            "GET /healthz/ HTTP/1.1\r\n" + host + agent + "X-A: 1\r\n" + rest,
		"a longer query":          "GET /healthz?x HTTP/1.1\r\n" + host + agent + "X-A: 1\r\n" + rest,
		"an encoded path":         "GET /health%7a HTTP/1.1\r\n" + host + agent + "X-A: 1\r\n" + rest,
		"absolute form":           "GET http://" + a.at.String() + "/healthz HTTP/1.1\r\n" + host + agent + "X-A: 1\r\n" + rest,
		"POST":                    "POST /healthz HTTP/1.1\r\n" + host + agent + "X-A: 1\r\n" + rest,
		"HEAD":                    "HEAD /healthz HTTP/1.1\r\n" + host + agent + "X-A: 1\r\n" + rest,
		"HTTP/1.0":                "GET /healthz HTTP/1.0\r\n" + host + agent + "X-A: 1\r\n" + rest,
		"a missing header":        "GET /healthz HTTP/1.1\r\n" + host + agent + rest,
		"another value":           "GET /healthz HTTP/1.1\r\n" + host + agent + "X-A: 2\r\n" + rest,
		"a header twice":          "GET /healthz HTTP/1.1\r\n" + host + agent + "X-A: 1\r\nX-A: 1\r\n" + rest,
		"another probe's header":  "GET /ready HTTP/1.1\r\n" + host + agent + "X-A: 1\r\n" + rest,
		"a cookie":                "GET /ready HTTP/1.1\r\n" + host + agent + "Cookie: a=b\r\n" + rest,
		"a body":                  "GET /ready HTTP/1.1\r\n" + host + agent + "Content-Length: 1\r\n" + rest + "x",
		"an empty body":           "GET /ready HTTP/1.1\r\n" + host + agent + "Content-Length: 0\r\n" + rest,
		"a chunked body":          "GET /ready HTTP/1.1\r\n" + host + agent + "Transfer-Encoding: chunked\r\n" + rest + "0\r\n\r\n",
		"an upgrade":              "GET /ready HTTP/1.1\r\n" + host + agent + "Upgrade: websocket\r\n" + rest,
		"two requests":            good + good,
		"bytes behind":            good + "x",
		"no host":                 "GET /ready HTTP/1.1\r\n" + agent + rest,
		"two hosts":               "GET /ready HTTP/1.1\r\n" + host + host + agent + rest,
		"another host":            "GET /ready HTTP/1.1\r\nHost: boards:8080\r\n" + agent + rest,
		"no agent":                "GET /ready HTTP/1.1\r\n" + host + rest,
		"another agent":           "GET /ready HTTP/1.1\r\n" + host + "User-Agent: curl/8.1\r\n" + rest,
		"an agent with more":      "GET /ready HTTP/1.1\r\n" + host + "User-Agent: kube-probe/1.37 x\r\n" + rest,
		"another accept":          "GET /ready HTTP/1.1\r\n" + host + agent + "Accept: text/html\r\n\r\n",
		"keep-alive":              "GET /ready HTTP/1.1\r\n" + host + agent + "Connection: keep-alive\r\n\r\n",
		"a folded line":           "GET /ready HTTP/1.1\r\n" + host + agent + "Accept: */*\r\n x\r\n\r\n",
		"a blank before a colon":  "GET /ready HTTP/1.1\r\nHost : " + a.at.String() + "\r\n" + agent + rest,
		"a line without a colon":  "GET /ready HTTP/1.1\r\n" + host + agent + "hello\r\n" + rest,
		"bare line feeds":         "GET /ready HTTP/1.1\n" + "Host: x\n\n",
		"a line feed in a value":  "GET /ready HTTP/1.1\r\n" + host + agent + "Accept: */*\nX: y\r\n\r\n",
		"a carriage return":       "GET /ready HTTP/1.1\r\n" + host + "User-Agent: kube-probe/1.37\r\r\n" + rest,
		"nothing but the line":    "GET /ready HTTP/1.1\r\n\r\n",
		"an endless head":         "GET /ready HTTP/1.1\r\nX: " + strings.Repeat("x", 2*maxProbeHead),
		"HTTP/2, no gRPC probe":   preface,
		"another first byte":      "\x00GET /ready HTTP/1.1\r\n",
		"another protocol":        "SSH-2.0-x\r\n",
		"a beginning, and an end": "GET /rea",
	} {
		t.Run(name, func(t *testing.T) {
			n, at := probedNode(t, a.at, mesh.ModeStrict, declared...)
			got, err := call(t, "127.0.0.7", at, msg)
			if got != "" || !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("got %q, %v; want a reset and nothing", got, err)
			}
			f := n.row(ended)
			if f.Security != mesh.Plaintext || f.Allowed || f.Why != "STRICT of Policy shop/default (namespace) requires mutual TLS and the client spoke plaintext" {
				t.Errorf("row: %+v", f)
			}
		})
	}
	if c, b := a.conns.Load(), a.bytes.Load(); c != 0 || b != 0 {
		t.Errorf("%d connections and %d bytes reached the workload", c, b)
	}
	// The good one, so that the others fail for what they say of themselves.
	_, at := probedNode(t, a.at, mesh.ModeStrict, declared...)
	c := dial(t, "127.0.0.7", at)
	io.WriteString(c, good)
	got, err := io.ReadAll(c)
	if want := "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"; string(got) != want || err != nil {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

// A client of a mismatch is let go at the first byte that does not match, not
// when its head is whole.
func TestNoProbeEndsAtOnce(t *testing.T) {
	a := newProbedApp(t, nil)
	_, at := probedNode(t, a.at, mesh.ModeStrict, mesh.Probe{Kind: mesh.ProbeHTTP, Path: "/healthz"})
	c := dial(t, "127.0.0.7", at)
	c.SetDeadline(time.Now().Add(patience / 2)) // a head may take as long as a handshake
	io.WriteString(c, "GET /hello")
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read %d bytes, %v; want a reset", n, err)
	}
}

// A second request while the first is being asked ends both.
func TestProbeThatSaysMore(t *testing.T) {
	a := newProbedApp(t, nil)
	n, at := probedNode(t, a.at, mesh.ModeStrict, mesh.Probe{Kind: mesh.ProbeHTTP, Path: "/hang"})
	c := dial(t, "127.0.0.7", at)
	fmt.Fprintf(c, "GET /hang HTTP/1.1\r\nHost: %s\r\nUser-Agent: kube-probe/1.37\r\nAccept: */*\r\nConnection: close\r\n\r\n", a.at)
	<-a.seen
	io.WriteString(c, "GET /shareditems HTTP/1.1\r\n")
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read %d bytes, %v; want a reset", n, err)
	}
	if f := n.row(ended); f.Security != mesh.Plaintext || f.Allowed {
		t.Errorf("row: %+v", f)
	}
	if a.conns.Load() != 1 {
		t.Errorf("%d connections reached the workload", a.conns.Load())
	}
}

// Where plaintext is allowed, probes are ordinary requests.
func TestProbeWherePlaintextIsAllowed(t *testing.T) {
	for _, mode := range []mesh.Mode{mesh.ModePermissive, mesh.ModeDisable, mesh.ModeUnset} {
		a := newProbedApp(t, nil)
		n, at := probedNode(t, a.at, mode, mesh.Probe{Kind: mesh.ProbeHTTP, Path: "/204"})
		if code, err := (kubelet{path: "/204"}).ask(t, at, a.at.String()); code != 204 || err != nil {
			t.Errorf("%s: %d, %v", mode, code, err)
		}
		if r := <-a.seen; r.Header.Get("User-Agent") != "kube-probe/1.37" {
			t.Errorf("%s: %v", mode, r.Header)
		}
		n.row(func(c mesh.Connection) bool {
			return ended(c) && c.Security == mesh.Probed && c.Why == "HTTP probe GET /204, passed to the workload"
		})
		n.edges(0) // nobody who wonders about plaintext looks for a kubelet
		c := dial(t, "127.0.0.7", at)
		question := fmt.Sprintf("GET /204 HTTP/1.1\r\nHost: %s\r\nUser-Agent: kube-probe/1.37\r\nAccept: */*\r\n\r\n", a.at)
		for range 2 { // a probe, and one request more
			io.WriteString(c, question)
			if _, err := c.Read(make([]byte, 512)); err != nil {
				t.Fatal(err)
			}
		}
		c.Close()
		n.row(func(c mesh.Connection) bool { return ended(c) && c.Security == mesh.Plaintext && c.Requests == 2 })
		if e := n.edges(1)[0]; e.Security != mesh.Plaintext || e.Connections != 1 || e.Requests != 2 {
			t.Errorf("%s: %+v", mode, e)
		}
	}
}

// Where an authorization refuses who proves no identity, probes are answered as
// under STRICT, and nothing else is.
func TestProbeWhereAnAuthorizationRefuses(t *testing.T) {
	ca := newTestCA(t)
	plain, secure := newProbedApp(t, nil), newProbedApp(t, ca.issue(t, "spiffe://elsewhere/app"))
	for _, mode := range []mesh.Mode{mesh.ModeStrict, mesh.ModePermissive, mesh.ModeDisable} {
		ask := func(a *probedApp, path, scheme string) (*node, int, error) {
			n, at := probedNode(t, a.at, mode, mesh.Probe{Kind: mesh.ProbeHTTP, Path: "/healthz"}, mesh.Probe{Kind: mesh.ProbeHTTPS, Path: "/healthz"}, mesh.Probe{Kind: mesh.ProbeTCP})
			c := inboundConfig(a.at.Port(), mode, mesh.HTTP)
			c.Inbound.Authorization.Allow = []mesh.AuthorizationRules{{Origin: mesh.Origin{Kind: "AuthorizationPolicy", Namespace: "shop", Name: "nobody"}}}
			n.apply(c)
			if scheme == "tcp" {
				dial(t, "127.0.0.7", at).Close()
				return n, 0, nil
			}
			code, err := kubelet{path: path, scheme: scheme}.ask(t, at, a.at.String())
			return n, code, err
		}
		for _, tc := range []struct {
			app          *probedApp
			path, scheme string
			code         int
			why          string
		}{
			{plain, "/healthz", "http", 200, "HTTP probe GET /healthz: the workload answered 200"},
			{secure, "/healthz", "https", 200, "HTTPS probe GET /healthz: the workload answered 200"},
			{plain, "", "tcp", 0, "TCP probe: the client said nothing"},
		} {
			n, code, err := ask(tc.app, tc.path, tc.scheme)
			if code != tc.code || err != nil {
				t.Errorf("%s: %s probe: %d, %v", mode, tc.scheme, code, err)
			}
			if f := n.row(ended); f.Security != mesh.Probed || !f.Allowed || f.Why != tc.why {
				t.Errorf("%s: %s probe: %+v", mode, tc.scheme, f)
			}
		}
		for scheme, a := range map[string]*probedApp{"http": plain, "https": secure} {
			before := a.bytes.Load()
			n, code, err := ask(a, "/shareditems", scheme)
			if err == nil {
				t.Errorf("%s: %s: another path: status %d", mode, scheme, code)
			}
			if f := n.row(ended); f.Allowed || f.Security == mesh.Probed {
				t.Errorf("%s: %s: another path: %+v", mode, scheme, f)
			}
			if a.bytes.Load() != before {
				t.Errorf("%s: %s: bytes of a refused client reached the workload", mode, scheme)
			}
		}
	}
}

// Under STRICT and where plaintext is allowed, IPv4 and IPv6: a connection
// without a word on a port with a TCP probe is that probe.
func TestTCPProbe(t *testing.T) {
	for _, mode := range []mesh.Mode{mesh.ModeStrict, mesh.ModePermissive, mesh.ModeDisable} {
		for _, reset := range []bool{false, true} {
			workload := app(t, echo)
			n, at := probedNode(t, workload, mode, mesh.Probe{Kind: mesh.ProbeTCP})
			c := dial(t, "127.0.0.7", at)
			if reset && mode == mesh.ModeStrict {
				c.SetLinger(0)
			}
			c.Close()
			f := n.row(ended)
			if f.Security != mesh.Probed || f.Why != "TCP probe: the client said nothing" || !f.Allowed {
				t.Errorf("%s: %+v", mode, f)
			}
			if s := scrape(t, n); strings.Contains(s, "hasp_tls_handshake_failures_total{") {
				t.Errorf("%s: a probe is counted as a failed handshake", mode)
			}
		}
	}
}

func TestProbeOverIPv6(t *testing.T) {
	ln, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	pod := addrPort(ln.Addr())
	done := make(chan struct{})
	srv := &http.Server{Handler: http.NotFoundHandler()}
	go func() {
		defer close(done)
		srv.Serve(ln)
	}()
	defer func() { srv.Close(); <-done }()
	n := newNode(t, newTestCA(t), "boards", "127.0.0.9", func(c *Config) {
		c.Probes = []mesh.Probe{{Kind: mesh.ProbeHTTP, Port: pod.Port(), Path: "/healthz"}}
		c.Dialer = &net.Dialer{}
	})
	n.apply(inboundConfig(pod.Port(), mesh.ModeStrict, mesh.HTTP))
	if code, err := (kubelet{path: "/healthz"}).ask(t, n.inboundFor(pod), pod.String()); code != 404 || err != nil {
		t.Errorf("got %d, %v", code, err)
	}
}

func TestHTTPSProbe(t *testing.T) {
	ca := newTestCA(t)
	a := newProbedApp(t, ca.issue(t, "spiffe://elsewhere/app"))
	n, at := probedNode(t, a.at, mesh.ModeStrict, mesh.Probe{Kind: mesh.ProbeHTTPS, Path: "/healthz"}, mesh.Probe{Kind: mesh.ProbeHTTPS, Path: "/500"})
	for path, want := range map[string]int{"/healthz": 200, "/500": 500} {
		if code, err := (kubelet{scheme: "https", path: path}).ask(t, at, a.at.String()); code != want || err != nil {
			t.Errorf("%s: %d, %v", path, code, err)
		}
		if r := <-a.seen; r.ProtoMajor != 2 || r.TLS == nil {
			t.Errorf("the workload was asked over %s", r.Proto)
		}
	}
	n.row(func(c mesh.Connection) bool {
		return ended(c) && c.Security == mesh.Probed && c.TLS == "1.3" && c.Allowed && c.Why == "HTTPS probe GET /500: the workload answered 500"
	})
	before := a.conns.Load()
	if code, err := (kubelet{scheme: "https", path: "/shareditems"}).ask(t, at, a.at.String()); err == nil {
		t.Errorf("another path: %d", code)
	}
	n.row(func(c mesh.Connection) bool {
		return ended(c) && c.Security == mesh.SimpleTLS && !c.Allowed && strings.HasSuffix(c.Why, "the client spoke TLS without a client certificate")
	})
	if code, err := (kubelet{path: "/healthz"}).ask(t, at, a.at.String()); err == nil {
		t.Errorf("an HTTPS probe in plaintext: %d", code)
	}
	if a.conns.Load() != before {
		t.Error("a refused connection reached the workload")
	}
}

// On a port with an HTTPS probe the mesh's callers are what they were, with its
// ALPN or without.
func TestHTTPSProbePortAndMeshCallers(t *testing.T) {
	m := newLab(t, mesh.ModeStrict, echo)
	server := newNode(t, m.ca, "boards", "127.0.0.9", func(c *Config) {
		c.Probes = []mesh.Probe{{Kind: mesh.ProbeHTTPS, Port: m.app.Port(), Path: "/healthz"}}
	})
	server.apply(inboundConfig(m.app.Port(), mesh.ModeStrict, mesh.TCP))
	m.server, m.at = server, server.inboundFor(m.app)
	m.client.apply(outboundConfig(m.at, m.server.spiffe, istioMutual(m.server.spiffe), mesh.TCP))
	for _, tc := range []struct {
		caller caller
		want   string
	}{{viaSidecar, "ping"}, {meshCert, "ping"}, {noCert, ""}, {wrongCA, ""}, {foreign, ""}, {expired, ""}} {
		if got, err := tc.caller.call(t, m); got != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("%s: %q, %v", tc.caller.name, got, err)
		}
	}
	n := server
	n.row(func(c mesh.Connection) bool {
		return c.Why == "tls handshake: tls: client didn't provide a certificate"
	})
}

func TestProbesNobodyCanAsk(t *testing.T) {
	ps, err := newProbes([]mesh.Probe{
		{Kind: mesh.ProbeHTTP, Port: 80, Path: "/", Headers: []mesh.ProbeHeader{{Name: "a b", Value: "x"}}},
		{Kind: mesh.ProbeHTTP, Port: 80, Path: "/", Headers: []mesh.ProbeHeader{{Name: "A", Value: "x\ny"}}},
		{Kind: "udp", Port: 53},
		{Kind: mesh.ProbeHTTP, Port: 80, Path: "/healthz"},
	})
	want := `probe of port 80: header "a b": no HTTP header, and no kubelet can send it
probe of port 80: header "A": no HTTP header, and no kubelet can send it
probe of port 53: kind "udp": known are http, https, tcp and grpc`
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	if len(ps.at(80).http) != 1 {
		t.Error("the good probe is gone too")
	}
}

// A thousand probes leave nothing behind; goleak, in TestMain, sees goroutines.
func TestThousandProbes(t *testing.T) {
	a := newProbedApp(t, nil)
	n, at := probedNode(t, a.at, mesh.ModeStrict, mesh.Probe{Kind: mesh.ProbeHTTP, Path: "/healthz"})
	question := fmt.Sprintf("GET /healthz HTTP/1.1\r\nHost: %s\r\nUser-Agent: kube-probe/1.37\r\nAccept: */*\r\nConnection: close\r\n\r\n", a.at)
	for range 1000 {
		c, err := net.Dial("tcp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, question)
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || res.StatusCode != 200 {
			t.Fatal(res, err)
		}
		c.Close()
	}
	for end := time.Now().Add(patience); n.table.size() > 0; {
		if time.Now().After(end) {
			t.Fatalf("%d connections live", n.table.size())
		}
	}
	if q := n.probes.at(a.at.Port()).http[0]; len(q.slots) != 0 {
		t.Errorf("%d questions are still asked", len(q.slots))
	}
}

// Whatever a stranger sends: no panic, and what is taken for a probe is one,
// byte for byte up to the order and case of its headers.
func FuzzProbe(f *testing.F) {
	ps, err := newProbes([]mesh.Probe{
		{Kind: mesh.ProbeHTTP, Port: 80, Path: "/healthz?a=b", Headers: []mesh.ProbeHeader{{Name: "X-A", Value: "1"}}},
		{Kind: mesh.ProbeHTTP, Port: 80, Path: "/"},
	})
	if err != nil {
		f.Fatal(err)
	}
	dst := netip.MustParseAddrPort("10.0.0.7:80")
	f.Add([]byte("GET / HTTP/1.1\r\nHost: 10.0.0.7:80\r\nUser-Agent: kube-probe/1.37\r\nAccept: */*\r\nConnection: close\r\n\r\n"))
	f.Add([]byte("GET /healthz?a=b HTTP/1.1\r\nHost: 10.0.0.7:80\r\nUser-Agent: kube-probe/1.37\r\nX-A: 1\r\n\r\n"))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: 10.0.0.7:80\r\nContent-Length: 1\r\n\r\nx"))
	f.Add([]byte("GET / HTTP/1.1\r\nHost:10.0.0.7:80\r\nUser-Agent:kube-probe/0.0\r\r\n\r\n"))
	f.Add([]byte(preface))
	f.Fuzz(func(t *testing.T, b []byte) {
		questions := ps.at(80).http
		if scanHTTP(questions, b) == never && len(b) > 0 {
			for _, q := range questions {
				if strings.HasPrefix(q.line(), string(b)) {
					t.Error("a beginning of a probe is refused")
				}
			}
		}
		q, _ := matchHTTP(questions, b, dst)
		if q == nil {
			return
		}
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(string(b))))
		if err != nil {
			t.Fatalf("taken for a probe, and net/http cannot read it: %v", err)
		}
		if r.Method != "GET" || r.RequestURI != q.target || r.ContentLength != 0 || r.Host != dst.String() {
			t.Errorf("taken for %s: %s %s %s", q, r.Method, r.RequestURI, r.Host)
		}
		for name := range r.Header {
			if !strings.Contains("User-Agent Accept Connection X-A", name) {
				t.Errorf("header %s passed", name)
			}
		}
	})
}
