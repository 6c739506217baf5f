package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func nginxVersion(*lab) (string, error) {
	if _, err := os.Stat(nginxStreamModule); err != nil {
		return "", fmt.Errorf("%w; test/setup/debian.sh installs it", err)
	}
	return says(`(nginx/\S+)`, "nginx", "-v")
}

// nginxStreamModule is where Debian has it.
const nginxStreamModule = "/usr/lib/nginx/modules/ngx_stream_module.so"

// nginxHead is for both sides and kinds; its folder takes what nginx writes.
func (l *lab) nginxHead(folder string) string {
	user := ""
	if os.Getuid() == 0 {
		user = "user root; "
	}
	return fmt.Sprintf(`%sdaemon off; worker_processes auto;
load_module %s;
pid %s/pid; error_log stderr error;
events { worker_connections 8000; }
`, user, nginxStreamModule, folder)
}

const (
	nginxClientTLS = `proxy_ssl_protocols TLSv1.3; proxy_ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256; proxy_ssl_conf_command Groups X25519;
	proxy_ssl_certificate %s; proxy_ssl_certificate_key %s; proxy_ssl_trusted_certificate %s; proxy_ssl_verify on; proxy_ssl_name %s; proxy_ssl_server_name on;
`
	nginxServerTLS = `ssl_protocols TLSv1.3; ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256; ssl_conf_command Groups X25519; ssl_session_cache shared:s:10m;
	ssl_certificate %s; ssl_certificate_key %s; ssl_client_certificate %s; ssl_verify_client on;
`
)

// nginxStream moves bytes and knows no HTTP.
func nginxStream(l *lab) (*pair, error) {
	plain, full, grpc, err := l.routes()
	if err != nil {
		return nil, err
	}
	const common = "tcp_nodelay on; proxy_timeout 600s;\n"
	client, server := &strings.Builder{}, &strings.Builder{}
	fmt.Fprintf(client, "stream {\n"+common+nginxClientTLS+"proxy_ssl on;\n", l.client.cert, l.client.key, l.client.roots, serverName)
	fmt.Fprintf(server, "stream {\n"+common+nginxServerTLS, l.server.cert, l.server.key, l.server.roots)
	for _, r := range []struct {
		route
		reuse string
	}{{plain, "on"}, {full, "off"}, {grpc, "on"}} {
		fmt.Fprintf(client, "server { listen %s backlog=4096 reuseport; proxy_pass %s; proxy_ssl_session_reuse %s; }\n", r.client, r.server, r.reuse)
		fmt.Fprintf(server, "server { listen %s ssl backlog=4096 reuseport; proxy_pass %s; }\n", r.server, r.to)
	}
	p := &pair{secure: plain.server, doors: map[door]string{
		httpDoor: plain.client, resumedDoor: plain.client, warmDoor: plain.client, fullDoor: full.client, grpcDoor: grpc.client,
	}}
	return p, l.nginx(p, "nginx-stream", client.String()+"}\n", server.String()+"}\n")
}

// nginxHTTP keeps connections to the servers and shares them.
func nginxHTTP(l *lab) (*pair, error) {
	plain, err := l.route(l.ports.HTTP)
	if err != nil {
		return nil, err
	}
	const common = `access_log off; tcp_nodelay on; keepalive_requests 1000000000; keepalive_timeout 600s;
	proxy_http_version 1.1; proxy_set_header Connection ""; proxy_request_buffering off;
	upstream u { server %s; keepalive 1024; keepalive_requests 1000000000; }
`
	client := fmt.Sprintf("http {\n"+common+nginxClientTLS+"server { listen %s backlog=4096 reuseport; location / { proxy_pass https://u; } }\n}\n",
		plain.server, l.client.cert, l.client.key, l.client.roots, serverName, plain.client)
	server := fmt.Sprintf("http {\n"+common+nginxServerTLS+"server { listen %s ssl backlog=4096 reuseport; location / { proxy_pass http://u; } }\n}\n",
		plain.to, l.server.cert, l.server.key, l.server.roots, plain.server)
	p := &pair{secure: plain.server, doors: map[door]string{httpDoor: plain.client, warmDoor: plain.client}}
	return p, l.nginx(p, "nginx-http", client, server)
}

func (l *lab) nginx(p *pair, name, client, server string) error {
	for side, text := range map[string]string{"client": client, "server": server} {
		folder := filepath.Join(l.dir, name+"-"+side)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
		text = strings.Replace(text, "http {\n", fmt.Sprintf("http {\nclient_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;\n", folder), 1)
		file := filepath.Join(folder, "nginx.conf")
		if err := os.WriteFile(file, []byte(l.nginxHead(folder)+text), 0o600); err != nil {
			return err
		}
		proc, err := l.start(name+"-"+side, nil, "nginx", "-p", folder, "-e", "stderr", "-c", file)
		if err != nil {
			return err
		}
		p.procs = append(p.procs, proc)
	}
	return nil
}
