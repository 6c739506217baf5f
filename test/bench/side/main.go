// Command side is one of our sidecars in the benchmark: package proxy as
// hasp-proxy runs it, with connection table, ledger, observers, metrics and
// reports, and a configuration made here instead of by a control plane. What the
// kernel tells a captured connection, its original destination, is known for
// each port.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"hasp/cmd/hasp-proxy/quiet"
	"hasp/mesh"
	"hasp/proxy"
	"hasp/xds"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	debug.SetGCPercent(50) // this and the next as hasp-proxy has them
	go quiet.GiveBack(ctx)
	if err := command(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "side:", err)
		os.Exit(1)
	}
}

// ports are given as PROTOCOL=LISTEN>TO; a client's TO is the server's listener.
type port struct {
	protocol   mesh.Protocol
	listen, to netip.AddrPort
}

type ports []port

func (p *ports) String() string { return fmt.Sprint(*p) }

func (p *ports) Set(s string) error {
	protocol, rest, _ := strings.Cut(s, "=")
	listen, to, ok := strings.Cut(rest, ">")
	l, err := netip.ParseAddrPort(listen)
	if err != nil {
		return err
	}
	t, err := netip.ParseAddrPort(to)
	if err != nil || !ok {
		return fmt.Errorf("%q is not PROTOCOL=LISTEN>TO", s)
	}
	*p = append(*p, port{mesh.Protocol(protocol), l, t})
	return nil
}

type options struct {
	role      string
	ports     ports
	cert, key string
	roots     string
	self      string
	peer      string
	relay     string
	trunks    bool
	profile   string
}

func command(ctx context.Context, args []string) error {
	var o options
	f := flag.NewFlagSet("side", flag.ContinueOnError)
	f.StringVar(&o.role, "side", "", "client or server")
	f.Var(&o.ports, "port", "`PROTOCOL=LISTEN>TO`, once for each port")
	f.StringVar(&o.cert, "cert", "", "`file` of the certificate")
	f.StringVar(&o.key, "key", "", "`file` of its key")
	f.StringVar(&o.roots, "roots", "", "`file` of the roots")
	f.StringVar(&o.self, "self", "", "own SPIFFE `ID`")
	f.StringVar(&o.peer, "peer", "", "the other side's SPIFFE `ID`")
	f.StringVar(&o.relay, "relay", "fast", "`what` moves the bytes: fast or portable")
	f.BoolVar(&o.trunks, "trunks", true, "whether connections may share a handshake")
	f.StringVar(&o.profile, "profile", "", "`file` for a CPU profile")
	if err := f.Parse(args); err != nil {
		return err
	}
	if o.role != "client" && o.role != "server" || len(o.ports) == 0 {
		return fmt.Errorf("say -side client or server, and -port")
	}
	id, err := readIdentity(o.cert, o.key, o.roots)
	if err != nil {
		return err
	}
	if o.profile == "" {
		return run(ctx, o, id)
	}
	out, err := os.Create(o.profile)
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(out); err != nil {
		return err
	}
	err = run(ctx, o, id)
	pprof.StopCPUProfile()
	return errors.Join(err, out.Close())
}

func run(ctx context.Context, o options, id *identity) error {
	relayer, err := relayerOf(o.relay)
	if err != nil {
		return err
	}
	targets := map[uint16]netip.AddrPort{}
	for i, p := range o.ports {
		targets[p.listen.Port()] = p.to
		if o.role == "client" {
			targets[p.listen.Port()] = service(i)
		}
	}
	p, err := proxy.New(proxy.Config{
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})), Identity: id, Dialer: &net.Dialer{}, Relay: relayer, NoTrunks: !o.trunks,
		OrigDst: func(c net.Conn) (netip.AddrPort, error) {
			to, ok := targets[c.LocalAddr().(*net.TCPAddr).AddrPort().Port()]
			if !ok {
				return to, fmt.Errorf("%s is no port of this side", c.LocalAddr())
			}
			return to, nil
		},
	})
	if err != nil {
		return err
	}
	defer p.Close()
	c := configuration(o)
	if err := p.Apply(&c); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, port := range o.ports {
		ln, err := net.Listen("tcp", port.listen.String())
		if err != nil {
			return err
		}
		g.Go(func() error {
			if o.role == "client" {
				return p.ServeOutbound(ctx, ln)
			}
			return p.ServeInbound(ctx, ln)
		})
	}
	g.Go(func() error { return report(ctx, p.Facts()) })
	return g.Wait()
}

// report tells what is new once a second at most, as it would be told to the
// control plane.
func report(ctx context.Context, f *proxy.Facts) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.Changed():
		}
		if _, err := xds.EncodeReport(f.Report(false)); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}
