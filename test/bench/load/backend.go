package load

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"

	"google.golang.org/grpc"
)

// Ports are where a workload listens.
type Ports struct{ HTTP, GRPC string }

// Serve is the workload: it says on w, as JSON, where it listens, and answers
// until ctx ends.
func Serve(ctx context.Context, w io.Writer) error {
	plain, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	calls, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		plain.Close()
		return err
	}
	s := grpc.NewServer()
	s.RegisterService(&service, nil)
	var all sync.WaitGroup
	all.Go(func() { _ = s.Serve(calls) }) // Stop ends it
	all.Go(func() { serveHTTP(plain) })
	stop := context.AfterFunc(ctx, func() {
		plain.Close()
		s.Stop()
	})
	defer stop()
	err = json.NewEncoder(w).Encode(Ports{HTTP: plain.Addr().String(), GRPC: calls.Addr().String()})
	if err == nil {
		<-ctx.Done()
	}
	plain.Close()
	s.Stop()
	all.Wait()
	return err
}

// serveHTTP answers each connection in a goroutine until ln is closed. Those
// that live then end with the process.
func serveHTTP(ln net.Listener) {
	for {
		c, err := ln.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			continue // a peer that is gone already
		}
		go func() {
			defer c.Close()
			answer(c)
		}()
	}
}

var small = fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n%s", smallBody, pattern[:smallBody])

// answer serves the requests of a connection: /1k, and /bulk/N for N bytes.
func answer(c io.ReadWriter) {
	in := bufio.NewReaderSize(c, 4<<10)
	for {
		path, last, err := readRequest(in)
		if err != nil {
			return
		}
		out := small
		n, long := bytes.CutPrefix(path, []byte("/bulk/"))
		if long {
			length, err := strconv.ParseInt(string(n), 10, 64)
			if err != nil || length < 0 {
				return
			}
			if err := writeBulk(c, length); err != nil {
				return
			}
			out = nil
		}
		if _, err := c.Write(out); err != nil || last {
			return
		}
	}
}

func writeBulk(w io.Writer, length int64) error {
	if _, err := fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", length); err != nil {
		return err
	}
	for length > 0 {
		n, err := w.Write(pattern[:min(length, int64(len(pattern)))])
		if err != nil {
			return err
		}
		length -= int64(n)
	}
	return nil
}

var errRequest = errors.New("no request line of HTTP/1.1")

// readRequest reads a request without a body: its path, good until the next
// read, and whether it is the connection's last.
func readRequest(in *bufio.Reader) (path []byte, last bool, err error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return nil, false, err
	}
	words := bytes.Fields(line)
	if len(words) != 3 || string(words[2]) != "HTTP/1.1" {
		return nil, false, errRequest
	}
	path = bytes.Clone(words[1])
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return nil, false, err
		}
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			return path, last, nil
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		if bytes.EqualFold(name, []byte("connection")) && bytes.EqualFold(bytes.TrimSpace(value), []byte("close")) {
			last = true
		}
	}
}
