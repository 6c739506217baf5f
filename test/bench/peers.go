package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"hasp/test/bench/load"
)

// door is a way through a pair.
type door string

const (
	httpDoor    door = "http"    // as it is recommended to be
	fullDoor    door = "full"    // a handshake without resumption for each connection
	resumedDoor door = "resumed" // sessions are resumed
	warmDoor    door = "warm"    // the best the pair does for a new connection
	grpcDoor    door = "grpc"    // HTTP/2 in plaintext at both ends
)

// pair is a client's and a server's proxy, which run.
type pair struct {
	procs  []*process
	doors  map[door]string // addresses; what a peer does not do is missing
	secure string          // where the server's proxy takes mutual TLS
	// more are pairs of the same program for doors that need a setting of the
	// whole process. Their memory is not looked at.
	more map[door]*pair
}

// through is the pair that a door leads through, and the door's address.
func (p *pair) through(d door) (*pair, string) {
	if other := p.more[d]; other != nil {
		p = other
	}
	return p, p.doors[d]
}

func (p *pair) stop() {
	for _, proc := range p.procs {
		proc.stop()
	}
	for _, other := range p.more {
		other.stop()
	}
}

// cpuTime of the pair.
func (p *pair) cpuTime() (sum time.Duration, err error) {
	for _, proc := range p.procs {
		t, err := proc.cpuTime()
		if err != nil {
			return 0, err
		}
		sum += t
	}
	return sum, nil
}

// memory of the pair.
func (p *pair) memory() (sum memory, err error) {
	for _, proc := range p.procs {
		m, err := proc.memory()
		if err != nil {
			return sum, err
		}
		sum.add(m)
	}
	return sum, nil
}

// peer is something that is compared.
type peer struct {
	name string
	does []door
	// version fails when the program is not there.
	version func(*lab) (string, error)
	start   func(*lab) (*pair, error)
}

func (p peer) has(d door) bool {
	for _, x := range p.does {
		if x == d {
			return true
		}
	}
	return false
}

// direct is no proxy at all.
const direct = "direct"

// peers in the order of the table.
func peers() []peer {
	tcp := []door{httpDoor, fullDoor, resumedDoor, warmDoor, grpcDoor}
	http := []door{httpDoor, warmDoor}
	return []peer{
		{name: direct, does: []door{httpDoor, grpcDoor}, version: nothing, start: func(l *lab) (*pair, error) {
			return &pair{doors: map[door]string{httpDoor: l.ports.HTTP, grpcDoor: l.ports.GRPC}}, nil
		}},
		{name: "hasp", does: []door{httpDoor, fullDoor, warmDoor, grpcDoor}, version: haspVersion, start: hasp("fast")},
		{name: "hasp-portable", does: []door{httpDoor, fullDoor, warmDoor, grpcDoor}, version: haspVersion, start: hasp("portable")},
		{name: "haproxy-tcp", does: tcp, version: haproxyVersion, start: haproxyTCP},
		{name: "haproxy-http", does: http, version: haproxyVersion, start: haproxyHTTP},
		{name: "nginx-stream", does: tcp, version: nginxVersion, start: nginxStream},
		{name: "nginx-http", does: http, version: nginxVersion, start: nginxHTTP},
		{name: "tunnel", does: []door{httpDoor, fullDoor, warmDoor, grpcDoor}, version: goVersion, start: tunnel},
		{name: "envoy-tcp", does: tcp, version: envoyVersion, start: envoyTCP},
		{name: "envoy-http", does: []door{httpDoor, warmDoor, grpcDoor}, version: envoyVersion, start: envoyHTTP},
	}
}

func nothing(*lab) (string, error) { return "", nil }

// find is where a program is. Debian keeps daemons where users do not look.
func find(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err == nil {
		return path, nil
	}
	if path, err := exec.LookPath(filepath.Join("/usr/sbin", program)); err == nil {
		return path, nil
	}
	return "", fmt.Errorf("%w; test/setup/debian.sh installs it", err)
}

// says is what a program prints about its version, found by a pattern with one
// group.
func says(pattern, program string, args ...string) (string, error) {
	path, err := find(program)
	if err != nil {
		return "", err
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w", program, err)
	}
	m := regexp.MustCompile(pattern).FindSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("%s says nothing about its version: %.100q", program, out)
	}
	return string(m[1]), nil
}

// ready waits until every door answers, and looks at the TLS between the two.
func (l *lab) ready(p *pair) error {
	for d, at := range p.doors {
		plan := load.Plan{Kind: load.Requests, To: at, Connections: 1, Count: 1}
		if d == grpcDoor {
			plan.Kind = load.Calls
		}
		if err := l.answers(p, plan); err != nil {
			return fmt.Errorf("%s: %w", d, err)
		}
	}
	for d, other := range p.more {
		if err := l.ready(other); err != nil {
			return fmt.Errorf("%s: %w", d, err)
		}
	}
	if p.secure == "" {
		return nil
	}
	return l.mutual(p.secure)
}

// startTime is how long a pair may take to serve.
const startTime = 10 * time.Second

func (l *lab) answers(p *pair, plan load.Plan) error {
	for end := time.Now().Add(startTime); ; time.Sleep(50 * time.Millisecond) {
		s, err := l.session(plan)
		if err == nil {
			_, err = s.run()
			s.end()
		}
		if err == nil {
			return nil
		}
		if _, dead := p.cpuTime(); dead != nil {
			return dead
		}
		if time.Now().After(end) {
			for _, proc := range p.procs {
				err = fmt.Errorf("%w\n%s said:\n%s", err, proc.cmd.Path, proc.tail())
			}
			return err
		}
	}
}

// mutual sees that a server's proxy speaks TLS 1.3 with the cipher of all, and
// serves nobody without a certificate.
func (l *lab) mutual(at string) error {
	cert, err := tls.LoadX509KeyPair(l.client.cert, l.client.key)
	if err != nil {
		return err
	}
	pem, err := os.ReadFile(l.client.roots)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	config := &tls.Config{RootCAs: roots, ServerName: serverName, Certificates: []tls.Certificate{cert}}
	state, err := askTLS(at, config)
	switch {
	case err != nil:
		return fmt.Errorf("%s refuses the client's certificate: %w", at, err)
	case state.Version != tls.VersionTLS13 || state.CipherSuite != tls.TLS_AES_128_GCM_SHA256:
		return fmt.Errorf("%s speaks %s with %s", at, tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite))
	}
	config.Certificates = nil
	if _, err := askTLS(at, config); err == nil {
		return fmt.Errorf("%s serves a client without a certificate", at)
	}
	return nil
}

func askTLS(at string, config *tls.Config) (tls.ConnectionState, error) {
	c, err := tls.Dial("tcp", at, config)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return tls.ConnectionState{}, err
	}
	if _, err := io.WriteString(c, "GET /1k HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return tls.ConnectionState{}, err
	}
	b := make([]byte, 12)
	if _, err := io.ReadFull(c, b); err != nil {
		return tls.ConnectionState{}, err
	}
	if string(b) != "HTTP/1.1 200" {
		return tls.ConnectionState{}, errors.New("it answers " + string(b))
	}
	return c.ConnectionState(), nil
}

// route is a listener of a pair: the client's, the server's, and where it goes.
type route struct{ client, server, to string }

func (l *lab) route(to string) (r route, err error) {
	r.to = to
	if r.client, err = l.listen(); err != nil {
		return r, err
	}
	r.server, err = l.listen()
	return r, err
}

// routes to the workload: its HTTP port twice, and gRPC.
func (l *lab) routes() (plain, full, grpc route, err error) {
	if plain, err = l.route(l.ports.HTTP); err != nil {
		return
	}
	if full, err = l.route(l.ports.HTTP); err != nil {
		return
	}
	grpc, err = l.route(l.ports.GRPC)
	return
}
