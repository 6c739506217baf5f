package relay

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// Which connections a loop takes. With the others Fast works too, so only a
// look inside tells.
func TestWhatALoopTakes(t *testing.T) {
	tls12 := func(t testing.TB) (peer, *Side) {
		return tlsOver(t, &tls.Config{MaxVersion: tls.VersionTLS12, InsecureSkipVerify: true}, nil)
	}
	tickets := func(t testing.TB) (peer, *Side) {
		return tlsOver(t, &tls.Config{InsecureSkipVerify: true}, func(c *tls.Config) { c.SessionTicketsDisabled = false })
	}
	perClient := func(t testing.TB) (peer, *Side) {
		return tlsOver(t, &tls.Config{InsecureSkipVerify: true}, func(c *tls.Config) {
			inner := c.Clone()
			c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return inner, nil }
		})
	}
	read := func(t testing.TB) (peer, *Side) {
		far, side := tlsPair(t)
		write(t, far, "x")
		if _, err := io.ReadFull(side, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		return far, side
	}
	for _, tc := range []struct {
		name string
		side func(testing.TB) (peer, *Side)
		want bool
	}{
		{"plain", plainPair, true},
		{"TLS 1.3", tlsPair, true},
		{"a configuration for the client", perClient, true},
		{"the client's half", tlsClientPair, true},
		{"TLS 1.2", tls12, false},
		{"session tickets", tickets, false},
		{"read before", read, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, client := plainPair(t)
			u, upstream := tc.side(t)
			done := startWith(newFast(t))(client, upstream, new(Meter), nil)
			client.mu.Lock()
			if got := client.loop != nil; got != tc.want {
				t.Errorf("in a loop: %v", got)
			}
			client.mu.Unlock()
			write(t, c, "ping")
			closeWrite(t, c)
			if got := readAll(t, u); got != "ping" {
				t.Errorf("upstream got %q", got)
			}
			write(t, u, "pong")
			closeWrite(t, u)
			if got := readAll(t, c); got != "pong" {
				t.Errorf("client got %q", got)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// tlsClientPair is a pair whose relay's side is the client.
func tlsClientPair(t testing.TB) (peer, *Side) {
	a, b := tcpPair(t)
	server := tls.Server(a, &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}}) // sends tickets
	sock := NewSocket(b, nil)
	client := tls.Client(sock, sock.ForClient(&tls.Config{InsecureSkipVerify: true}))
	handshake(t, client, server)
	return server, TLS(client, sock, true)
}

func handshake(t testing.TB, a, b *tls.Conn) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- b.Handshake() }()
	if err := errors.Join(a.Handshake(), <-done); err != nil {
		t.Fatal(err)
	}
}

// The kernel may have no room to watch another socket: that connection fails, and
// no other.
func TestASocketThatIsNotWatched(t *testing.T) {
	for i, name := range []string{"the client's", "the upstream's"} {
		t.Run(name, func(t *testing.T) {
			f := newFast(t)
			c, client := plainPair(t)
			u, upstream := plainPair(t)
			over := make(chan error, 1)
			l := f.loop()
			p := f.take(l, client, upstream, new(Meter), nil, func(err error) { over <- err })
			if err := l.watch(p.ends[i].fd, unix.EPOLLIN); err != nil { // which it can be once
				t.Fatal(err)
			}
			l.post(p)
			if err := <-over; !errors.Is(err, unix.EEXIST) {
				t.Errorf("relay: %v", err)
			}
			client.Reset()
			upstream.Reset()
			for _, far := range []net.Conn{c, u} {
				if _, err := far.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
					t.Errorf("a peer: %v", err)
				}
			}
		})
	}
}
