package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"hasp/mesh"
)

// slowLab is a workload that sends half of each response to /slow and the other
// half when it is told to.
type slowLab struct {
	*lab
	asked  atomic.Int64
	finish chan struct{} // closed: the other half
	at     netip.AddrPort
}

func newSlowLab(t *testing.T, grace time.Duration) *slowLab {
	l := &slowLab{lab: newLab(t, mesh.ModePermissive, echo, func(c *Config) { c.CutGrace = grace }), finish: make(chan struct{})}
	l.app = serveH2C(t, func(w http.ResponseWriter, r *http.Request) {
		l.asked.Add(1)
		if r.URL.Path != "/slow" {
			fmt.Fprint(w, "quick")
			return
		}
		w.Header().Set("Content-Length", "10")
		fmt.Fprint(w, "first")
		w.(http.Flusher).Flush()
		select {
		case <-l.finish:
		case <-r.Context().Done():
		}
		fmt.Fprint(w, "other")
	})
	l.at = l.server.inboundFor(l.app)
	l.mode(mesh.ModePermissive, 1)
	return l
}

func (l *slowLab) mode(mode mesh.Mode, generation uint64, change ...func(*mesh.ProxyConfig)) {
	c := inboundConfig(l.app.Port(), mode, mesh.HTTP)
	c.Generation = generation
	for _, f := range change {
		f(&c)
	}
	l.server.apply(c)
}

// begin asks for path and reads half of the response.
func (l *slowLab) begin(t *testing.T) (net.Conn, *bufio.Reader) {
	t.Helper()
	c := dial(t, "127.0.0.7", l.at)
	br := bufio.NewReader(c)
	fmt.Fprint(c, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
	for line := ""; line != "\r\n"; {
		var err error
		if line, err = br.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.ReadFull(br, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	return c, br
}

func TestResponseIsFinishedBeforeTheCut(t *testing.T) {
	l := newSlowLab(t, time.Minute)
	c, br := l.begin(t)
	l.mode(mesh.ModeStrict, 2)
	fmt.Fprint(c, "GET /next HTTP/1.1\r\nHost: x\r\n\r\n") // must not pass
	// Another change of no matter does not give it more time, nor less.
	l.mode(mesh.ModeStrict, 3)
	close(l.finish)
	if rest, err := io.ReadAll(br); string(rest) != "other" || err != nil {
		t.Errorf("the rest: %q, %v", rest, err)
	}
	f := l.server.row(ended)
	if f.Why != "STRICT of Policy shop/default (namespace) requires mutual TLS and the client spoke plaintext" || f.Allowed || f.Generation != 3 {
		t.Errorf("row %+v", f)
	}
	if n := l.asked.Load(); n != 1 {
		t.Errorf("%d requests reached the workload", n)
	}
	if got := samples(scrape(t, l.server), "istio_requests_total"); len(got) != 1 || !strings.Contains(got[0], `response_code="200"`) {
		t.Errorf("%q", got)
	}
}

// The streams of a connection are finished together, and no new one begins.
func TestStreamsAreFinishedBeforeTheCut(t *testing.T) {
	l := newSlowLab(t, time.Minute)
	c := clientH2C(t)
	var bodies []io.ReadCloser
	for range 3 {
		res, err := c.Get("http://" + l.at.String() + "/slow")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if _, err := io.ReadFull(res.Body, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, res.Body)
	}
	l.mode(mesh.ModeStrict, 2)
	next := make(chan error, 1)
	go func() {
		_, err := c.Get("http://" + l.at.String() + "/next")
		next <- err
	}()
	close(l.finish)
	for _, b := range bodies {
		if rest, err := io.ReadAll(b); string(rest) != "other" || err != nil {
			t.Errorf("the rest: %q, %v", rest, err)
		}
	}
	if err := <-next; err == nil {
		t.Error("another request was answered")
	}
	if n := l.asked.Load(); n != 3 {
		t.Errorf("%d requests reached the workload", n)
	}
	if got := l.server.outcomes(t); len(got) != 1 || got[0] != "http 200 - status= x3" {
		t.Errorf("%q", got)
	}
}

func TestResponseThatTakesTooLongIsCut(t *testing.T) {
	l := newSlowLab(t, 50*time.Millisecond)
	_, br := l.begin(t)
	l.mode(mesh.ModeStrict, 2)
	if rest, err := io.ReadAll(br); len(rest) > 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the rest: %q, %v", rest, err)
	}
}

// A client's own proxy does the same when it is told to begin with mutual TLS.
func TestResponseIsFinishedBeforeTheCutOfAClient(t *testing.T) {
	l := newSlowLab(t, time.Minute)
	client := newNode(t, l.ca, "app-ui", "127.0.0.5", func(c *Config) { c.CutGrace = time.Minute })
	client.apply(outboundConfig(l.at, l.server.spiffe, mesh.ClientTLS{Mode: mesh.ClientDisable}, mesh.HTTP))
	l.at = client.outboundTo(vip)
	_, br := l.begin(t)
	client.apply(outboundConfig(l.at, l.server.spiffe, istioMutual(l.server.spiffe), mesh.HTTP))
	close(l.finish)
	if rest, err := io.ReadAll(br); string(rest) != "other" || err != nil {
		t.Errorf("the rest: %q, %v", rest, err)
	}
	if f := client.row(ended); f.Why != "ISTIO_MUTUAL of DestinationRule shop/mtls (namespace) requires TLS and the connection is plaintext" || f.Allowed {
		t.Errorf("row %+v", f)
	}
}

// A change that allows it again finds the connection as it was.
func TestGraceIsLifted(t *testing.T) {
	l := newSlowLab(t, time.Minute)
	c, br := l.begin(t)
	l.mode(mesh.ModeStrict, 2)
	fmt.Fprint(c, "GET /next HTTP/1.1\r\nHost: x\r\n\r\n")
	l.mode(mesh.ModePermissive, 3)
	close(l.finish)
	if _, err := io.ReadFull(br, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(res.Body); string(body) != "quick" || err != nil {
		t.Errorf("the next response: %q, %v", body, err)
	}
}

// Deny means now, in the middle of a response too.
func TestNoGraceForTheForbidden(t *testing.T) {
	nobody := func(c *mesh.ProxyConfig) {
		c.Inbound.Authorization.Deny = []mesh.AuthorizationRules{{
			Origin: mesh.Origin{Kind: "AuthorizationPolicy", Namespace: "shop", Name: "nobody", Level: mesh.LevelNamespace},
			Rules:  []mesh.AuthorizationRule{{}},
		}}
	}
	for _, mode := range []mesh.Mode{mesh.ModePermissive, mesh.ModeStrict} {
		l := newSlowLab(t, time.Minute)
		_, br := l.begin(t)
		l.mode(mode, 2, nobody)
		if rest, err := io.ReadAll(br); len(rest) > 0 || !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: the rest: %q, %v", mode, rest, err)
		}
		// Nor for one that is in its grace already.
		l = newSlowLab(t, time.Minute)
		_, br = l.begin(t)
		l.mode(mesh.ModeStrict, 2)
		l.mode(mode, 3, nobody)
		if rest, err := io.ReadAll(br); len(rest) > 0 || !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s, in its grace: the rest: %q, %v", mode, rest, err)
		}
	}
}

// A connection between two requests, or in the middle of one, owes nothing.
func TestNoGraceBetweenResponses(t *testing.T) {
	l := newSlowLab(t, time.Minute)
	idle := dial(t, "127.0.0.7", l.at)
	fmt.Fprint(idle, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if res, err := http.ReadResponse(bufio.NewReader(idle), nil); err != nil || res.StatusCode != 200 {
		t.Fatal(err)
	}
	l.server.row(func(f mesh.Connection) bool { return f.Sent > 0 }) // it is seen to have been sent
	half := dial(t, "127.0.0.7", l.at)
	fmt.Fprint(half, "POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
	l.server.row(func(f mesh.Connection) bool { return f.Source == addrPort(half.LocalAddr()) && f.Received > 50 })
	l.mode(mesh.ModeStrict, 2)
	for _, c := range []net.Conn{idle, half} {
		if rest, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%q, %v", rest, err)
		}
	}
}

// Two thousand connections of all kinds: exactly those that are forbidden end,
// each with its line in the log, and a new handshake is needed by none.
func TestExactCutOfMany(t *testing.T) {
	if testing.Short() {
		t.Skip("makes thousands of connections")
	}
	m := newLab(t, mesh.ModePermissive, echo)
	other := newNode(t, m.ca, "other", "127.0.0.6")
	other.apply(outboundConfig(m.at, m.server.spiffe, istioMutual(m.server.spiffe), mesh.TCP))
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "ok") }))
	defer backend.Close()
	web := netip.MustParseAddrPort(backend.Listener.Addr().String())
	config := func(mode mesh.Mode, generation uint64) mesh.ProxyConfig {
		c := inboundConfig(m.app.Port(), mode, mesh.TCP)
		c.Generation = generation
		c.Inbound.Ports = append(c.Inbound.Ports, inboundConfig(web.Port(), mode, mesh.HTTP).Inbound.Ports...)
		return c
	}
	m.server.apply(config(mesh.ModePermissive, 1))

	kinds := []struct {
		name string
		from string
		at   netip.AddrPort
		http bool
	}{
		{"plaintext", "127.0.0.7", m.at, false},
		{"plaintext HTTP", "127.0.0.7", m.server.inboundFor(web), true},
		{"mutual", "127.0.0.5", m.client.outboundTo(vip), false},
		{"mutual of another", "127.0.0.6", other.outboundTo(vip), false},
	}
	const each = 500
	conns := make([][]net.Conn, len(kinds))
	var wg sync.WaitGroup
	for k, kind := range kinds {
		conns[k] = make([]net.Conn, each)
		for i := range each {
			conns[k][i] = dial(t, kind.from, kind.at)
			conns[k][i].SetDeadline(time.Now().Add(5 * patience))
		}
		for _, c := range conns[k] {
			wg.Go(func() {
				if err := use(c, kind.http); err != nil {
					t.Errorf("%s: %v", kind.name, err)
				}
			})
		}
		wg.Wait()
	}
	lives := func(want ...bool) {
		t.Helper()
		for k, kind := range kinds {
			for i, c := range conns[k] {
				wg.Go(func() {
					var err error
					if want[k] {
						err = use(c, kind.http)
					} else if _, readErr := c.Read(make([]byte, 1)); !errors.Is(readErr, syscall.ECONNRESET) && !errors.Is(readErr, net.ErrClosed) && !(kind.http && readErr == io.EOF) {
						// (HTTP may have been about to count the last of a response as sent.)
						err = fmt.Errorf("it lives, or ended otherwise: %w", readErr)
					}
					if err != nil {
						t.Errorf("%s %d: %v", kind.name, i, err)
					}
					if !want[k] {
						c.Close()
					}
				})
			}
		}
		wg.Wait()
	}
	lives(true, true, true, true)
	start := time.Now()
	m.server.apply(config(mesh.ModeStrict, 2))
	t.Logf("cutting %d of %d took %v", 2*each, 4*each, time.Since(start))
	lives(false, false, true, true)
	only := config(mesh.ModeStrict, 3)
	only.Inbound.Authorization.Allow = []mesh.AuthorizationRules{{
		Origin: mesh.Origin{Kind: "AuthorizationPolicy", Namespace: "shop", Name: "callers", Level: mesh.LevelNamespace},
		Rules:  []mesh.AuthorizationRule{{From: []mesh.AuthorizationSource{{Principals: []string{strings.TrimPrefix(m.client.spiffe, "spiffe://")}}}}},
	}}
	m.server.apply(only)
	lives(false, false, true, false)
	until(t, "three kinds have ended", func() bool { return m.server.table.size() == each })

	log := m.server.log.String()
	for line, want := range map[string]int{
		`refused mode=STRICT rule="Policy shop/default (namespace)" generation=2`:                          2 * each,
		`refused mode=STRICT rule="AuthorizationPolicy shop/callers (namespace)" generation=3 peer=spiffe`: each,
	} {
		if n := strings.Count(log, line); n != want {
			t.Errorf("%d lines say %s, want %d", n, line, want)
		}
	}
	if s := scrape(t, m.server); !strings.Contains(s, fmt.Sprintf("hasp_connections_cut_total %d\n", 3*each)) {
		t.Error("the counter says otherwise")
	}
}

// use has a connection carry something each way.
func use(c net.Conn, isHTTP bool) error {
	say, want := "x", "x"
	if isHTTP {
		say, want = "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\n"
	}
	if _, err := io.WriteString(c, say); err != nil {
		return err
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		return fmt.Errorf("got %q, %w", got, err)
	}
	if !isHTTP {
		return nil
	}
	for got := ""; !strings.HasSuffix(got, "\r\n\r\nok"); {
		b := make([]byte, 1)
		if _, err := c.Read(b); err != nil {
			return err
		}
		got += string(b)
	}
	return nil
}

// A gateway's client gets the whole of a response that began before its gateway
// was told to begin with mutual TLS; the next request travels so.
func TestResponseIsFinishedBeforeTheCutOfAGateway(t *testing.T) {
	finish, begun := make(chan struct{}), make(chan struct{}, 1)
	m := newGatewayLab(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "first")
		if r.URL.Path == "/slow" {
			w.(http.Flusher).Flush()
			begun <- struct{}{}
			<-finish
		}
		fmt.Fprint(w, "other")
	}), func(c *Config) { c.CutGrace = time.Minute })
	open := inboundConfig(0, mesh.ModePermissive, mesh.HTTP)
	open.Inbound.Default, open.Inbound.Ports = open.Inbound.Ports[0], nil
	m.server.apply(open)
	apply := func(tls mesh.ClientTLS, generation uint64) {
		c := outboundConfig(m.at, m.server.spiffe, tls, mesh.HTTP)
		c.Role, c.Gateway, c.Generation = m.config.Role, m.config.Gateway, generation
		m.gw.apply(c)
	}
	apply(mesh.ClientTLS{Mode: mesh.ClientDisable}, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		if code, body, _ := m.get(t, "/slow"); code != 200 || body != "firstother" {
			t.Errorf("%d %q", code, body)
		}
	})
	<-begun
	apply(istioMutual(m.server.spiffe), 2)
	if code, body, _ := m.get(t, "/"); code != 200 || body != "firstother" {
		t.Errorf("the next: %d %q", code, body)
	}
	close(finish)
	wg.Wait()
	// Its pool closes it then, unless the proxy was quicker.
	if f := m.gw.row(ended); f.Security != mesh.Plaintext {
		t.Errorf("row %+v", f)
	}
}
