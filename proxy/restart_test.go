package proxy

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"hasp/mesh"
	"hasp/proxy/relay"
)

// replica is a workload with its sidecar, as a pod of a Deployment.
type replica struct {
	*node
	app *http.Server
	at  netip.AddrPort // where the mesh reaches it
}

func newReplica(t *testing.T, ca *testCA, client *node) *replica {
	ln := listenOn(t, "127.0.0.1")
	app := addrPort(ln.Addr())
	n := newNode(t, ca, "boards", "127.0.0.9")
	c := inboundConfig(app.Port(), mesh.ModeStrict, mesh.HTTP)
	c.Peers = []mesh.Peer{{Addr: client.addr, Workload: "shop/app-ui", Identity: client.spiffe, Sidecar: true}}
	n.apply(c)
	r := &replica{node: n, at: n.inboundFor(app), app: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "items")
	})}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.app.Serve(ln)
	}()
	t.Cleanup(func() { r.app.Close(); <-done })
	return r
}

// A workload ends in order while its sidecar still serves, as kubelets end a pod
// with a native sidecar, and clients have not yet heard of it: no request is
// lost, since the handshake fails and another replica takes the connection.
func TestNoRequestIsLostWhenAReplicaEnds(t *testing.T) {
	ca := newTestCA(t)
	client := newNode(t, ca, "app-ui", "127.0.0.5")
	replicas := []*replica{newReplica(t, ca, client), newReplica(t, ca, client), newReplica(t, ca, client)}
	c := outboundConfig(replicas[0].at, replicas[0].spiffe, istioMutual(replicas[0].spiffe), mesh.HTTP)
	cl := &c.Outbound.Clusters[0]
	for _, r := range replicas[1:] {
		e := cl.Endpoints[0]
		e.Addr, e.Port = r.at.Addr(), r.at.Port()
		cl.Endpoints = append(cl.Endpoints, e)
	}
	client.apply(c)
	url := "http://" + client.outboundTo(vip).String() + "/"

	var asked, lost atomic.Int64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 8 {
		wg.Go(func() {
			tr := &http.Transport{DisableKeepAlives: true}
			for {
				select {
				case <-stop:
					return
				default:
				}
				res, err := (&http.Client{Transport: tr, Timeout: patience}).Get(url)
				asked.Add(1)
				if err != nil || res.StatusCode != 200 {
					lost.Add(1)
				}
				if err == nil {
					res.Body.Close()
				}
			}
		})
	}
	until := func(n int64) {
		for end := time.Now().Add(patience); asked.Load() < n && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
	}
	until(50)
	for _, r := range replicas[:2] {
		if err := r.app.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		until(asked.Load() + 100)
	}
	close(stop)
	wg.Wait()
	if asked.Load() < 250 || lost.Load() > 0 {
		t.Errorf("%d of %d requests were lost", lost.Load(), asked.Load())
	}
	client.row(func(c mesh.Connection) bool { return strings.HasPrefix(c.Why, "tried before: tls to ") })
}

// The workload is dialled before the handshake only for addresses that have a
// sidecar; for others the kernel is asked.
func TestKnock(t *testing.T) {
	var conns atomic.Int64
	count := func(c *net.TCPConn) {
		conns.Add(1)
		echo(c)
	}
	var listens atomic.Bool
	m := newLab(t, mesh.ModeStrict, count, func(c *Config) {
		c.Listening = func(netip.AddrPort) (bool, error) { return listens.Load(), nil }
	})
	_, err := m.tls(t, nil, alpnIstio)
	if !errors.Is(err, syscall.ECONNRESET) && err != io.EOF {
		t.Errorf("nobody listens: %v, want a reset", err)
	}
	m.server.row(func(c mesh.Connection) bool {
		return ended(c) && !c.Allowed && c.Why == "the workload does not listen on the port"
	})
	listens.Store(true)
	if _, err := wrongCA.call(t, m); err == nil {
		t.Error("a stranger's certificate was let in")
	}
	if conns.Load() != 0 {
		t.Errorf("a stranger made %d connections to the workload", conns.Load())
	}
	if got, err := m.askTLS(t, m.ca.issue(t, m.client.spiffe), alpnIstio); got != "ping" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}

	dead := listenOn(t, "127.0.0.1")
	gone := addrPort(dead.Addr())
	dead.Close()
	for _, mode := range []mesh.Mode{mesh.ModeStrict, mesh.ModePermissive} {
		c := inboundConfig(gone.Port(), mode, mesh.TCP)
		c.Peers = []mesh.Peer{{Addr: netip.MustParseAddr("127.0.0.7"), Workload: "shop/app-ui", Sidecar: true}}
		m.server.apply(c)
		raw := dial(t, "127.0.0.7", m.server.inboundFor(gone))
		err := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{alpnIstio}}).Handshake()
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: %v, want a reset", mode, err)
		}
	}
	m.server.row(func(c mesh.Connection) bool {
		return ended(c) && strings.HasPrefix(c.Why, "the workload does not answer: ") && c.Mode == "PERMISSIVE"
	})
}

// What is sent to another endpoint when the first goes away without an answer,
// and what is not.
func TestAgain(t *testing.T) {
	get := "GET /items HTTP/1.1\r\nHost: boards:8080\r\n\r\n"
	const lost = "HTTP/1.1 503 Service Unavailable\r\n"
	// first reads one request and then does as it likes.
	first := func(then func(*net.TCPConn)) func(*net.TCPConn) {
		return func(c *net.TCPConn) {
			if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				then(c)
			}
		}
	}
	resets := first(func(c *net.TCPConn) { relay.Reset(c) })
	for _, tc := range []struct {
		name    string
		first   func(*net.TCPConn)
		request string
		proto   mesh.Protocol
		want    string // how the answer begins; "" for a reset
		again   int64
	}{
		{"reset", resets, get, mesh.HTTP, "HTTP/1.1 200 OK\r\n", 1},
		{"ended in order", first(func(c *net.TCPConn) { c.CloseWrite() }), get, mesh.HTTP, "HTTP/1.1 200 OK\r\n", 1},
		{"half an answer", first(func(c *net.TCPConn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")
			c.CloseWrite()
		}), get, mesh.HTTP, "HTTP/1.1 200 OK\r\n", 0},
		{"not safe to repeat", resets, "POST /items HTTP/1.1\r\nHost: boards:8080\r\nContent-Length: 0\r\n\r\n", mesh.HTTP, lost, 0},
		{"too long", resets, "GET / HTTP/1.1\r\nHost: boards:8080\r\n" + strings.Repeat("X: y\r\n", maxKept/6) + "\r\n", mesh.HTTP, lost, 0},
		{"two at once", resets, get + get, mesh.HTTP, "", 0},
		{"not HTTP", resets, get, mesh.TCP, "", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			client := newNode(t, newTestCA(t), "app-ui", "127.0.0.5")
			var second atomic.Int64
			good := app(t, func(c *net.TCPConn) {
				for b := bufio.NewReader(c); ; {
					r, err := http.ReadRequest(b)
					if err != nil {
						return
					}
					second.Add(1)
					fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(r.URL.Path), r.URL.Path)
				}
			})
			bad := app(t, tc.first)
			c := outboundConfig(bad, "", mesh.ClientTLS{Mode: mesh.ClientDisable}, tc.proto)
			cl := &c.Outbound.Clusters[0]
			cl.Endpoints = append(cl.Endpoints, cl.Endpoints[0])
			cl.Endpoints[1].Port = good.Port()
			client.apply(c)
			conn := dial(t, "127.0.0.5", client.outboundTo(vip))
			io.WriteString(conn, tc.request)
			got := make([]byte, 512)
			n, err := conn.Read(got)
			if !strings.HasPrefix(string(got[:n]), tc.want) || (tc.want == "") != errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("got %q, %v", got[:n], err)
			}
			if second.Load() != tc.again {
				t.Errorf("the second endpoint got %d requests", second.Load())
			}
			if tc.again == 0 {
				return
			}
			// The connection goes on with the second endpoint.
			io.WriteString(conn, get)
			if n, err := conn.Read(got); err != nil || !strings.HasSuffix(string(got[:n]), "/items") {
				t.Errorf("the second request: %q, %v", got[:n], err)
			}
			conn.Close()
			f := client.row(func(c mesh.Connection) bool { return ended(c) && c.Sent > 0 })
			if !f.Allowed || f.Failure != nil || f.Upstream != good || f.Requests != 2 || !strings.HasPrefix(f.Why, "mode DISABLE; tried before: read upstream: ") {
				t.Errorf("row: %+v", f)
			}
			if s := scrape(t, client); !strings.Contains(s, "hasp_requests_sent_again_total 1\n") {
				t.Errorf("metrics:\n%s", s)
			}
		})
	}
}

// A single endpoint is not asked twice.
func TestAgainNeedsAnother(t *testing.T) {
	var asked atomic.Int64
	only := app(t, func(c *net.TCPConn) {
		http.ReadRequest(bufio.NewReader(c))
		asked.Add(1)
	})
	client := newNode(t, newTestCA(t), "app-ui", "127.0.0.5")
	client.apply(outboundConfig(only, "", mesh.ClientTLS{Mode: mesh.ClientDisable}, mesh.HTTP))
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + client.outboundTo(vip).String())
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 503 || asked.Load() != 1 {
		t.Errorf("status %d, asked %d times", res.StatusCode, asked.Load())
	}
}

// A gateway does the same, for each request.
func TestGatewayAgain(t *testing.T) {
	var reached atomic.Int64
	m := newGatewayLab(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Method) }))
	breaks := app(t, func(c *net.TCPConn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			reached.Add(1)
			relay.Reset(c)
		}
	})
	bad := newNode(t, m.ca, "app-ui", "127.0.0.9")
	bad.apply(inboundConfig(breaks.Port(), mesh.ModeStrict, mesh.HTTP))
	e := m.config.Outbound.Clusters[0].Endpoints[0]
	at := bad.inboundFor(breaks)
	e.Addr, e.Port = at.Addr(), at.Port()
	for _, tc := range []struct {
		method, body string
		only         bool // the one endpoint there is
		code         int
		reached      int64
	}{
		{"GET", "", false, 200, 1},
		{"POST", "x", false, 503, 1},
		{"GET", "", true, 503, 1},
	} {
		c := m.config
		cl := c.Outbound.Clusters[0]
		cl.Name += fmt.Sprint(tc) // a pool and a turn of its own
		c.Gateway = []mesh.Server{m.serve(m.http, mesh.HTTP, mesh.HTTPRoute{Hosts: []string{"*"}, To: []mesh.WeightedTarget{{Cluster: cl.Name}}})}
		cl.Endpoints = []mesh.Endpoint{e}
		if !tc.only {
			cl.Endpoints = append(cl.Endpoints, m.config.Outbound.Clusters[0].Endpoints[0])
		}
		c.Outbound.Clusters = []mesh.Cluster{cl}
		c.Outbound.Listeners = nil
		m.gw.health.ok(at.String())
		m.gw.apply(c)
		reached.Store(0)
		code, _, _ := m.get(t, "/", func(r *http.Request) {
			r.Method, r.Body = tc.method, io.NopCloser(strings.NewReader(tc.body))
			if r.ContentLength = int64(len(tc.body)); tc.body == "" {
				r.Body = nil
			}
		})
		if code != tc.code || reached.Load() != tc.reached {
			t.Errorf("%+v: status %d, the first endpoint was reached %d times", tc, code, reached.Load())
		}
	}
}
