package main

import (
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

func goVersion(*lab) (string, error) { return runtime.Version(), nil }

func haspVersion(l *lab) (string, error) {
	git := exec.Command("git", "describe", "--always", "--dirty")
	git.Dir = l.root
	out, err := git.Output()
	if err != nil {
		return "commit unknown, " + runtime.Version(), nil // no git here, or no repository
	}
	return "commit " + strings.TrimSpace(string(out)) + ", " + runtime.Version(), nil
}

// hasp is a pair of our sidecars with one of the relays, and another that makes a
// handshake for each connection.
func hasp(relay string) func(*lab) (*pair, error) {
	return func(l *lab) (*pair, error) {
		p, err := l.hasp("hasp-"+relay, "-relay", relay)
		if err != nil {
			return p, err
		}
		full, err := l.hasp("hasp-"+relay+"-full", "-relay", relay, "-trunks=false")
		if full != nil {
			p.more = map[door]*pair{fullDoor: full}
		}
		return p, err
	}
}

func (l *lab) hasp(name string, options ...string) (*pair, error) {
	p, plain, grpc, err := l.own()
	if err != nil {
		return nil, err
	}
	for _, s := range l.sides() {
		args := append(s.arguments(), "-self", s.self, "-port", "http="+s.hop(plain), "-port", "grpc="+s.hop(grpc))
		args = append(args, options...)
		if l.profiles != "" {
			args = append(args, "-profile", filepath.Join(l.profiles, name+"-"+s.name+".pprof"))
		}
		proc, err := l.start(name+"-"+s.name, nil, filepath.Join(l.bin, "side"), args...)
		if err != nil {
			return p, err
		}
		p.procs = append(p.procs, proc)
	}
	return p, nil
}

// tunnel is a pair of plain Go tunnels.
func tunnel(l *lab) (*pair, error) {
	p, plain, grpc, err := l.own()
	if err != nil {
		return nil, err
	}
	for _, s := range l.sides() {
		args := append(s.arguments(), "-port", s.hop(plain), "-port", s.hop(grpc))
		proc, err := l.start("tunnel-"+s.name, nil, filepath.Join(l.bin, "tunnel"), args...)
		if err != nil {
			return p, err
		}
		p.procs = append(p.procs, proc)
	}
	return p, nil
}

// own is a pair of programs of our own that are to be started, and its routes.
func (l *lab) own() (p *pair, plain, grpc route, err error) {
	if plain, err = l.route(l.ports.HTTP); err != nil {
		return nil, plain, grpc, err
	}
	if grpc, err = l.route(l.ports.GRPC); err != nil {
		return nil, plain, grpc, err
	}
	return &pair{secure: plain.server, doors: map[door]string{
		httpDoor: plain.client, fullDoor: plain.client, warmDoor: plain.client, grpcDoor: grpc.client,
	}}, plain, grpc, nil
}

// side of a pair of programs of our own.
type side struct {
	name, self, peer string
	svid
}

func (l *lab) sides() []side {
	return []side{{"client", clientID, serverID, l.client}, {"server", serverID, clientID, l.server}}
}

func (s side) arguments() []string {
	return []string{"-side", s.name, "-cert", s.cert, "-key", s.key, "-roots", s.roots, "-peer", s.peer}
}

// hop is LISTEN>TO of a route at this side.
func (s side) hop(r route) string {
	if s.name == "client" {
		return r.client + ">" + r.server
	}
	return r.server + ">" + r.to
}
