// Package netns is the rung that proves the modes with programs of others:
// unmodified servers and clients, in network namespaces of their own, through
// DISABLE, PERMISSIVE and STRICT, as mesh clients and as outsiders, over IPv4
// and IPv6, while a capture on the bridge looks at what could be read.
package netns

import (
	"net/netip"
	"regexp"
	"strings"

	"hasp/test/wire"
)

// serverMark is in what the servers answer by themselves.
const serverMark = wire.MarkerPrefix + "server"

// program is a client of others and the server it speaks to.
type program struct {
	name    string
	service string
	// command that sends a marker to the service at an address.
	command func(to netip.Addr, mark string) []string
	// answer is in the output when it worked; empty is the marker.
	answer string
	// refused is in the output when the connection was reset, and exit the
	// status then; 0 is any that is not 0.
	refused *regexp.Regexp
	exit    int
	// ownTLS: the two encrypt by themselves, whatever the mesh does.
	ownTLS bool
}

var programs = []program{
	// First, since under STRICT an outsider waits for a server that waits for it.
	{name: "mariadb", service: "mariadb", refused: regexp.MustCompile(`ERROR 2013 .*Lost connection`), command: func(to netip.Addr, mark string) []string {
		return []string{"mariadb", "--no-defaults", "--connect-timeout=20", "-u", "app", "-h", to.String(), "-Ne", "select '" + mark + "'"}
	}},
	{name: "curl-python", service: "python", command: curl("python"), answer: serverMark, refused: curlReset, exit: 56},
	{name: "curl-node", service: "node", command: curl("node"), refused: curlReset, exit: 56},
	{name: "python-python", service: "python", answer: serverMark, refused: reset, command: func(to netip.Addr, mark string) []string {
		return []string{"python3", "-c", `import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=20).read().decode())`, page(to, mark)}
	}},
	{name: "node-node", service: "node", refused: reset, command: func(to netip.Addr, mark string) []string {
		return []string{"node", "-e", `require('http').get(process.argv[1], r => r.pipe(process.stdout))`, page(to, mark)}
	}},
	{name: "redis", service: "redis", refused: reset, command: func(to netip.Addr, mark string) []string {
		return []string{"redis-cli", "-e", "-h", to.String(), "echo", mark}
	}},
	{name: "psql-plain", service: "postgres", refused: reset, command: psql("disable")},
	{name: "psql-tls", service: "postgres", refused: reset, command: psql("require"), ownTLS: true},
}

var (
	reset     = regexp.MustCompile(`(?i)connection reset by peer|ECONNRESET|server closed the connection`)
	curlReset = regexp.MustCompile(`curl: \(56\) Recv failure: Connection reset by peer`)
)

// curl finds the service by its name, the others by its address.
func curl(service string) func(netip.Addr, string) []string {
	return func(to netip.Addr, mark string) []string {
		return []string{"curl", "-sS", "-" + family(to), "-m", "20", "http://" + service + ":8080/?" + mark}
	}
}

func psql(mode string) func(netip.Addr, string) []string {
	return func(to netip.Addr, mark string) []string {
		conninfo := "hostaddr=" + to.String() + " user=app dbname=postgres connect_timeout=20 sslmode=" + mode
		return []string{"psql", conninfo, "-Atc", "select '" + mark + "'"}
	}
}

func page(to netip.Addr, mark string) string {
	return "http://" + netip.AddrPortFrom(to, 8080).String() + "/?" + mark
}

func family(a netip.Addr) string {
	if a.Is4() {
		return "4"
	}
	return "6"
}

// mode is one row of the matrix: what a policy asks of the servers.
type mode struct {
	name   string
	policy string
	// plain: outsiders are served. encrypted: mesh clients use mutual TLS.
	plain, encrypted bool
}

var modes = []mode{
	{"disable", peerAuthentication("DISABLE"), true, false},
	{"permissive", policy("PERMISSIVE"), true, true},
	{"strict", peerAuthentication("STRICT"), false, true},
	{"strict-policy", policy("STRICT"), false, true},
}

func peerAuthentication(mode string) string {
	return `{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: default}, spec: {mtls: {mode: ` + mode + `}}}`
}

func policy(mode string) string {
	return `{apiVersion: authentication.istio.io/v1alpha1, kind: Policy, metadata: {name: default}, spec: {peers: [{mtls: {mode: ` + mode + `}}]}}`
}

// cell is one field of the matrix.
type cell struct {
	mode    mode
	program program
	meshed  bool
	to      netip.Addr
}

// name of the cell, of its pod, and the end of its marker.
func (c cell) name() string {
	who := "outsider"
	if c.meshed {
		who = "mesh"
	}
	return strings.Join([]string{c.mode.name, who, c.program.name, "v" + family(c.to)}, "-")
}

func (c cell) mark() string { return wire.MarkerPrefix + c.name() }

// works: the client is served.
func (c cell) works() bool { return c.meshed || c.mode.plain }

// secret: nobody on the wire may read what is said, and it is mutual TLS.
func (c cell) secret() bool { return c.meshed && c.mode.encrypted }
