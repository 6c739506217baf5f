package relay

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tcpPair is the two ends of one TCP connection over loopback.
func tcpPair(t testing.TB) (a, b *net.TCPConn) {
	t.Helper()
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a, err = net.DialTCP("tcp", nil, ln.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	b, err = ln.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

type peer interface {
	net.Conn
	CloseWrite() error
}

// tlsPair is tcpPair under TLS; the far end is a, the relay's side is b.
func tlsPair(t testing.TB) (far peer, side *Side) {
	return tlsOver(t, &tls.Config{InsecureSkipVerify: true}, nil)
}

// tlsOver is tlsPair with a configuration of the client's, and a change of the
// server's.
func tlsOver(t testing.TB, config *tls.Config, change func(*tls.Config)) (far peer, side *Side) {
	a, b := tcpPair(t)
	client := tls.Client(a, config)
	own := &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}, SessionTicketsDisabled: true}
	if change != nil {
		change(own)
	}
	sock := NewSocket(b, nil)
	server := tls.Server(sock, sock.ForServer(own))
	handshake(t, client, server)
	return client, TLS(server, sock, true)
}

func plainPair(t testing.TB) (far peer, side *Side) {
	a, b := tcpPair(t)
	return a, TCP(b, nil)
}

func selfSigned(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// starter relays between two sides and returns the channel of the relay's
// result; like a proxy it closes or resets both sides afterwards.
type starter func(client, upstream *Side, m *Meter, o Observer) <-chan error

func startWith(r Relayer) starter {
	return func(client, upstream *Side, m *Meter, o Observer) <-chan error {
		over := make(chan error, 1)
		r.Start(client, upstream, m, o, func(err error) {
			if err != nil {
				client.Reset()
				upstream.Reset()
			} else {
				client.Close()
				upstream.Close()
			}
			over <- err
		})
		return over
	}
}

// withBoth runs a test with either relay.
func withBoth(t *testing.T, test func(*testing.T, starter)) {
	t.Run("portable", func(t *testing.T) { test(t, startWith(Portable{})) })
	t.Run("fast", func(t *testing.T) { test(t, startWith(newFast(t))) })
}

// newFast is a Fast that is empty when the test ends.
func newFast(t testing.TB) *Fast {
	f := new(Fast)
	t.Cleanup(func() {
		for _, l := range f.loops {
			if n := l.load.Load(); n != 0 {
				t.Errorf("%d connections are left in a loop", n)
			}
		}
		f.Close()
	})
	return f
}

var kinds = []struct {
	name             string
	client, upstream func(testing.TB) (peer, *Side)
}{
	{"plain-plain", plainPair, plainPair},
	{"plain-tls", plainPair, tlsPair},
	{"tls-plain", tlsPair, plainPair},
	{"tls-tls", tlsPair, tlsPair},
}

func TestHalfCloseBothWays(t *testing.T) { withBoth(t, testHalfCloseBothWays) }

func testHalfCloseBothWays(t *testing.T, start starter) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			c, client := k.client(t)
			u, upstream := k.upstream(t)
			var m Meter
			done := start(client, upstream, &m, nil)

			write(t, c, "question")
			closeWrite(t, c)
			if got := readAll(t, u); got != "question" {
				t.Errorf("upstream got %q", got)
			}
			// The client has closed its half; the answer must still arrive.
			write(t, u, "answer")
			closeWrite(t, u)
			if got := readAll(t, c); got != "answer" {
				t.Errorf("client got %q", got)
			}
			if err := <-done; err != nil {
				t.Errorf("relay: %v", err)
			}
			if m.Received.Load() != 8 || m.Sent.Load() != 6 || m.LastSeen().IsZero() {
				t.Errorf("meter: received %d sent %d last seen %v", m.Received.Load(), m.Sent.Load(), m.LastSeen())
			}
		})
	}
}

func TestLargeBothWaysAtOnce(t *testing.T) { withBoth(t, testLargeBothWaysAtOnce) }

func testLargeBothWaysAtOnce(t *testing.T, start starter) {
	const size = 64 << 20
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			c, client := k.client(t)
			u, upstream := k.upstream(t)
			var m Meter
			done := start(client, upstream, &m, nil)
			var wg sync.WaitGroup
			for _, p := range []peer{c, u} {
				wg.Go(func() {
					if _, err := io.CopyBuffer(struct{ io.Writer }{p}, io.LimitReader(zeros{}, size), make([]byte, 64<<10)); err != nil {
						t.Error(err)
					}
					p.CloseWrite()
				})
				wg.Go(func() {
					n, err := io.Copy(io.Discard, p)
					if n != size || err != nil {
						t.Errorf("received %d bytes: %v", n, err)
					}
				})
			}
			wg.Wait()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestResetTravels(t *testing.T) { withBoth(t, testResetTravels) }

func testResetTravels(t *testing.T, start starter) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			c, client := k.client(t)
			u, upstream := k.upstream(t)
			done := start(client, upstream, new(Meter), nil)
			write(t, c, "x")
			if _, err := io.ReadFull(u, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			Reset(rawOf(u))
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("client read: %v, want a reset", err)
			}
			var e *Error
			if err := <-done; !errors.As(err, &e) || !e.Upstream || e.Op != "read" {
				t.Errorf("relay: %v, want a read error of upstream", err)
			}
		})
	}
}

func TestTruncatedTLSIsNotAnEnd(t *testing.T) { withBoth(t, testTruncatedTLSIsNotAnEnd) }

func testTruncatedTLSIsNotAnEnd(t *testing.T, start starter) {
	c, client := plainPair(t)
	u, upstream := tlsPair(t)
	done := start(client, upstream, new(Meter), nil)
	rawOf(u).CloseWrite() // FIN without close_notify: somebody may have cut the answer short
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("client read: %v, want a reset", err)
	}
	if err := <-done; !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("relay: %v, want an unexpected EOF", err)
	}
}

func TestCutFromOutside(t *testing.T) { withBoth(t, testCutFromOutside) }

func testCutFromOutside(t *testing.T, start starter) {
	c, client := plainPair(t)
	u, upstream := tlsPair(t)
	done := start(client, upstream, new(Meter), nil)
	write(t, c, "x")
	if _, err := io.ReadFull(u, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	client.Reset()
	if err := <-done; err == nil {
		t.Error("relay ended in order")
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("client read: %v, want a reset", err)
	}
}

// The kernel tells of a reset once. If a write heard of it, the read after it
// sees an end, which is none.
func TestResetThatAWriteHeardOf(t *testing.T) {
	a, b := tcpPair(t)
	side := TCP(b, nil)
	Reset(a)
	if _, err := Peek(b); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("peek: %v", err) // heard here
	}
	if n, err := b.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Fatalf("read %d, %v: this kernel tells twice", n, err)
	}
	if !side.wasReset() {
		t.Error("a reset is taken for an end")
	}
	a, b = tcpPair(t)
	side = TCP(b, nil)
	closeWrite(t, a)
	if _, err := Peek(b); err != io.EOF || side.wasReset() {
		t.Errorf("an end, %v, is taken for a reset", err)
	}
	if err := side.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if a.Read(make([]byte, 1)); side.wasReset() {
		t.Error("an end of both halves is taken for a reset")
	}
}

// ender finds an upstream's end wrong.
type ender struct{ recording }

func (*ender) UpstreamEnded() error { return errors.New("ended too early") }

func TestEndThatIsNone(t *testing.T) { withBoth(t, testEndThatIsNone) }

func testEndThatIsNone(t *testing.T, start starter) {
	c, client := plainPair(t)
	u, upstream := tlsPair(t)
	done := start(client, upstream, new(Meter), &ender{})
	closeWrite(t, u)
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("client read: %v, want a reset", err)
	}
	if err := <-done; err == nil || err.Error() != "read upstream: ended too early" {
		t.Errorf("relay: %v", err)
	}
}

// recording keeps copies; the relay's own slices are gone after the call.
type recording struct {
	mu         sync.Mutex
	client, up bytes.Buffer
}

func (r *recording) FromClient(p []byte) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.client.Write(p)
	return nil
}

func (r *recording) FromUpstream(p []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.up.Write(p)
}

func (r *recording) Finished() bool { return false }

func TestHeadComesFirstAndIsObserved(t *testing.T) { withBoth(t, testHeadComesFirstAndIsObserved) }

func testHeadComesFirstAndIsObserved(t *testing.T, start starter) {
	c, cs := tcpPair(t)
	u, us := tcpPair(t)
	var o recording
	done := start(TCP(cs, []byte("he")), TCP(us, []byte("20")), new(Meter), &o)
	write(t, c, "llo")
	closeWrite(t, c)
	if got := readAll(t, u); got != "hello" {
		t.Errorf("upstream got %q", got)
	}
	write(t, u, "0 OK")
	closeWrite(t, u)
	if got := readAll(t, c); got != "200 OK" {
		t.Errorf("client got %q", got)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if o.client.String() != "hello" || o.up.String() != "200 OK" {
		t.Errorf("observed %q and %q", o.client.String(), o.up.String())
	}
}

// Messages around the size of the small buffer, one at a time, so that a byte
// held back by the relay would hang the test.
func TestPiecesOfEverySizeArriveAtOnce(t *testing.T) { withBoth(t, testPiecesOfEverySizeArriveAtOnce) }

func testPiecesOfEverySizeArriveAtOnce(t *testing.T, start starter) {
	c, client := tlsPair(t)
	u, upstream := plainPair(t)
	done := start(client, upstream, new(Meter), nil)
	for _, n := range []int{1, 2047, 2048, 2049, 4096, 16384, 1, 16385, 40000, 3} {
		msg := bytes.Repeat([]byte{byte(n)}, n)
		write(t, c, string(msg))
		got := make([]byte, n)
		u.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := io.ReadFull(u, got); err != nil || !bytes.Equal(got, msg) {
			t.Fatalf("message of %d bytes: %v", n, err)
		}
	}
	closeWrite(t, c)
	closeWrite(t, u)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Urgent data holds nothing up. It is out of band, and stays so: it does not travel.
func TestUrgentData(t *testing.T) { withBoth(t, testUrgentData) }

func testUrgentData(t *testing.T, start starter) {
	c, client := plainPair(t)
	u, upstream := plainPair(t)
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	done := start(client, upstream, new(Meter), nil)
	for range 3 {
		err2 := raw.Control(func(fd uintptr) { err = unix.Sendto(int(fd), []byte("a!"), unix.MSG_OOB, nil) })
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		write(t, c, "b")
		got := make([]byte, 2)
		u.SetReadDeadline(time.Now().Add(time.Minute))
		if n, err := io.ReadFull(u, got); string(got) != "ab" {
			t.Errorf("%q, %v", got[:n], err)
		}
	}
	closeWrite(t, c)
	closeWrite(t, u)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestSlowReaderBoundsMemory(t *testing.T) { withBoth(t, testSlowReaderBoundsMemory) }

func testSlowReaderBoundsMemory(t *testing.T, start starter) {
	c, client := plainPair(t)
	u, upstream := tlsPair(t)
	var m Meter
	done := start(client, upstream, &m, nil)
	// Nobody reads from u: the writer must stall after the kernel's buffers.
	c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	sent, err := io.Copy(struct{ io.Writer }{c}, zeros{})
	var ne net.Error
	if !errors.As(err, &ne) || !ne.Timeout() {
		t.Fatalf("wrote %d bytes: %v, want a stall", sent, err)
	}
	if sent > 64<<20 {
		t.Errorf("%d MiB disappeared into the relay", sent>>20)
	}
	rawOf(u).Close()
	c.Close()
	<-done
}

// close_notify waits behind what a slow reader has not taken yet, for longer
// than crypto/tls alone would try to send it.
func TestEndWaitsBehindASlowReader(t *testing.T) {
	if testing.Short() {
		t.Skip("takes six seconds")
	}
	t.Parallel()
	c, client := tlsPair(t)
	// What fills the way is not TLS: only its size matters here.
	// Pieces get smaller, since the kernel takes a piece whole once it has room
	// for a part.
	for _, size := range []int{64 << 10, 1 << 10, 1, 1, 1} {
		for err := error(nil); err == nil; {
			client.tcp.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
			_, err = client.tcp.Write(make([]byte, size))
		}
	}
	client.tcp.SetWriteDeadline(time.Time{})
	closed := make(chan error, 1)
	go func() { closed <- client.CloseWrite() }()
	select {
	case err := <-closed:
		t.Fatalf("gave up: %v", err)
	case <-time.After(6 * time.Second):
	}
	go io.Copy(io.Discard, rawOf(c))
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

func TestIdlePlainSidesHoldNoBuffer(t *testing.T) {
	const pairs = 200
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var done []<-chan error
	var clients, ups []peer
	for range pairs {
		c, client := plainPair(t)
		u, upstream := plainPair(t)
		clients, ups = append(clients, c), append(ups, u)
		done = append(done, startWith(Portable{})(client, upstream, new(Meter), nil))
		write(t, c, "hello")
		if _, err := io.ReadFull(u, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	runtime.GC() // a pool keeps its victims for one cycle
	runtime.ReadMemStats(&after)
	if held := int64(after.HeapAlloc) - int64(before.HeapAlloc); held > pairs*bufferSize/4 {
		t.Errorf("%d silent connections hold %d KiB of heap each", pairs, held/pairs>>10)
	}
	for i := range clients {
		clients[i].Close()
		ups[i].Close()
		<-done[i]
	}
}

func TestPeekDoesNotConsume(t *testing.T) {
	a, b := tcpPair(t)
	write(t, a, "xyz")
	if got, err := Peek(b); got != 'x' || err != nil {
		t.Fatalf("peek: %q, %v", got, err)
	}
	got := make([]byte, 3)
	if _, err := io.ReadFull(b, got); err != nil || string(got) != "xyz" {
		t.Errorf("read %q, %v", got, err)
	}
	a.CloseWrite()
	if _, err := Peek(b); err != io.EOF {
		t.Errorf("peek at the end: %v", err)
	}
	b.SetReadDeadline(time.Unix(1, 0))
	var ne net.Error
	if _, err := Peek(b); !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("peek after the deadline: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func rawOf(p peer) *net.TCPConn {
	if t, ok := p.(*tls.Conn); ok {
		return t.NetConn().(*net.TCPConn)
	}
	if s, ok := p.(*stranger); ok {
		return s.TCPConn
	}
	return p.(*net.TCPConn)
}

func write(t testing.TB, c net.Conn, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
}

func closeWrite(t testing.TB, c peer) {
	t.Helper()
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
}

func readAll(t testing.TB, c net.Conn) string {
	t.Helper()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
