package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"hasp/mesh"
)

// directory is one whose answers the test gives.
type directory struct {
	mu    sync.Mutex
	known map[any]bool
	learn func(any) error // asked for what is not known
	kept  []netip.AddrPort
}

func (d *directory) knows(a any) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.known[a]
}

func (d *directory) ask(a any) error {
	if d.knows(a) {
		return nil
	}
	if err := d.learn(a); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known[a] = true
	return nil
}

func (d *directory) Service(_ context.Context, a netip.AddrPort) error { return d.ask(a) }
func (d *directory) Peer(_ context.Context, a netip.Addr) error        { return d.ask(a) }
func (d *directory) KnowsService(a netip.AddrPort) bool                { return d.knows(a) }
func (d *directory) KnowsPeer(a netip.Addr) bool                       { return d.knows(a) }
func (d *directory) Size() (services, peers int)                       { return len(d.known), 0 }
func (d *directory) Keep(services []netip.AddrPort, _ []netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kept = services
}

func withDirectory(d *directory) func(*Config) { return func(c *Config) { c.Directory = d } }

var errLate = errors.New("the answer is late")

// TestFirstConnectionWaits: the connection that asks is the one that is served, by the
// configuration that the answer brought; and one without an answer gets nothing, where
// plaintext to strangers is allowed.
func TestFirstConnectionWaits(t *testing.T) {
	ca := newTestCA(t)
	d := &directory{known: map[any]bool{}}
	client := newNode(t, ca, "ui", "127.0.0.3", withDirectory(d))
	server := newNode(t, ca, "boards", "127.0.0.2")
	boards := app(t, echo)
	at := server.inboundFor(boards)
	server.apply(inboundConfig(boards.Port(), mesh.ModeStrict, mesh.TCP))

	nothing := mesh.ProxyConfig{Generation: 1, OnDemand: true, Outbound: mesh.Outbound{AllowAny: true}}
	client.apply(nothing)
	d.learn = func(a any) error {
		if a != vip {
			return errLate
		}
		c := outboundConfig(at, server.spiffe, istioMutual(server.spiffe), mesh.TCP)
		c.Generation, c.OnDemand = 2, true
		c.Outbound.Clusters[0].Endpoints[0].Labels = mesh.Names{Owner: "boards-of-it"}.Labels()
		client.apply(c)
		return nil
	}
	greet(t, client.outboundTo(vip))
	row := client.row(func(c mesh.Connection) bool { return c.Destination == vip && ended(c) })
	if row.Security != mesh.MutualTLS || !row.Allowed {
		t.Errorf("the first connection: %+v", row)
	}
	if got := connectionLabels(client.settings.Load(), &row).Destination.Owner; got != "boards-of-it" {
		t.Errorf("the server is called %q in metrics", got)
	}

	// The answer may be newer than the settings that a connection began with.
	old := *client.settings.Load()
	old.clusters, old.index = nil, nil
	if s, err := client.find(&old, vip); err != nil || s.route(vip) == nil {
		t.Errorf("what was learned meanwhile is passed over: %v", err)
	}

	stranger := app(t, echo)
	if got, _ := call(t, "127.0.0.1", client.outboundTo(stranger), "hello"); got != "" {
		t.Errorf("got %q from an address that nobody has said anything about", got)
	}
	row = client.row(func(c mesh.Connection) bool { return c.Destination == stranger && ended(c) })
	if row.Allowed || row.Failure == nil || row.Failure.Reason != mesh.ReasonNoConfiguration ||
		row.Why != "the control plane has not said whether a service is at "+stranger.String()+": the answer is late" {
		t.Errorf("without an answer: %+v", row)
	}

	page := httptest.NewRecorder()
	client.AdminHandler().ServeHTTP(page, httptest.NewRequest("GET", "/known", nil))
	if body := page.Body.String(); !strings.Contains(body, `"onDemand": true`) || !strings.Contains(body, `"listeners": 1`) || !strings.Contains(body, `"askedServices": 1`) {
		t.Errorf("/known: %s", body)
	}
}

// TestUnknownCaller: a caller of whom nothing is known yet may have a sidecar, and is
// taken for what it turns out to be.
func TestUnknownCaller(t *testing.T) {
	ca := newTestCA(t)
	d := &directory{known: map[any]bool{}, learn: func(any) error { return errLate }}
	server := newNode(t, ca, "boards", "127.0.0.2", withDirectory(d))
	boards := app(t, echo)
	at := server.inboundFor(boards)
	c := inboundConfig(at.Port(), mesh.ModePermissive, mesh.TCP)
	c.Inbound.Ports[0].Port = boards.Port()
	c.OnDemand = true
	server.apply(c)

	greet(t, at) // plaintext
	row := server.row(func(c mesh.Connection) bool { return c.Direction == mesh.InboundDir && ended(c) })
	if row.Security != mesh.Plaintext || !row.Allowed || row.Why != "the control plane has not said who the client is" {
		t.Errorf("a client in plaintext: %+v", row)
	}

	// STRICT refuses it as ever, whatever is known.
	c.Inbound.Ports = slices.Clone(c.Inbound.Ports)
	c.Inbound.Ports[0].Mode = mesh.ModeStrict
	c.Generation = 2
	server.apply(c)
	if got, _ := call(t, "127.0.0.1", at, "hello"); got != "" {
		t.Errorf("STRICT answered %q to plaintext", got)
	}
	client := newNode(t, ca, "ui", "127.0.0.3")
	client.apply(outboundConfig(at, server.spiffe, istioMutual(server.spiffe), mesh.TCP))
	greet(t, client.outboundTo(vip))
	server.row(func(c mesh.Connection) bool { return c.Security == mesh.MutualTLS && c.Allowed && ended(c) })
}

// TestBecomesTooLarge: connections that live when the mesh is no longer told whole
// stay, and are judged when the answer about their destination is there.
func TestBecomesTooLarge(t *testing.T) {
	ca := newTestCA(t)
	d := &directory{known: map[any]bool{}}
	client := newNode(t, ca, "ui", "127.0.0.3", withDirectory(d))
	at := app(t, echo)
	plain := outboundConfig(at, "", mesh.ClientTLS{Mode: mesh.ClientDisable}, mesh.TCP)
	client.apply(plain)
	conn := dial(t, "127.0.0.1", client.outboundTo(vip))
	speak(t, conn, "one")

	answer := make(chan struct{})
	d.learn = func(any) error {
		<-answer
		c := outboundConfig(at, "", istioMutual("spiffe://cluster.local/ns/shop/sa/boards"), mesh.TCP)
		c.Generation, c.OnDemand = 3, true
		client.apply(c)
		return nil
	}
	client.apply(mesh.ProxyConfig{Generation: 2, OnDemand: true}) // REGISTRY_ONLY
	speak(t, conn, "two")

	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); client.keepKnown(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	close(answer)
	row := client.row(func(c mesh.Connection) bool { return c.Destination == vip && ended(c) })
	if row.Allowed || row.Mode != string(mesh.ClientIstioMutual) {
		t.Errorf("plaintext where the answer demands mutual TLS: %+v", row)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Contains(d.kept, vip) {
		t.Errorf("the directory is told that %v are in use", d.kept)
	}
}

// greet calls with a word, which must come back.
func greet(t *testing.T, at netip.AddrPort) {
	t.Helper()
	if got, err := call(t, "127.0.0.1", at, "hello"); got != "hello" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

// speak a word on a connection and hear it back.
func speak(t *testing.T, c net.Conn, word string) {
	t.Helper()
	got := make([]byte, len(word))
	if _, err := io.WriteString(c, word); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, got); err != nil || string(got) != word {
		t.Fatalf("got %q, %v", got, err)
	}
}
