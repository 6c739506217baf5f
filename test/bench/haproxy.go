package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func haproxyVersion(*lab) (string, error) { return says(`(HAProxy version \S+)`, "haproxy", "-v") }

// haproxyHead has one suite for all; threads are as many as cores by default.
const haproxyHead = `global
	maxconn 4000
	ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256
	ssl-default-server-ciphersuites TLS_AES_128_GCM_SHA256
	ssl-default-bind-options ssl-min-ver TLSv1.3
	ssl-default-server-options ssl-min-ver TLSv1.3
	ssl-default-bind-curves X25519
defaults
	mode %s
	maxconn 4000
	timeout connect 5s
	timeout client 600s
	timeout server 600s
`

// haproxyTCP moves bytes and knows no HTTP.
func haproxyTCP(l *lab) (*pair, error) {
	plain, full, grpc, err := l.routes()
	if err != nil {
		return nil, err
	}
	var client, server strings.Builder
	fmt.Fprintf(&client, haproxyHead, "tcp")
	fmt.Fprintf(&server, haproxyHead, "tcp")
	for _, r := range []struct {
		name string
		route
		options string
	}{{"plain", plain, ""}, {"full", full, " no-ssl-reuse"}, {"grpc", grpc, ""}} {
		l.haproxyRoute(&client, &server, r.name, r.route, r.options)
	}
	p := &pair{secure: plain.server, doors: map[door]string{
		httpDoor: plain.client, resumedDoor: plain.client, warmDoor: plain.client, fullDoor: full.client, grpcDoor: grpc.client,
	}}
	return p, l.haproxy(p, "haproxy-tcp", client.String(), server.String())
}

// haproxyHTTP keeps connections to the servers and shares them.
func haproxyHTTP(l *lab) (*pair, error) {
	plain, err := l.route(l.ports.HTTP)
	if err != nil {
		return nil, err
	}
	var client, server strings.Builder
	for _, b := range []*strings.Builder{&client, &server} {
		fmt.Fprintf(b, haproxyHead+"\toption http-keep-alive\n\thttp-reuse always\n", "http")
	}
	l.haproxyRoute(&client, &server, "plain", plain, "")
	p := &pair{secure: plain.server, doors: map[door]string{httpDoor: plain.client, warmDoor: plain.client}}
	return p, l.haproxy(p, "haproxy-http", client.String(), server.String())
}

func (l *lab) haproxyRoute(client, server *strings.Builder, name string, r route, options string) {
	fmt.Fprintf(client, `listen %s
	bind %s backlog 4096
	server s %s ssl crt %s ca-file %s verify required verifyhost %s sni str(%[6]s)%s
`, name, r.client, r.server, l.client.both, l.client.roots, serverName, options)
	fmt.Fprintf(server, `listen %s
	bind %s backlog 4096 ssl crt %s ca-file %s verify required
	server s %s
`, name, r.server, l.server.both, l.server.roots, r.to)
}

func (l *lab) haproxy(p *pair, name, client, server string) error {
	for side, text := range map[string]string{"client": client, "server": server} {
		file := filepath.Join(l.dir, name+"-"+side+".cfg")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return err
		}
		proc, err := l.start(name+"-"+side, nil, "haproxy", "-db", "-f", file)
		if err != nil {
			return err
		}
		p.procs = append(p.procs, proc)
	}
	return nil
}
