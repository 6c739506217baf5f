// Command driver is both ends of the conformance run: "serve" answers on a port
// for every kind of protocol, "call" makes one or more connections of each kind,
// and "strangers" knocks as only an attacker would. What comes of a connection is
// not its business: the proxies and the capture say that.
package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// marker is what no eavesdropper may read between two sidecars.
const marker = "HASP-MARK-proof"

// patience bounds whatever waits for the other end.
const patience = 2 * time.Second

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: driver serve | call ADDRESS... | strangers ADDRESS...")
		os.Exit(2)
	}
	var err error
	switch os.Args[1] {
	case "serve":
		err = serve()
	case "call":
		err = all(os.Args[2:], calls)
	case "strangers":
		err = all(os.Args[2:], strangers)
	default:
		err = fmt.Errorf("no such command: %s", os.Args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "driver:", err)
		os.Exit(1)
	}
}

// serve until something fails.
func serve() error {
	page := http.NewServeMux()
	page.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, marker) })
	page.HandleFunc("/big", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, strings.Repeat(marker+"\n", 8192))
	})
	cert, err := selfSigned(time.Now().Add(time.Hour))
	if err != nil {
		return err
	}
	both := new(http.Protocols)
	both.SetHTTP1(true)
	both.SetUnencryptedHTTP2(true)
	failed := make(chan error)
	on := func(port string, serve func(net.Listener) error) {
		go func() {
			ln, err := net.Listen("tcp", ":"+port)
			if err == nil {
				err = serve(ln)
			}
			failed <- err
		}()
	}
	on("8080", (&http.Server{Handler: page}).Serve)
	on("8082", (&http.Server{Handler: page, Protocols: both}).Serve)
	on("8443", func(ln net.Listener) error {
		return (&http.Server{Handler: page, TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}}).ServeTLS(ln, "", "")
	})
	on("9001", each(func(c net.Conn) {
		fmt.Fprintf(c, "220 %s\n", marker)
		io.Copy(c, c)
	}))
	on("9002", each(func(c net.Conn) { io.Copy(c, c) }))
	health := grpc.NewServer()
	healthpb.RegisterHealthServer(health, grpchealth.NewServer())
	on("9090", health.Serve)
	return <-failed
}

func each(talk func(net.Conn)) func(net.Listener) error {
	return func(ln net.Listener) error {
		for {
			c, err := ln.Accept()
			if err != nil {
				return err
			}
			go func() {
				defer c.Close()
				talk(c)
			}()
		}
	}
}

// kind makes connections to an address and returns how many it made; it goes on
// past whatever is refused.
type kind func(ctx context.Context, address string) int

// all kinds to all addresses, at the same time. It prints how many connections were made.
func all(addresses []string, kinds []kind) error {
	var made atomic.Int64
	var wg sync.WaitGroup
	for _, a := range addresses {
		for _, k := range kinds {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
				defer cancel()
				made.Add(int64(k(ctx, a)))
			})
		}
	}
	wg.Wait()
	return json.NewEncoder(os.Stdout).Encode(map[string]int64{"made": made.Load()})
}

var calls = []kind{short, kept, http2, grpcCall, serverFirst, echo, oneByOne, idle, bulk, ownTLS}

func short(ctx context.Context, a string) int { return get(ctx, a, "http", "8080", 1, nil) }
func kept(ctx context.Context, a string) int  { return get(ctx, a, "http", "8080", 5, nil) }

func http2(ctx context.Context, a string) int {
	t := &http.Transport{Protocols: new(http.Protocols)}
	t.Protocols.SetUnencryptedHTTP2(true)
	return get(ctx, a, "http", "8082", 3, t)
}

func ownTLS(ctx context.Context, a string) int {
	return get(ctx, a, "https", "8443", 2, &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}})
}

// get pages over one connection.
func get(ctx context.Context, address, scheme, port string, times int, t *http.Transport) int {
	if t == nil {
		t = &http.Transport{}
	}
	made := 0
	t.DialContext = func(ctx context.Context, network, at string) (net.Conn, error) {
		made++
		return new(net.Dialer).DialContext(ctx, network, at)
	}
	defer t.CloseIdleConnections()
	for range times {
		req, err := http.NewRequestWithContext(ctx, "GET", scheme+"://"+net.JoinHostPort(address, port)+"/?"+marker, nil)
		if err != nil {
			return made
		}
		resp, err := t.RoundTrip(req)
		if err != nil {
			return made
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	return made
}

func grpcCall(ctx context.Context, a string) int {
	made := 0
	conn, err := grpc.NewClient("passthrough:///"+net.JoinHostPort(a, "9090"), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, at string) (net.Conn, error) {
			made++
			return new(net.Dialer).DialContext(ctx, "tcp", at)
		}))
	if err != nil {
		return 0
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for range 3 {
		if _, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}); err != nil {
			break
		}
	}
	return made
}

// tcp opens a connection and talks, if that works.
func tcp(ctx context.Context, a, port string, talk func(net.Conn)) int {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(a, port))
	if err != nil {
		return 0
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	talk(c)
	return 1
}

func serverFirst(ctx context.Context, a string) int {
	return tcp(ctx, a, "9001", func(c net.Conn) {
		r := bufio.NewReader(c)
		if _, err := r.ReadString('\n'); err == nil {
			fmt.Fprintln(c, marker)
			r.ReadString('\n')
		}
	})
}

func echo(ctx context.Context, a string) int {
	return tcp(ctx, a, "9002", func(c net.Conn) {
		fmt.Fprintln(c, marker)
		bufio.NewReader(c).ReadString('\n')
	})
}

// oneByOne makes a connection when the one before has ended: sidecars may carry
// them all under one handshake.
func oneByOne(ctx context.Context, a string) (made int) {
	for range 5 {
		made += tcp(ctx, a, "9002", func(c net.Conn) {
			fmt.Fprintln(c, marker)
			c.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, c)
		})
	}
	return made
}

// idle says something after a while of silence.
func idle(ctx context.Context, a string) int {
	return tcp(ctx, a, "9002", func(c net.Conn) {
		fmt.Fprintln(c, marker)
		r := bufio.NewReader(c)
		if _, err := r.ReadString('\n'); err != nil {
			return
		}
		c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		if _, err := r.ReadByte(); !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		c.SetReadDeadline(time.Now().Add(patience))
		fmt.Fprintln(c, marker)
		r.ReadString('\n')
	})
}

func bulk(ctx context.Context, a string) int {
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+net.JoinHostPort(a, "8080")+"/big", nil)
	if err != nil {
		return 0
	}
	t := &http.Transport{DisableKeepAlives: true}
	if resp, err := t.RoundTrip(req); err == nil {
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	return 1
}

// strangers offer the mesh's ALPN, so that a PERMISSIVE server takes them for a
// sidecar, and have no certificate, one of another authority, an expired one.
var strangers = []kind{
	knock(func(*tls.Config) error { return nil }),
	knock(func(c *tls.Config) error { return present(c, time.Now().Add(time.Hour)) }),
	knock(func(c *tls.Config) error { return present(c, time.Now().Add(-time.Minute)) }),
	knock(func(c *tls.Config) error {
		c.MaxVersion = tls.VersionTLS12
		return present(c, time.Now().Add(time.Hour))
	}),
}

func knock(change func(*tls.Config) error) kind {
	return func(ctx context.Context, a string) int {
		return tcp(ctx, a, "8080", func(c net.Conn) {
			cfg := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"istio"}}
			if change(cfg) != nil {
				return
			}
			t := tls.Client(c, cfg)
			if t.HandshakeContext(ctx) == nil {
				fmt.Fprintf(t, "GET /?%s HTTP/1.1\r\nHost: x\r\n\r\n", marker)
				io.Copy(io.Discard, t)
			}
		})
	}
}

func present(c *tls.Config, until time.Time) error {
	cert, err := selfSigned(until)
	c.Certificates = []tls.Certificate{cert}
	return err
}

// selfSigned looks like an identity of the mesh.
func selfSigned(until time.Time) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{"strangers"}},
		URIs:      []*url.URL{{Scheme: "spiffe", Host: "cluster.local", Path: "/ns/shop/sa/default"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
