package relay

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hasp/proxy/relay/record"
)

// stranger is the far end of a TLS side that writes its records by hand.
type stranger struct {
	*sealed
	rand *rand.Rand // of what it does besides; nil for nothing
	// humble asks for no key update in return: crypto/tls loses its keys by one
	// that comes after its own close_notify.
	humble bool
}

// strangerPair is tlsPair with a stranger.
func strangerPair(t testing.TB) (*stranger, *Side) {
	a, b := tcpPair(t)
	far, near := NewSocket(a, nil), NewSocket(b, nil)
	client := tls.Client(far, far.ForClient(&tls.Config{InsecureSkipVerify: true}))
	server := tls.Server(near, near.ForServer(&tls.Config{Certificates: []tls.Certificate{selfSigned(t)}, SessionTicketsDisabled: true}))
	handshake(t, client, server)
	in, out, err := far.secrets.Keys(client.ConnectionState().CipherSuite, true)
	if err != nil {
		t.Fatal(err)
	}
	return &stranger{sealed: newSealed(a, &left{in: in, out: out})}, TLS(server, near, true)
}

// CloseWrite implements peer.
func (s *stranger) CloseWrite() error {
	return errors.Join(s.sealed.CloseWrite(), s.TCPConn.CloseWrite())
}

// Write sends p in records of any size, between empty ones and key updates, in
// pieces of any size.
func (s *stranger) Write(p []byte) (int, error) {
	if s.rand == nil {
		return s.sealed.Write(p)
	}
	s.mu.Lock() // reading answers key updates
	defer s.mu.Unlock()
	for left := p; len(left) > 0; {
		n := min(len(left), 1+s.rand.IntN(1<<s.rand.IntN(15)))
		var b []byte
		switch s.rand.IntN(16) {
		case 0:
			b = s.record(nil, record.TypeApplicationData)
		case 1:
			b = s.keyUpdate(!s.humble && s.rand.IntN(2) == 0)
		}
		b = append(b, s.record(left[:n], record.TypeApplicationData)...)
		left = left[n:]
		for len(b) > 0 {
			k := len(b)
			if s.rand.IntN(4) == 0 {
				k = 1 + s.rand.IntN(k)
			}
			if _, err := s.TCPConn.Write(b[:k]); err != nil {
				return 0, err
			}
			b = b[k:]
		}
	}
	return len(p), nil
}

func (s *stranger) record(p []byte, typ byte) []byte {
	b := make([]byte, len(p)+record.Overhead)
	copy(b[record.HeaderLen:], p)
	n, err := s.out.Seal(b, len(p), typ)
	if err != nil {
		panic(err)
	}
	return b[:n]
}

func (s *stranger) keyUpdate(request bool) []byte {
	b := make([]byte, record.UpdateSize)
	n, err := s.out.Update(b, request)
	if err != nil {
		panic(err)
	}
	return b[:n]
}

// send writes bytes as they are.
func (s *stranger) send(t *testing.T, b ...[]byte) {
	t.Helper()
	if _, err := s.TCPConn.Write(bytes.Join(b, nil)); err != nil {
		t.Fatal(err)
	}
}

// What arrives is what was sent, both ways at once, however it is cut into
// records and packets, with key updates in between, past a reader that stops now
// and then.
func TestContent(t *testing.T) { withBoth(t, testContent) }

func testContent(t *testing.T, start starter) {
	strange := func(seed uint64) func(testing.TB) (peer, *Side) {
		return func(t testing.TB) (peer, *Side) {
			s, side := strangerPair(t)
			s.rand = rand.New(rand.NewPCG(seed, seed))
			s.humble = strings.Contains(t.Name(), "/portable/")
			return s, side
		}
	}
	for _, k := range []struct {
		name             string
		client, upstream func(testing.TB) (peer, *Side)
	}{
		{"plain-plain", plainPair, plainPair},
		{"plain-tls", plainPair, strange(1)},
		{"tls-plain", strange(2), plainPair},
		{"tls-tls", strange(3), strange(4)},
		{"tls-crypto/tls", strange(5), tlsPair},
		{"crypto/tls-plain", tlsPair, plainPair},
		{"plain-crypto/tls's server", plainPair, tlsClientPair},
	} {
		t.Run(k.name, func(t *testing.T) {
			c, client := k.client(t)
			u, upstream := k.upstream(t)
			var m Meter
			done := start(client, upstream, &m, nil)
			var wg sync.WaitGroup
			pass := func(from, to peer, seed byte, size int) {
				want, got := sha256.New(), sha256.New()
				wg.Go(func() {
					defer from.CloseWrite()
					r := rand.NewChaCha8([32]byte{seed})
					b := make([]byte, 100<<10)
					for left := size; left > 0; {
						n := min(left, 1+int(r.Uint64()%uint64(len(b))))
						r.Read(b[:n])
						want.Write(b[:n])
						if _, err := from.Write(b[:n]); err != nil {
							t.Errorf("write: %v", err)
							return
						}
						left -= n
					}
				})
				wg.Go(func() {
					n, b := 0, make([]byte, 64<<10)
					for turn := 0; ; turn++ {
						k, err := to.Read(b)
						got.Write(b[:k])
						n += k
						if err == io.EOF {
							break
						}
						if err != nil {
							t.Errorf("read: %v", err)
							return
						}
						if turn%64 == 63 {
							time.Sleep(2 * time.Millisecond) // a pace, not a wait
						}
					}
					if n != size {
						t.Errorf("%d of %d bytes arrived", n, size)
					}
				})
				t.Cleanup(func() {
					if !bytes.Equal(want.Sum(nil), got.Sum(nil)) {
						t.Error("what arrived is not what was sent")
					}
				})
			}
			const up, down = 5 << 20, 7<<20 + 12345
			pass(c, u, 1, up)
			pass(u, c, 2, down)
			wg.Wait()
			if err := <-done; err != nil {
				t.Error(err)
			}
			if m.Received.Load() != up || m.Sent.Load() != down {
				t.Errorf("counted %d and %d", m.Received.Load(), m.Sent.Load())
			}
		})
	}
}

// A record that somebody changed on the way ends the connection; the peer is
// told, and not a byte of it or after it passes.
func TestTampered(t *testing.T) { withBoth(t, testTampered) }

func testTampered(t *testing.T, start starter) {
	c, client := plainPair(t)
	u, upstream := strangerPair(t)
	done := start(client, upstream, new(Meter), nil)
	bad := u.record([]byte("forged"), record.TypeApplicationData)
	bad[len(bad)-1] ^= 1
	u.send(t, u.record([]byte("good"), record.TypeApplicationData), bad, u.record([]byte("after"), record.TypeApplicationData))
	got, err := io.ReadAll(c)
	if !errors.Is(err, syscall.ECONNRESET) || !strings.HasPrefix("good", string(got)) {
		t.Errorf("client got %q, %v", got, err)
	}
	if _, err := u.Read(make([]byte, 1)); err == nil || err.Error() != "remote error: tls: bad record MAC" {
		t.Errorf("the peer was told %v", err)
	}
	var e *Error
	if err := <-done; !errors.As(err, &e) || !e.Upstream || e.Op != "read" || err.Error() != "read upstream: local error: tls: bad record MAC" {
		t.Errorf("relay: %v", err)
	}
}

// What a peer may not send, and what becomes of the connection.
func TestStrange(t *testing.T) { withBoth(t, testStrange) }

func testStrange(t *testing.T, start starter) {
	for _, tc := range []struct {
		name string
		send func(*stranger) []byte
		want string
	}{
		{"fatal alert", func(s *stranger) []byte { return s.record([]byte{2, 42}, record.TypeAlert) }, "remote error: tls: bad certificate"},
		{"plaintext alert", func(*stranger) []byte { return []byte{21, 3, 3, 0, 2, 2, 42} }, ""},
		{"HTTP", func(*stranger) []byte { return []byte("GET / HTTP/1.1\r\n\r\n") }, ""},
		{"too long", func(*stranger) []byte { return []byte{23, 3, 3, 0x41, 0x01} }, ""},
		{"a ClientHello", func(s *stranger) []byte { return s.record([]byte{1, 0, 0, 0}, record.TypeHandshake) }, ""},
		{"no content", func(s *stranger) []byte { return s.record(nil, record.TypeHandshake) }, ""},
		{"nonsense in a key update", func(s *stranger) []byte { return s.record([]byte{24, 0, 0, 1, 7}, record.TypeHandshake) }, ""},
		{"half a record", func(s *stranger) []byte {
			b := s.record([]byte("hello"), record.TypeApplicationData)
			return b[:len(b)-3]
		}, "unexpected EOF"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, client := plainPair(t)
			u, upstream := strangerPair(t)
			done := start(client, upstream, new(Meter), nil)
			u.send(t, tc.send(u))
			u.TCPConn.CloseWrite()
			if got, err := io.ReadAll(c); len(got) > 0 || !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("client got %q, %v, want a reset", got, err)
			}
			var e *Error
			err := <-done
			if !errors.As(err, &e) || !e.Upstream || e.Op != "read" || tc.want != "" && e.Err.Error() != tc.want {
				t.Errorf("relay: %v", err)
			}
		})
	}
}

// After a relay that failed the client can still be spoken to.
func TestClientIsLeft(t *testing.T) {
	for _, kind := range []struct {
		name string
		pair func(testing.TB) (peer, *Side)
	}{
		{"plain", plainPair},
		{"tls", tlsPair},
	} {
		t.Run(kind.name, func(t *testing.T) {
			for _, again := range []bool{false, true} {
				f := newFast(t)
				c, client := kind.pair(t)
				u, upstream := plainPair(t)
				var m Meter
				over := make(chan error, 1)
				f.Start(client, upstream, &m, nil, func(err error) { over <- err })
				write(t, c, "question")
				if _, err := io.ReadFull(u, make([]byte, 8)); err != nil {
					t.Fatal(err)
				}
				Reset(u.(*net.TCPConn))
				if err := <-over; !errors.Is(err, syscall.ECONNRESET) {
					t.Fatalf("relay: %v", err)
				}
				upstream.Reset()
				if again {
					u, upstream := plainPair(t)
					f.Start(client.Again([]byte("question")), upstream, &m, nil, func(err error) { over <- err })
					write(t, c, "!")
					closeWrite(t, c)
					if got := readAll(t, u); got != "question!" {
						t.Errorf("the second got %q", got)
					}
					write(t, u, "answer")
					closeWrite(t, u)
					if got := readAll(t, c); got != "answer" {
						t.Errorf("client got %q", got)
					}
					if err := <-over; err != nil {
						t.Errorf("relay: %v", err)
					}
					continue
				}
				if err := client.SetDeadline(time.Now().Add(time.Minute)); err != nil {
					t.Fatal(err)
				}
				write(t, c, "more")
				if got := make([]byte, 4); true {
					if _, err := io.ReadFull(client, got); err != nil || string(got) != "more" {
						t.Errorf("read %q, %v", got, err)
					}
				}
				fmt.Fprint(client, "503")
				if err := client.CloseWrite(); err != nil {
					t.Error(err)
				}
				if got := readAll(t, c); got != "503" {
					t.Errorf("client got %q", got)
				}
				client.Close()
			}
		})
	}
}

// counting observes how many bytes came from upstream.
type counting struct{ atomic.Uint64 }

func (c *counting) FromClient([]byte) <-chan struct{} { return nil }
func (c *counting) FromUpstream(p []byte)             { c.Add(uint64(len(p))) }
func (c *counting) Finished() bool                    { return false }

// A side that has not taken all that was for it can be told nothing more, and never
// sees an end in order.
func TestLeftInTheMiddle(t *testing.T) {
	f := newFast(t)
	f.doze = time.Millisecond
	c, client := plainPair(t)
	u, upstream := plainPair(t)
	var m Meter
	var came counting
	over := make(chan error, 1)
	f.Start(client, upstream, &m, &came, func(err error) { over <- err })
	for came.Load() == m.Sent.Load() { // until the loop has nothing to do, and some is unsent
		u.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := io.Copy(struct{ io.Writer }{u}, zeros{}); err == nil {
			t.Fatal("nothing stalls")
		}
		client.mu.Lock()
		l := client.loop.loop
		client.mu.Unlock()
		for l.dozer.pairs.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	Reset(u.(*net.TCPConn))
	write(t, c, "x") // of which the loop hears it
	var broke *Error
	if err := <-over; !errors.As(err, &broke) || !broke.Upstream {
		t.Fatalf("relay: %v", err)
	}
	upstream.Reset()
	if n, err := client.Write([]byte("503")); err != errMiddle {
		t.Errorf("wrote %d bytes, %v", n, err)
	}
	u, upstream = plainPair(t)
	f.Start(client, upstream, &m, nil, func(err error) { over <- err })
	if err := <-over; !errors.Is(err, errMiddle) {
		t.Errorf("another relay: %v", err)
	}
	upstream.Reset()
	u.Close()
	if n, err := io.CopyN(io.Discard, c, int64(m.Sent.Load())); err != nil || n == 0 {
		t.Errorf("%d bytes came of %d that were sent, %v", n, m.Sent.Load(), err)
	}
	client.Close()
	if n, err := io.Copy(io.Discard, c); n != 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("then %d bytes, %v", n, err)
	}
}

// holder holds the client's bytes for as long as a test likes.
type holder struct {
	recording
	gate chan struct{}
}

func (h *holder) FromClient(p []byte) <-chan struct{} {
	h.mu.Lock()
	gate := h.gate
	h.mu.Unlock()
	if gate != nil {
		return gate
	}
	return h.recording.FromClient(p)
}

func (h *holder) open() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.gate)
	h.gate = nil
}

func TestHold(t *testing.T) { withBoth(t, testHold) }

func testHold(t *testing.T, start starter) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			c, client := k.client(t)
			u, upstream := k.upstream(t)
			o := &holder{gate: make(chan struct{})}
			done := start(client, upstream, new(Meter), o)
			want := strings.Repeat("question", 20<<10)
			sent := make(chan error, 1)
			go func() {
				_, err := io.WriteString(c, want)
				sent <- errors.Join(err, c.CloseWrite())
			}()
			// The other direction is not held.
			write(t, u, "answer")
			got := make([]byte, 6)
			if _, err := io.ReadFull(c, got); err != nil || string(got) != "answer" {
				t.Fatalf("client got %q, %v", got, err)
			}
			u.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			var ne net.Error
			if n, err := u.Read(make([]byte, 1)); n > 0 || !errors.As(err, &ne) || !ne.Timeout() {
				t.Fatalf("%d bytes passed: %v", n, err)
			}
			if _, ok := u.(*tls.Conn); ok {
				o.open() // crypto/tls does not read on after a deadline
				rawOf(u).Close()
				c.Close()
				<-done
				<-sent
				return
			}
			u.SetReadDeadline(time.Time{})
			o.open()
			if got := readAll(t, u); got != want {
				t.Errorf("%d bytes passed, want %d", len(got), len(want))
			}
			closeWrite(t, u)
			if err := errors.Join(<-sent, <-done); err != nil {
				t.Error(err)
			}
			if o.client.String() != want {
				t.Error("the observer saw something else")
			}
		})
	}
}

// A connection that is cut while it is held, or while one or the other does not
// read, ends at once.
func TestCutWhileBlocked(t *testing.T) {
	for _, side := range []string{"client", "upstream"} {
		for _, k := range kinds {
			for _, held := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s %s held %v", k.name, side, held), func(t *testing.T) {
					c, client := k.client(t)
					u, upstream := k.upstream(t)
					var o Observer
					if held {
						o = &holder{gate: make(chan struct{})}
					}
					done := startWith(newFast(t))(client, upstream, new(Meter), o)
					from := map[string]peer{"client": u, "upstream": c}[side]
					from.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
					if _, err := io.Copy(struct{ io.Writer }{from}, zeros{}); err == nil {
						t.Fatal("nothing stalls")
					}
					map[string]*Side{"client": client, "upstream": upstream}[side].Reset()
					if err := <-done; !errors.Is(err, net.ErrClosed) {
						t.Errorf("relay: %v", err)
					}
				})
			}
		}
	}
}

// Ends from outside at any moment, by many at once: done is called once, and no
// descriptor is used that is another's by then.
func TestEndsFromEverywhere(t *testing.T) {
	f := newFast(t)
	var wg sync.WaitGroup
	for i := range 300 {
		k := kinds[i%len(kinds)]
		if i%10 != 0 {
			k = kinds[0] // handshakes take their time
		}
		c, client := k.client(t)
		u, upstream := k.upstream(t)
		done := make(chan error, 2)
		wg.Go(func() {
			f.Start(client, upstream, new(Meter), nil, func(err error) { done <- err })
		})
		wg.Go(func() { c.Write([]byte("x")); rawOf(c).Close() })
		wg.Go(func() { u.Write([]byte("y")) })
		wg.Go(func() { client.Reset(); upstream.Close() })
		wg.Go(func() { upstream.Reset(); client.Reset() })
		wg.Go(func() {
			<-done
			client.Reset()
			upstream.Reset()
		})
		t.Cleanup(func() {
			if len(done) > 0 {
				t.Error("done was called twice")
			}
		})
	}
	wg.Wait()
}

// Close ends what is left, and what is started then is Portable's.
func TestClose(t *testing.T) {
	f := new(Fast)
	c, client := plainPair(t)
	_, upstream := tlsPair(t)
	done := startWith(f)(client, upstream, new(Meter), nil)
	f.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("relay: %v", err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("client: %v", err)
	}
	c, client = plainPair(t)
	u, upstream := plainPair(t)
	done = startWith(f)(client, upstream, new(Meter), nil)
	write(t, c, "x")
	if _, err := io.ReadFull(u, make([]byte, 1)); err != nil {
		t.Error(err)
	}
	c.Close()
	closeWrite(t, u)
	<-done
	f.Close()
}

func TestIdlePairsHoldLittle(t *testing.T) {
	const pairs = 200
	f := newFast(t)
	var before, after runtime.MemStats
	type kept struct {
		c, u peer
		done <-chan error
	}
	all := make([]kept, pairs)
	// The far ends are the test's, and are there before, as is what the handshake
	// leaves behind.
	sides := make([][2]*Side, pairs)
	var theirs []net.Conn
	for i := range all {
		all[i].c, sides[i][0] = plainPair(t)
		all[i].u, sides[i][1] = strangerPair(t)
		theirs = append(theirs, sides[i][1].conn)
	}
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range all {
		k := &all[i]
		k.done = startWith(f)(sides[i][0], sides[i][1], new(Meter), nil)
		write(t, k.c, "hello")
		if _, err := io.ReadFull(k.u, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	runtime.GC() // a pool keeps its victims for one cycle
	runtime.ReadMemStats(&after)
	if held := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / pairs; held > 4<<10 {
		t.Errorf("%d silent connections hold %d bytes of heap each", pairs, held)
	}
	runtime.KeepAlive(theirs)
	for _, k := range all {
		k.c.Close()
		k.u.Close()
		<-k.done
	}
}

// A client that has ended its stream and then goes away altogether is missed,
// though nobody reads it any more and the server says nothing.
func TestResetAfterTheEnd(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			c, client := k.client(t)
			u, upstream := k.upstream(t)
			done := startWith(newFast(t))(client, upstream, new(Meter), nil)
			closeWrite(t, c)
			if got := readAll(t, u); got != "" {
				t.Errorf("upstream got %q", got)
			}
			Reset(rawOf(c))
			var e *Error
			if err := <-done; !errors.As(err, &e) || e.Upstream || !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("relay: %v", err)
			}
		})
	}
}

type panicking struct{ recording }

func (*panicking) FromUpstream([]byte) { panic("no such page") }

// One connection's bug is not the others' end.
func TestObserverPanics(t *testing.T) { withBoth(t, testObserverPanics) }

func testObserverPanics(t *testing.T, start starter) {
	c, client := plainPair(t)
	u, upstream := plainPair(t)
	done := start(client, upstream, new(Meter), &panicking{})
	c2, client2 := plainPair(t)
	u2, upstream2 := plainPair(t)
	done2 := start(client2, upstream2, new(Meter), nil)
	write(t, u, "x")
	if err := <-done; err == nil || !strings.HasPrefix(err.Error(), "read client: a bug: panic: no such page at stranger_test.go:") {
		t.Errorf("relay: %v", err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("client: %v", err)
	}
	write(t, u2, "y")
	closeWrite(t, u2)
	closeWrite(t, c2)
	if got := readAll(t, c2); got != "y" {
		t.Errorf("the other client got %q", got)
	}
	if err := <-done2; err != nil {
		t.Error(err)
	}
}

// However often a peer asks for new keys, they come once, before the next data.
func TestKeyUpdateIsAnswered(t *testing.T) {
	c, client := plainPair(t)
	u, upstream := strangerPair(t)
	done := startWith(newFast(t))(client, upstream, new(Meter), nil)
	u.send(t, u.keyUpdate(true), u.keyUpdate(true), u.record([]byte("x"), record.TypeApplicationData))
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	write(t, c, "y")
	for i, want := range []byte{record.TypeHandshake, record.TypeApplicationData} {
		rec, err := u.sealed.record()
		if err != nil {
			t.Fatal(err)
		}
		p, typ, err := u.in.Open(rec)
		if err != nil || typ != want {
			t.Fatalf("record %d has type %d, %v", i, typ, err)
		}
		if typ == record.TypeHandshake {
			if answer, err := u.in.Handshake(p); answer || err != nil {
				t.Fatalf("it asks back: %v, %v", answer, err)
			}
		} else if string(p) != "y" {
			t.Errorf("got %q", p)
		}
	}
	closeWrite(t, c)
	closeWrite(t, u)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Key updates by the hundred cost much, so the other pairs of a loop have their
// turn in between; and the data is there in the end.
func TestManyKeyUpdates(t *testing.T) {
	u, side := strangerPair(t)
	var b []byte
	for range 8 {
		for range 24 {
			b = append(b, u.keyUpdate(false)...)
		}
		b = append(b, u.record([]byte("x"), record.TypeApplicationData)...)
	}
	l, err := newLoop()
	if err != nil {
		t.Fatal(err)
	}
	app, upstream := plainPair(t)
	over := make(chan error, 1)
	p := newFast(t).take(l, side, upstream, new(Meter), nil, func(err error) { over <- err })
	f := &p.flows[0]
	f.src.raw = stash(b)
	for turns := 1; f.src.raw != nil; turns++ {
		before := len(*f.src.raw)
		f.pump()
		if l.again == nil && f.src.raw != nil {
			t.Fatal("forgotten")
		}
		left := 0
		if f.src.raw != nil {
			left = len(*f.src.raw)
		}
		if n := (before - left) / record.UpdateSize; n > flowRounds*(flowMessages+1) {
			t.Fatalf("turn %d: %d records at once", turns, n)
		}
	}
	p.fail(f.src, "read", io.EOF)
	<-over
	side.Reset()
	upstream.CloseWrite()
	if got := readAll(t, app); got != "xxxxxxxx" {
		t.Errorf("got %q", got)
	}
	upstream.Close()
	l.end()
}

// Nothing passes any more once a side was reset, though the loop has yet to hear
// of it: a policy has forbidden the connection.
func TestNothingPassesAfterAReset(t *testing.T) {
	l, err := newLoop()
	if err != nil {
		t.Fatal(err)
	}
	c, client := plainPair(t)
	u, upstream := plainPair(t)
	over := make(chan error, 1)
	p := newFast(t).take(l, client, upstream, new(Meter), nil, func(err error) { over <- err })
	p.attend()
	write(t, c, "too late")
	upstream.Reset()
	client.Reset()
	p.ends[0].ready(unix.EPOLLIN)
	p.attend()
	<-over
	if n, err := u.Read(make([]byte, 1)); n > 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%d bytes passed, %v", n, err)
	}
	l.end()
}
