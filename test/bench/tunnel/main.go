// Command tunnel is the plain way to carry connections over mutual TLS in Go, as
// ghostunnel does it: crypto/tls at its defaults, one goroutine a direction with
// a 32 KiB buffer, half-closes passed on, the peer's SPIFFE ID checked. It
// stands for the tunnels of that kind among the benchmark's peers.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "tunnel:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	var ports []string
	f := flag.NewFlagSet("tunnel", flag.ContinueOnError)
	side := f.String("side", "", "client or server")
	f.Func("port", "`LISTEN>TO`, once for each port", func(s string) error { ports = append(ports, s); return nil })
	cert, key := f.String("cert", "", "`file` of the certificate"), f.String("key", "", "`file` of its key")
	roots, peer := f.String("roots", "", "`file` of the roots"), f.String("peer", "", "the other side's SPIFFE `ID`")
	if err := f.Parse(args); err != nil {
		return err
	}
	config, err := config(*cert, *key, *roots, *peer)
	if err != nil {
		return err
	}
	t := &tunnel{config: config, client: *side == "client"}
	var all sync.WaitGroup
	for _, p := range ports {
		listen, to, _ := strings.Cut(p, ">")
		ln, err := net.Listen("tcp", listen)
		if err != nil {
			return err
		}
		context.AfterFunc(ctx, func() { ln.Close() })
		all.Go(func() { t.serve(ln, to) })
	}
	all.Wait()
	return nil
}

// config is both sides' TLS; each checks the other's chain and name.
func config(certFile, keyFile, rootsFile, peer string) (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(rootsFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", rootsFile)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert},
		ServerName: "server.mesh.test", RootCAs: roots,
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots,
		VerifyConnection: func(cs tls.ConnectionState) error {
			if names := cs.PeerCertificates[0].URIs; len(names) != 1 || names[0].String() != peer {
				return fmt.Errorf("the peer is %v, not %s", names, peer)
			}
			return nil
		},
	}, nil
}

type tunnel struct {
	config *tls.Config
	client bool
}

func (t *tunnel) serve(ln net.Listener, to string) {
	for {
		c, err := ln.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			continue
		}
		go t.carry(c, to)
	}
}

const handshakeTimeout = 10 * time.Second

// carry is the life of a connection.
func (t *tunnel) carry(in net.Conn, to string) {
	defer in.Close()
	out, err := net.DialTimeout("tcp", to, handshakeTimeout)
	if err != nil {
		return
	}
	defer out.Close()
	var secure *tls.Conn
	if t.client {
		secure = tls.Client(out, t.config)
		out = secure
	} else {
		secure = tls.Server(in, t.config)
		in = secure
	}
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	defer cancel()
	if err := secure.HandshakeContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "tunnel: handshake:", err)
		return
	}
	var both sync.WaitGroup
	both.Go(func() { move(out, in) })
	move(in, out)
	both.Wait()
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// move copies one direction and passes on its end. The wrappers keep io.Copy
// from taking a buffer of its own for each connection.
func move(dst, src net.Conn) {
	b := buffers.Get().(*[]byte)
	defer buffers.Put(b)
	_, err := io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, *b)
	if err != nil {
		dst.Close()
		src.Close()
		return
	}
	_ = dst.(interface{ CloseWrite() error }).CloseWrite()
}
