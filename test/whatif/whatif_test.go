package whatif_test

import (
	"cmp"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"hasp/compile"
	"hasp/mesh"
	"hasp/source"
	"hasp/truth"
	"hasp/world"
)

var (
	seed  = flag.Uint64("seed", 1, "of the cases")
	cases = flag.Int("cases", 100, "how many")
	only  = flag.Int("case", -1, "one case alone, told in full")
)

// patience is for what happens at once unless something is broken, on a busy
// machine too.
const patience = time.Minute

func TestWhatIfIsWhatBecomes(t *testing.T) {
	ca, err := newAuthority()
	if err != nil {
		t.Fatal(err)
	}
	n := *cases
	if testing.Short() {
		n = min(n, 20)
	}
	var connections, cut, differences atomic.Int64
	var mu sync.Mutex
	nets := make(chan int, 4) // cases at a time, each in a network of its own
	for i := range cap(nets) {
		nets <- 100 + i
	}
	var g errgroup.Group
	for i := range n {
		if *only >= 0 && i != *only {
			continue
		}
		network := <-nets
		g.Go(func() error {
			defer func() { nets <- network }()
			c := &trial{ca: ca, r: rand.New(rand.NewPCG(*seed, uint64(i))), net: network}
			err := c.run()
			connections.Add(int64(c.connections))
			cut.Add(int64(c.cut))
			differences.Add(int64(len(c.differences)))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("case %d: %v", i, err)
			}
			if len(c.differences) > 0 || *only >= 0 {
				t.Errorf("case %d of seed %d: there is\n  %s\ncandidate (delete %t)\n  %s\n%s\nreally\n  %s", i, *seed, strings.Join(c.before, "\n  "), c.remove,
					strings.Join(c.candidate, "\n  "), strings.Join(c.differences, "\n"), strings.Join(c.story, "\n  "))
			}
			return nil
		})
	}
	_ = g.Wait()
	if *only < 0 && cut.Load() == 0 {
		t.Errorf("no candidate cut any of %d connections: nothing was tried", connections.Load())
	}
	fmt.Printf("what-if: %d cases, seed %d, %d connections (%d of them cut), %d differences\n", n, *seed, connections.Load(), cut.Load(), differences.Load())
}

// trial is one case.
type trial struct {
	ca                *authority
	r                 *rand.Rand
	net               int
	before, candidate []string
	remove            bool

	was, then   *world.World
	h           *host
	talks       []*talk
	connections int
	cut         int
	differences []string
	story       []string
}

// talk is one client of one port of one server.
type talk struct {
	client, server string // NAMESPACE/NAME; the client "" is outside
	port           uint16 // of the server's workload
	kind           string // "service", "pod", "direct"
	speech         string // "plain", "tls" of its own, "certified" by the mesh though it has no sidecar
	from           netip.Addr
	to             netip.AddrPort // where to connect
	conns          []*connection
	was, then      attempt
}

// attempt is what came of a connection.
type attempt struct {
	ok       bool
	security mesh.Security
}

// connection that lives.
type connection struct {
	net.Conn
	traces map[string]bool // at both ends
	ended  bool
}

func (c *trial) run() (err error) {
	c.before, c.candidate, c.remove = objects(c.r, c.net)
	if c.was, c.then, err = worlds(c.net, c.before, c.candidate, c.remove); err != nil {
		return err
	}
	c.h = newHost()
	defer func() { err = errors.Join(err, c.h.close()) }()
	if err := c.start(); err != nil {
		return err
	}
	if err := c.apply(c.was); err != nil {
		return err
	}
	for _, t := range c.talks {
		for range 2 {
			conn, a, err := c.attempt(t)
			if err != nil {
				return err
			}
			if t.was = a; conn != nil {
				t.conns = append(t.conns, conn)
			}
		}
	}
	answer, err := c.ask()
	if err != nil {
		return err
	}
	if err := c.apply(c.then); err != nil {
		return err
	}
	for _, t := range c.talks {
		for _, conn := range t.conns {
			if conn.ended = !conn.says("ping"); conn.ended {
				c.cut++
			}
		}
	}
	for _, t := range c.talks {
		conn, a, err := c.attempt(t)
		if err != nil {
			return err
		}
		if t.then = a; conn != nil {
			conn.Close()
		}
	}
	c.compare(answer)
	for _, t := range c.talks {
		for _, conn := range t.conns {
			conn.Close()
		}
	}
	return nil
}

// worlds before and after a candidate.
func worlds(net int, before, candidate []string, remove bool) (was, then *world.World, err error) {
	text := fmt.Sprintf(workloads, net) + "\n---\n" + strings.Join(before, "\n---\n")
	base, err := source.ReadCandidate(strings.NewReader(text), "case.yaml")
	if err != nil {
		return nil, nil, err
	}
	o := &source.Objects{}
	for _, b := range base {
		if p, ok := b.Value.(*corev1.Pod); ok {
			o.Pods = append(o.Pods, p)
		}
	}
	now := time.Now()
	if o, _, err = o.Apply(base, "a", false, now.Add(-time.Hour)); err != nil {
		return nil, nil, err
	}
	objects, err := source.ReadCandidate(strings.NewReader(strings.Join(candidate, "\n---\n")), "candidate.yaml")
	if err != nil {
		return nil, nil, err
	}
	next, _, err := o.Apply(objects, "a", remove, now)
	if err != nil {
		return nil, nil, err
	}
	was, _ = source.Build(o, "")
	then, _ = source.Build(next, "")
	was.Generation, then.Generation = 1, 2
	return was, then, nil
}

func (c *trial) addr(part, host int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, byte(c.net), byte(part), byte(host)})
}

// start proxies and servers, and draw who talks to whom and how.
func (c *trial) start() error {
	at := map[string]netip.Addr{"": c.addr(3, 1)}
	for _, wl := range c.was.Workloads {
		addr := wl.Addresses[0]
		at[wl.Key()] = addr
		if wl.Role == mesh.RoleSidecar {
			if _, err := c.h.sidecar(c.ca, wl.Key(), wl.Identity(c.was.Mesh.TrustDomain), addr); err != nil {
				return err
			}
		}
	}
	virtual := map[string]netip.Addr{"a/api": netip.MustParseAddr("10.96.0.2"), "b/db": netip.MustParseAddr("10.96.0.5"), "b/old": netip.MustParseAddr("10.96.0.6")}
	for _, server := range slices.Sorted(maps.Keys(virtual)) {
		for i, port := range []uint16{18080, 18081} {
			app := netip.AddrPortFrom(at[server], port)
			if s := c.h.proxies[server]; s != nil {
				b := app.Addr().As4()
				app = netip.AddrPortFrom(netip.AddrFrom4([4]byte{b[0], b[1], 2, b[3]}), port)
				if _, err := c.h.capture(s, mesh.InboundDir, netip.AddrPortFrom(at[server], port), app); err != nil {
					return err
				}
			}
			if err := c.h.echo(app); err != nil {
				return err
			}
			for _, client := range []string{"", "a/legacy", "a/web", "b/shop"} {
				t := &talk{client: client, server: server, port: port, kind: "direct", from: at[client], to: netip.AddrPortFrom(at[server], port)}
				s := c.h.proxies[client]
				if s != nil {
					t.kind = pick(c.r, "service", "service", "service", "pod", "direct")
				}
				dst := t.to
				if t.kind == "service" {
					dst = netip.AddrPortFrom(virtual[server], 80+uint16(i))
				}
				if t.kind != "direct" {
					var err error
					if t.to, err = c.h.capture(s, mesh.OutboundDir, netip.AddrPortFrom(c.addr(4, 1), 0), dst); err != nil {
						return err
					}
				} else if s != nil && c.h.proxies[server] == nil {
					continue // past the sidecar to nobody's: nothing sees it
				}
				t.speech = pick(c.r, "plain", "plain", "plain", "tls")
				if s == nil && client != "" && c.r.IntN(4) == 0 {
					t.speech = "certified"
				}
				c.talks = append(c.talks, t)
			}
		}
	}
	return nil
}

// apply a World to the proxies, in any order.
func (c *trial) apply(w *world.World) error {
	compiler := compile.New(w)
	names := slices.Sorted(maps.Keys(c.h.proxies))
	c.r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	for _, name := range names {
		cfg, _ := compiler.For(w.Workload(name))
		if err := c.h.proxies[name].Apply(cfg); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// attempt makes a connection and says something. The connection is nil when it
// was refused.
func (c *trial) attempt(t *talk) (*connection, attempt, error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(t.from, 0)), Timeout: patience}
	c.connections++
	raw, err := d.Dial("tcp", t.to.String())
	if err != nil {
		return nil, attempt{}, nil // reset before it was there
	}
	conn := &connection{Conn: raw, traces: map[string]bool{}}
	a := attempt{ok: true, security: mesh.Plaintext}
	word := "ping"
	switch t.speech {
	case "tls":
		word = hello()
	case "certified":
		a.security = mesh.MutualTLS
		cert, err := c.ca.issue("spiffe://cluster.local/ns/a/sa/default")
		if err != nil {
			return nil, a, err
		}
		conn.Conn = tls.Client(raw, &tls.Config{Certificates: []tls.Certificate{*cert}, InsecureSkipVerify: true, NextProtos: []string{"istio"}})
	}
	if !conn.says(word) {
		raw.Close()
		return nil, attempt{}, nil
	}
	at := addrPort(raw.LocalAddr())
	if t.kind != "direct" {
		row, err := find(c.h.proxies[t.client], func(r *mesh.Connection) bool { return r.Direction == mesh.OutboundDir && r.Source == at })
		if err != nil {
			return nil, a, err
		}
		a.security, at = row.Security, row.Local
		conn.traces[row.Trace] = true
	}
	if s := c.h.proxies[t.server]; s != nil {
		row, err := find(s, func(r *mesh.Connection) bool { return r.Direction == mesh.InboundDir && r.Source == at })
		if err != nil {
			return nil, a, err
		}
		conn.traces[row.Trace] = true
	}
	return conn, a, nil
}

// says tells whether a word comes back.
func (c *connection) says(word string) bool {
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, word); err != nil {
		return false
	}
	b := make([]byte, len(word))
	_, err := io.ReadFull(c, b)
	return err == nil && string(b) == word
}

// hello is how a client begins that speaks TLS to the application.
func hello() string {
	client, server := net.Pipe()
	defer server.Close()
	go func() {
		defer client.Close()
		_ = tls.Client(client, &tls.Config{ServerName: "elsewhere.example.com", NextProtos: []string{"http/1.1"}}).Handshake() // nobody answers
	}()
	b := make([]byte, 4096)
	n, _ := server.Read(b)
	return string(b[:n])
}

func find(s *sidecar, want func(*mesh.Connection) bool) (mesh.Connection, error) {
	rows := s.Connections()
	slices.SortFunc(rows, func(a, b mesh.Connection) int { return cmp.Compare(b.ID, a.ID) })
	for _, r := range rows {
		if want(&r) {
			return r, nil
		}
	}
	return mesh.Connection{}, fmt.Errorf("no such connection among %+v", rows)
}

// ask what would become of everybody, by what the proxies report.
func (c *trial) ask() (*truth.Answer, error) {
	book := truth.NewBook(truth.Limits{})
	now := time.Now()
	for name, s := range c.h.proxies {
		r := s.Facts().Report(true)
		r.Node, r.Identity = name, c.was.Workload(name).Identity(c.was.Mesh.TrustDomain)
		if err := book.Take(c.was, r, now); err != nil {
			return nil, err
		}
	}
	a := truth.WhatIf(c.was, c.then, book.Facts(1, now))
	return &a, nil
}

// compare what was said with what became.
func (c *trial) compare(a *truth.Answer) {
	type key struct {
		from, to string
		port     uint16
	}
	said := map[key]truth.Effect{}
	dying := map[string]bool{}
	for _, e := range a.Effects {
		from := strings.TrimPrefix(e.Source.ID(), c.addr(3, 1).String())
		port := e.Port
		said[key{from, e.Destination.ID(), port}] = e
		for _, trace := range e.Lives {
			dying[trace] = true
		}
	}
	for _, t := range c.talks {
		ends := false
		for i, conn := range t.conns {
			predicted := false
			for trace := range conn.traces {
				predicted = predicted || dying[trace]
			}
			if ends = ends || conn.ended; predicted != conn.ended {
				c.differ("connection %d of %s: was said to end: %t, ended: %t", i, t, predicted, conn.ended)
			}
		}
		e := said[key{t.client, t.server, t.port}]
		what, real := cmp.Or(e.What, truth.Unchanged), became(t, ends)
		c.story = append(c.story, fmt.Sprintf("%s: %+v, then %+v: %s; said %s, %s", t, t.was, t.then, real, what, e.Why))
		switch {
		case what == truth.Unchanged && real == truth.Freed:
			continue // a handshake that failed says nothing to a ledger
		case t.speech == "certified" && !t.was.ok:
			continue // to a port that takes plaintext it is the application's own TLS, and may work
		}
		if what != real {
			c.differ("%s: was said to be %s (%s), is %s", t, what, e.Why, real)
		}
	}
}

// became is what really became of a client, in the words of what-if.
func became(t *talk, ends bool) string {
	rank := map[mesh.Security]int{mesh.MutualTLS: 2, mesh.SimpleTLS: 1}
	before, after := rank[t.was.security], rank[t.then.security]
	switch {
	case !t.then.ok && (t.was.ok || ends):
		return truth.Cut
	case !t.then.ok:
		return truth.Unchanged
	case !t.was.ok:
		return truth.Freed
	case after > before:
		return truth.Upgraded
	case after < before:
		return truth.Weakened
	case ends:
		return truth.Reset
	}
	return truth.Unchanged
}

func (c *trial) differ(format string, args ...any) {
	c.differences = append(c.differences, fmt.Sprintf(format, args...))
}

func (t *talk) String() string {
	return fmt.Sprintf("%s -> %s:%d (%s, %s)", cmp.Or(t.client, "outside"), t.server, t.port, t.kind, t.speech)
}
