package memory

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sync/errgroup"

	"hasp/mesh"
	"hasp/test/meshtest"
)

const (
	clientNode, clientID = "shop/client-1", "spiffe://cluster.local/ns/shop/sa/client"
	serverNode, serverID = "shop/server-1", "spiffe://cluster.local/ns/shop/sa/server"
	// services of the mesh that a sidecar is told of.
	services = 20
	// patience with one connection.
	patience = 20 * time.Second
)

// pair is a client's sidecar and a server's. The test is the application at both
// ends.
type pair struct {
	client, server *sidecar
	from           netns.NsHandle // where the client is
	to             string
}

// single is the client's alone.
func single(t *testing.T, protocol mesh.Protocol, args ...string) *sidecar {
	t.Helper()
	client, _ := wire(t)
	return start(t, client, newPlane(t, client, protocol).bootstrap(t, clientNode, clientID), args...)
}

func newPair(t *testing.T, protocol mesh.Protocol, args ...string) *pair {
	t.Helper()
	client, server := wire(t)
	plane := newPlane(t, client, protocol)
	p := &pair{
		client: start(t, client, plane.bootstrap(t, clientNode, clientID), args...),
		server: start(t, server, plane.bootstrap(t, serverNode, serverID), args...),
		from:   client,
		to:     netip.AddrPortFrom(serverAddr, appPort).String(),
	}
	serve(t, server, p.to)
	return p
}

// What the application asks and is answered, each time.
const (
	request = "GET / HTTP/1.1\r\nHost: server\r\n\r\n"
	answer  = "HTTP/1.1 204 No Content\r\n\r\n"
)

// serve is the application behind the server's sidecar until the test ends.
func serve(t *testing.T, ns netns.NsHandle, address string) {
	t.Helper()
	var ln net.Listener
	var err error
	in(ns, func() { ln, err = net.Listen("tcp", address) })
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer c.Close()
				b := make([]byte, len(request))
				for {
					if _, err := io.ReadFull(c, b); err != nil {
						return // the client knows
					}
					if _, err := io.WriteString(c, answer); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { ln.Close(); open.Wait() })
}

// dial opens a connection of the client's application and has it answered.
func (p *pair) dial() (c net.Conn, err error) {
	in(p.from, func() { c, err = net.DialTimeout("tcp", p.to, patience) })
	if err != nil {
		return nil, err
	}
	if err := say(c); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func say(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, request); err != nil {
		return err
	}
	b := make([]byte, len(answer))
	if _, err := io.ReadFull(c, b); err != nil {
		return err
	}
	if string(b) != answer {
		return fmt.Errorf("the answer is %q", b)
	}
	return nil
}

// short makes n connections, one after the other in each of some workers, each
// closed in order when it was answered.
func (p *pair) short(t *testing.T, n int) {
	t.Helper()
	const workers = 16
	var g errgroup.Group
	for w := range workers {
		g.Go(func() error {
			for i := w; i < n; i += workers {
				c, err := p.dial()
				if err != nil {
					return fmt.Errorf("connection %d: %w", i, err)
				}
				if err := end(c.(*net.TCPConn)); err != nil {
					return fmt.Errorf("end of connection %d: %w", i, err)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, s := range p.both() {
		meshtest.Eventually(t, patience, s.name+" has no connection left", func() bool { return s.live(t) == 0 })
	}
}

// end closes a connection and sees the other end do so.
func end(c *net.TCPConn) error {
	defer c.Close()
	if err := c.CloseWrite(); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, c)
	return err
}

func (p *pair) both() []*sidecar { return []*sidecar{p.client, p.server} }

// live is how many connections a sidecar has.
func (s *sidecar) live(t *testing.T) int {
	t.Helper()
	page, err := s.ask("/connections")
	if err != nil {
		t.Fatal(err)
	}
	var all []mesh.Connection
	if err := json.Unmarshal(page, &all); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, c := range all {
		if c.End.IsZero() {
			n++
		}
	}
	return n
}
