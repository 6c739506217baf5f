package proxy

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"hasp/mesh"
)

// The form of the access log follows the mesh's settings from line to line.
func TestAccessLogFollowsTheMesh(t *testing.T) {
	n := newNode(t, newTestCA(t), "boards", "127.0.0.6")
	server := app(t, echo)
	at := n.inboundFor(server)
	before := ""
	for _, tc := range []struct {
		form mesh.LogForm
		want func(line string) bool
	}{
		{mesh.LogAsStarted, isText},
		{mesh.LogJSON, func(line string) bool {
			var f mesh.Connection
			return json.Unmarshal([]byte(line), &f) == nil && f.Destination == server && f.Received == 2
		}},
		{mesh.LogOff, nil},
		{mesh.LogText, isText},
	} {
		c := inboundConfig(server.Port(), mesh.ModePermissive, mesh.TCP)
		c.Settings.AccessLog = tc.form
		n.apply(c)
		rows := len(n.Connections())
		if got, err := call(t, "127.0.0.1", at, "hi"); got != "hi" || err != nil {
			t.Fatalf("%q: got %q, %v", tc.form, got, err)
		}
		n.row(func(mesh.Connection) bool {
			all := n.Connections()
			return len(all) > rows && ended(all[0])
		})
		if tc.form == mesh.LogOff {
			continue // a line would be before the next
		}
		n.row(func(mesh.Connection) bool { return len(n.log.String()) > len(before) })
		line := strings.TrimPrefix(n.log.String(), before)
		if strings.Count(line, "\n") != 1 || !tc.want(line) {
			t.Errorf("form %q: the line is %q", tc.form, line)
		}
		before += line
	}
}

func isText(line string) bool { return strings.Contains(line, " inbound ") && line[0] == '[' }

// slowDialer never reaches anything, and says until when it was given time.
type slowDialer struct{ given chan time.Time }

// DialContext implements Dialer.
func (d slowDialer) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	end, _ := ctx.Deadline()
	d.given <- end
	return nil, &net.OpError{Op: "dial", Err: context.DeadlineExceeded}
}

func TestConnectTimeoutFollowsTheMesh(t *testing.T) {
	given := make(chan time.Time, 1)
	n := newNode(t, newTestCA(t), "web", "127.0.0.6", func(c *Config) {
		c.Dialer, c.ConnectTimeout = slowDialer{given}, time.Minute
	})
	at := n.outboundTo(vip)
	for _, tc := range []struct {
		millis int64
		want   time.Duration
	}{{0, time.Minute}, {20_000, 20 * time.Second}, {1500, 1500 * time.Millisecond}, {0, time.Minute}} {
		c := outboundConfig(netip.MustParseAddrPort("127.0.0.1:1"), "", mesh.ClientTLS{Mode: mesh.ClientDisable}, mesh.TCP)
		c.Settings.ConnectTimeoutMillis = tc.millis
		n.apply(c)
		before := time.Now()
		_, _ = call(t, "127.0.0.1", at, "hi") // reset
		end := <-given
		if got := end.Sub(before); got < tc.want || time.Until(end) > tc.want {
			t.Errorf("connectTimeout %d ms: the dial was given %s at most, want %s", tc.millis, got, tc.want)
		}
	}
}

// A port that the configuration closes lets its requests end, for as long as
// the drain duration of the mesh says, while other ports go on and open.
func TestDrainDurationOfAClosedPort(t *testing.T) {
	for _, tc := range []struct {
		name   string
		millis int64
		want   string
	}{{"long enough", patience.Milliseconds(), "late"}, {"too short", 1, ""}} {
		t.Run(tc.name, func(t *testing.T) {
			arrived, release := make(chan struct{}, 1), make(chan struct{})
			m := newGatewayLab(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/slow" {
					arrived <- struct{}{}
					select {
					case <-release:
					case <-r.Context().Done():
					}
					io.WriteString(w, "late")
				}
			}))
			port := freePort(t) // that the gateway opens itself
			before := m.config
			before.Settings.DrainMillis = tc.millis
			before.Gateway = []mesh.Server{m.serve(m.http, mesh.HTTP, mesh.HTTPRoute{Hosts: []string{"*"}}), m.serve(port, mesh.HTTP, mesh.HTTPRoute{Hosts: []string{"*"}})}
			m.gw.apply(before)

			until(t, "the port is open", func() bool { code, _ := fetch(port, "/"); return code == 200 })
			body := make(chan string, 1)
			go func() { _, b := fetch(port, "/slow"); body <- b }()
			<-arrived
			after := before
			after.Gateway = before.Gateway[:1]
			m.gw.apply(after)
			if tc.want == "" {
				if got := <-body; got != "" {
					t.Errorf("the request was answered with %q after the drain time", got)
				}
				close(release)
				return
			}
			until(t, "the port is closed", func() bool {
				c, err := net.Dial("tcp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port).String())
				if err == nil {
					c.Close()
				}
				return err != nil
			})
			m.gw.apply(before) // and open again, while the old request goes on
			until(t, "the port is open again", func() bool { code, _ := fetch(port, "/"); return code == 200 })
			close(release)
			if got := <-body; got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// freePort is one that no outgoing connection on this machine takes meanwhile:
// it is below the ephemeral ports.
func freePort(t *testing.T) uint16 {
	t.Helper()
	for range 100 {
		port := uint16(20_000 + rand.IntN(10_000))
		if ln, err := net.Listen("tcp", fmt.Sprintf(":%d", port)); err == nil {
			ln.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// fetch asks a port of the gateway; the code is 0 when it gives no answer.
func fetch(port uint16, path string) (code int, body string) {
	tr := &http.Transport{DisableKeepAlives: true}
	res, err := (&http.Client{Transport: tr, Timeout: patience}).Get(fmt.Sprintf("http://127.0.0.1:%d%s", port, path))
	if err != nil {
		return 0, ""
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(b)
}

func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so after %s: %s", patience, what)
		}
	}
}

// A client of TLS 1.2 is let in while the mesh's minimum says so, and not after.
func TestMinTLSFollowsTheMesh(t *testing.T) {
	ca := newTestCA(t)
	n := newNode(t, ca, "boards", "127.0.0.6")
	server := app(t, echo)
	at := n.inboundFor(server)
	old := &tls.Config{
		MaxVersion: tls.VersionTLS12, InsecureSkipVerify: true, NextProtos: []string{alpnIstio},
		Certificates: []tls.Certificate{*ca.issue(t, mesh.Identity("cluster.local", "shop", "old"))},
	}
	for _, tc := range []struct{ min, want string }{
		{"", "remote error: tls: protocol version not supported"},
		{"1.2", ""},
		{"1.3", "remote error: tls: protocol version not supported"},
	} {
		c := inboundConfig(server.Port(), mesh.ModeStrict, mesh.TCP)
		c.MinTLS = tc.min
		n.apply(c)
		got := ""
		if err := tls.Client(dial(t, "127.0.0.1", at), old).Handshake(); err != nil {
			got = err.Error()
		}
		if got != tc.want {
			t.Errorf("minimum %q: got %q, want %q", tc.min, got, tc.want)
		}
	}
}
