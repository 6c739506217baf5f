package relay

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"hasp/proxy/relay/record"
)

// trunkPair is a TLS connection both ends of which are sides that a stream may
// end on without it.
func trunkPair(t testing.TB) (client, server *Side) {
	t.Helper()
	a, b := tcpPair(t)
	cs, ss := NewSocket(a, nil), NewSocket(b, nil)
	c := tls.Client(cs, cs.ForClient(&tls.Config{InsecureSkipVerify: true}))
	s := tls.Server(ss, ss.ForServer(&tls.Config{Certificates: []tls.Certificate{selfSigned(t)}, SessionTicketsDisabled: true}))
	done := make(chan error, 1)
	go func() { done <- s.Handshake() }()
	if err := errors.Join(c.Handshake(), <-done); err != nil {
		t.Fatal(err)
	}
	client, server = TLS(c, cs, true), TLS(s, ss, true)
	client.InBand()
	server.InBand()
	return client, server
}

type said struct {
	p   []byte
	err error
}

func next(s *Side) <-chan said {
	ch := make(chan said, 1)
	s.Next(func(p []byte, err error) { ch <- said{p, err} })
	return ch
}

func TestManyStreamsOnOneConnection(t *testing.T) {
	var f Fast
	defer f.Close()
	client, server := trunkPair(t)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 50 {
		ours, app := tcpPair(t)
		theirs, workload := tcpPair(t)
		ends := make(chan error, 2)
		f.Start(TCP(app, nil), client, new(Meter), nil, func(err error) { ends <- err })
		f.Start(server, TCP(workload, nil), new(Meter), nil, func(err error) { ends <- err })
		question, answer := bytes.Repeat([]byte{byte(i)}, random.IntN(1<<random.IntN(18))), bytes.Repeat([]byte{1}, random.IntN(1<<random.IntN(18)))
		go func() {
			ours.Write(question)
			ours.CloseWrite()
		}()
		if got, err := io.ReadAll(theirs); err != nil || !bytes.Equal(got, question) {
			t.Fatalf("stream %d: the workload got %d bytes of %d, %v", i, len(got), len(question), err)
		}
		go func() {
			theirs.Write(answer)
			theirs.CloseWrite()
		}()
		if got, err := io.ReadAll(ours); err != nil || !bytes.Equal(got, answer) {
			t.Fatalf("stream %d: the client got %d bytes of %d, %v", i, len(got), len(answer), err)
		}
		if err := errors.Join(<-ends, <-ends); err != nil || !client.Kept() || !server.Kept() {
			t.Fatalf("stream %d: %v, kept %v and %v", i, err, client.Kept(), server.Kept())
		}
		hears, welcome := next(server), next(client)
		if err := client.Send([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if got := <-hears; string(got.p) != "hello" || got.err != nil {
			t.Fatalf("stream %d: hello %q, %v", i, got.p, got.err)
		}
		if err := server.Send([]byte("welcome")); err != nil {
			t.Fatal(err)
		}
		if got := <-welcome; string(got.p) != "welcome" || got.err != nil {
			t.Fatalf("stream %d: welcome %q, %v", i, got.p, got.err)
		}
	}
	client.Close()
	if got := <-next(server); got.err != io.EOF {
		t.Errorf("after the end: %q, %v", got.p, got.err)
	}
	server.Close()
}

// rested is a client's and a server's side after a stream.
func rested(t testing.TB, f *Fast) (client, server *Side) {
	t.Helper()
	client, server = trunkPair(t)
	ours, app := tcpPair(t)
	theirs, workload := tcpPair(t)
	ends := make(chan error, 2)
	f.Start(TCP(app, nil), client, new(Meter), nil, func(err error) { ends <- err })
	f.Start(server, TCP(workload, nil), new(Meter), nil, func(err error) { ends <- err })
	ours.CloseWrite()
	theirs.CloseWrite()
	if err := errors.Join(<-ends, <-ends); err != nil {
		t.Fatal(err)
	}
	return client, server
}

func TestASideAtRest(t *testing.T) {
	for name, tt := range map[string]struct {
		do   func(f *Fast, client, server *Side)
		want string
	}{
		"the peer resets":       {func(_ *Fast, client, _ *Side) { client.Reset() }, "read: connection reset by peer"},
		"the peer goes":         {func(_ *Fast, client, _ *Side) { client.Close() }, "EOF"},
		"the loops end":         {func(f *Fast, _, _ *Side) { f.Close() }, net.ErrClosed.Error()},
		"too much at once":      {func(_ *Fast, client, _ *Side) { client.left.write(tooBig(client)) }, errBetween.Error()},
		"nothing in the record": {func(_ *Fast, client, _ *Side) { client.Send(nil) }, errBetween.Error()},
		"no record":             {func(_ *Fast, client, _ *Side) { client.left.write([]byte("GET / HTTP/1.1\r\n\r\n")) }, record.UnexpectedMessage.Error()},
		"a changed record": {func(_ *Fast, client, _ *Side) {
			b := tooBig(client)[:64]
			b[3], b[4] = 0, 59
			client.left.write(b)
		}, record.BadRecordMAC.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			var f Fast
			defer f.Close()
			client, server := rested(t, &f)
			hears := next(server)
			tt.do(&f, client, server)
			if got := <-hears; got.err == nil || got.err.Error() != tt.want {
				t.Errorf("%q, %v, want %s", got.p, got.err, tt.want)
			}
			client.Close()
			server.Close()
			if err := server.Send([]byte("x")); err == nil {
				t.Error("a closed side sends")
			}
		})
	}
}

// More than is read at a time is heard without anything else happening.
func TestMuchAtOnceToASideAtRest(t *testing.T) {
	f := Fast{doze: time.Hour}
	defer f.Close()
	client, server := rested(t, &f)
	hears := next(server)
	s := &stranger{sealed: &sealed{out: client.left.out}}
	var b []byte
	for range 30 { // 32 may come in a row
		b = append(b, s.keyUpdate(false)...)
	}
	if err := client.left.write(append(b, s.record([]byte("hello"), record.TypeApplicationData)...)); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-hears:
		if string(got.p) != "hello" || got.err != nil {
			t.Errorf("hello %q, %v", got.p, got.err)
		}
	case <-time.After(time.Minute):
		t.Error("it is not heard")
	}
	client.Close()
	server.Close()
}

// tooBig is a sealed record that is too long for what is said between streams.
func tooBig(s *Side) []byte {
	b := make([]byte, 1000+record.Overhead)
	n, err := s.left.out.Seal(b, 1000, record.TypeApplicationData)
	if err != nil {
		panic(err)
	}
	return b[:n]
}

// What a stranger at the other end may send between two streams.
func FuzzBetween(f *testing.F) {
	f.Add([]byte("hello"), []byte{1})
	f.Add(bytes.Repeat([]byte{23, 3, 3, 0, 17}, 60), []byte{})
	f.Fuzz(func(t *testing.T, sealed, raw []byte) {
		if len(sealed) > record.MaxPlaintext {
			t.Skip()
		}
		in, out := keys(t, false).in, keys(t, true).out
		b := make([]byte, len(sealed)+record.Overhead)
		copy(b[record.HeaderLen:], sealed)
		n, err := out.Seal(b, len(sealed), record.TypeApplicationData)
		if err != nil {
			t.Fatal(err)
		}
		l := &left{fd: -1, in: in, out: out, raw: append(b[:n], raw...)}
		p, err := l.next()
		if ok := len(sealed) > 0 && len(sealed) <= maxBetween; ok != (err == nil && bytes.Equal(p, sealed)) {
			t.Errorf("%d bytes: got %d, %v", len(sealed), len(p), err)
		}
		for range 8 {
			if p, err := l.next(); err != nil || p == nil {
				break
			}
		}
	})
}

// How a stranger may end a stream, or not: what comes after the end is never of
// that stream.
func TestEndsOfAStream(t *testing.T) {
	data := func(s *stranger, p string) []byte { return s.record([]byte(p), record.TypeApplicationData) }
	bye := func(s *stranger) []byte { return s.record([]byte{1, 0}, record.TypeAlert) }
	for name, tt := range map[string]struct {
		send func(s *stranger) []byte // after "hi"
		fin  bool
		err  string // of the relay
		kept bool
		next []string // what is heard then, the last one is an error
	}{
		"the next one begins at once": {
			send: func(s *stranger) []byte {
				return bytes.Join([][]byte{data(s, ""), data(s, "hello"), data(s, "data")}, nil)
			},
			kept: true, next: []string{"hello", "data"},
		},
		"ended twice":        {send: func(s *stranger) []byte { return append(data(s, ""), data(s, "")...) }, kept: true, next: []string{errBetween.Error()}},
		"and gone":           {send: func(s *stranger) []byte { return data(s, "") }, fin: true, kept: true, next: []string{"EOF"}},
		"and a close_notify": {send: func(s *stranger) []byte { return append(data(s, ""), bye(s)...) }, fin: true, kept: true, next: []string{"EOF"}},
		"and canceled, or not": {
			send: func(s *stranger) []byte {
				return bytes.Join([][]byte{data(s, ""), s.record([]byte{1, 90}, record.TypeAlert), data(s, "hello")}, nil)
			},
			kept: true, next: []string{"hello"},
		},
		"and a long record":      {send: func(s *stranger) []byte { return append(data(s, ""), data(s, string(make([]byte, 300)))...) }, kept: true, next: []string{errBetween.Error()}},
		"and the half of a long": {send: func(s *stranger) []byte { return append(data(s, ""), data(s, string(make([]byte, 16000)))[:8000]...) }, kept: true, next: []string{errBetween.Error()}},
		"and a changed record":   {send: func(s *stranger) []byte { return append(data(s, ""), make([]byte, 30)...) }, kept: true, next: []string{record.UnexpectedMessage.Error()}},
		"by a close_notify":      {send: func(s *stranger) []byte { return append(bye(s), make([]byte, 30)...) }, fin: true},
		"by nothing":             {send: func(s *stranger) []byte { return nil }, fin: true, err: "read client: " + errTruncated.Error()},
		"in the end's record":    {send: func(s *stranger) []byte { return data(s, "")[:20] }, fin: true, err: "read client: unexpected EOF"},
		"by an alert":            {send: func(s *stranger) []byte { return s.record([]byte{2, 80}, record.TypeAlert) }, err: "read client: remote error: tls: internal error"},
		"within a message":       {send: func(s *stranger) []byte { return append(s.record([]byte{24, 0}, record.TypeHandshake), data(s, "")...) }, err: "read client: local error: tls: unexpected message"},
	} {
		t.Run(name, func(t *testing.T) {
			u, client := strangerPair(t)
			client.InBand()
			app, upstream := plainPair(t)
			over := make(chan error, 1)
			newFast(t).Start(client, upstream, new(Meter), nil, func(err error) { over <- err })
			u.send(t, data(u, "hi"), tt.send(u))
			if tt.fin {
				u.TCPConn.CloseWrite()
			}
			if tt.err == "" {
				if got := readAll(t, app); got != "hi" {
					t.Errorf("the application got %q", got)
				}
				closeWrite(t, app)
			}
			if err := <-over; fmt.Sprint(err) != cmp.Or(tt.err, "<nil>") || client.Kept() != tt.kept {
				t.Errorf("relay: %v, kept %v", err, client.Kept())
			}
			for _, want := range tt.next {
				if got := <-next(client); string(got.p) != want && (got.err == nil || got.err.Error() != want) {
					t.Errorf("then %q, %v, want %s", got.p, got.err, want)
				}
			}
			client.Reset()
			upstream.Reset()
		})
	}
}
