package main

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"hasp/test/wire"
)

var (
	clientAt = netip.MustParseAddrPort("10.0.0.1:40000")
	serverAt = netip.MustParseAddrPort("10.0.0.2:8080")
	begun    = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
)

// agreeing is a case without a disagreement.
func agreeing() *Case {
	r := Row{Trace: "t", Security: "mutual_tls", Allowed: true, Sent: 100, Received: 50, Start: begun,
		AtDestination: &End{ID: 1, Source: clientAt, Destination: serverAt, Allowed: true}}
	r.Source.Workload, r.Destination.Workload = "shop/client", "shop/server"
	r.Handshake = &Handshake{TLS: "1.3"}
	return &Case{
		Capture: wire.Report{Connections: []wire.Connection{{Start: begun, Client: clientAt, Server: serverAt, TLS: "1.3", ALPN: []string{"istio"},
			FromClient: wire.Direction{Bytes: 3000}, FromServer: wire.Direction{Bytes: 4000}}}},
		Rows:  []Row{r},
		Pods:  map[netip.Addr]string{clientAt.Addr(): "shop/client", serverAt.Addr(): "shop/server"},
		Ports: []uint16{8080},
	}
}

func TestJoin(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(w *wire.Connection, r *Row, c *Case)
		want   string // in the only disagreement; empty for none
	}{
		{"all is well", func(w *wire.Connection, r *Row, c *Case) {}, ""},
		{"another client", func(w *wire.Connection, r *Row, c *Case) { r.Source.Workload = "shop/other" }, `the client is shop/client, the table says "shop/other"`},
		{"another server", func(w *wire.Connection, r *Row, c *Case) { r.Destination.Workload = "" }, `the server is shop/server, the table says ""`},
		{"plaintext called mutual TLS", func(w *wire.Connection, r *Row, c *Case) { w.ALPN = nil }, "mutual TLS, and the wire has"},
		{"readable", func(w *wire.Connection, r *Row, c *Case) { w.FromServer.Markers = []string{"m"} }, "the payload could be read"},
		{"another version", func(w *wire.Connection, r *Row, c *Case) { w.TLS = "1.2" }, `the wire has TLS "1.2"`},
		{"bytes that were not told", func(w *wire.Connection, r *Row, c *Case) { w.FromServer.Bytes = 1 << 20 }, "1048576 bytes to the client on the wire, 100 in the table"},
		{"bytes that were not sent", func(w *wire.Connection, r *Row, c *Case) { r.Received = 1 << 20 }, "3000 bytes from the client on the wire, 1048576 in the table"},
		{"TLS called plaintext", func(w *wire.Connection, r *Row, c *Case) {
			r.Security = "none"
			w.FromClient.Bytes, w.FromServer.Bytes = r.Received, r.Sent
		}, "plaintext, and the wire has TLS 1.3"},
		{"plaintext called the application's TLS", func(w *wire.Connection, r *Row, c *Case) {
			r.Security, w.TLS, w.ALPN = "opaque", "", nil
			w.FromClient.Bytes, w.FromServer.Bytes = r.Received, r.Sent
		}, "the wire has none"},
		{"refused and served", func(w *wire.Connection, r *Row, c *Case) {
			r.AtDestination.Allowed = false
			w.FromServer.Markers = []string{"m"}
		}, "refused, and the server's 4000 bytes passed"},
		{"refused", func(w *wire.Connection, r *Row, c *Case) { r.AtDestination.Allowed = false }, ""},
		{"the ends disagree", func(w *wire.Connection, r *Row, c *Case) { r.Disagreement = "one says so" }, "the two ends disagree: one says so"},
		{"not in the table", func(w *wire.Connection, r *Row, c *Case) { c.Rows = nil }, "the wire has it, the table does not"},
		{"an older one of the same ports", func(w *wire.Connection, r *Row, c *Case) {
			r.Start = begun.Add(-time.Minute)
			r.Sent, r.Received = 0, 0
		}, "the wire has it, the table does not"},
		{"another port, given by the server's kernel", func(w *wire.Connection, r *Row, c *Case) {
			r.Security, w.TLS, w.ALPN, r.Handshake = "none", "", nil, nil
			w.FromClient.Bytes, w.FromServer.Bytes = r.Received, r.Sent
			r.AtDestination.Source = netip.MustParseAddrPort("10.0.0.1:10101")
		}, ""},
		{"not on the wire", func(w *wire.Connection, r *Row, c *Case) { c.Capture.Connections = nil }, "the table has it, the wire does not"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := agreeing()
			tt.change(&c.Capture.Connections[0], &c.Rows[0], c)
			got := Join(c).Disagreements
			switch {
			case tt.want == "" && len(got) > 0, tt.want != "" && (len(got) != 1 || !strings.Contains(got[0], tt.want)):
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestWhatOneHandshakeCarried(t *testing.T) {
	c := agreeing()
	second := c.Rows[0]
	second.Start = begun.Add(time.Minute)
	second.Handshake = &Handshake{TLS: "1.3", Reused: 1}
	second.Received = 30_000
	c.Rows = []Row{second, c.Rows[0]}
	if got := Join(c); len(got.Disagreements) != 1 || !strings.Contains(got.Disagreements[0], "3000 bytes from the client on the wire, 30050 in the table") {
		t.Errorf("%+v", got)
	}
	c = agreeing()
	second.Received = 30
	c.Rows = append(c.Rows, second)
	if got := Join(c); len(got.Disagreements) > 0 || got.Joined != 1 || got.Carried != 1 {
		t.Errorf("%+v", got)
	}
	second.Handshake = &Handshake{TLS: "1.3"} // of its own, which nobody saw
	c.Rows = append(c.Rows[:1:1], second)
	if got := Join(c); len(got.Disagreements) != 1 {
		t.Errorf("%+v", got)
	}
}
