// Command pod is what the pods of the cluster's own tests run: a static program,
// so that it is a whole image.
//
//	pod serve :8080              # answers "NAME at PATH", where NAME is $NAME
//	pod health :9000             # answers gRPC's health checks
//	pod ask http://127.0.0.1/    # ends with status 0 if the answer is good
//	pod redirect 8080 9090       # sends connections to one port of the pod to another
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "pod:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "serve":
		return serve(args[1], os.Getenv("NAME"))
	case len(args) == 2 && args[0] == "health":
		return health(args[1])
	case len(args) == 2 && args[0] == "ask":
		return ask(args[1])
	case len(args) == 3 && args[0] == "redirect":
		from, err := strconv.ParseUint(args[1], 10, 16)
		if err != nil {
			return fmt.Errorf("port %q: %w", args[1], err)
		}
		to, err := strconv.ParseUint(args[2], 10, 16)
		if err != nil {
			return fmt.Errorf("port %q: %w", args[2], err)
		}
		return redirect(uint16(from), uint16(to))
	}
	return errors.New("usage: pod serve ADDRESS | pod health ADDRESS | pod ask URL | pod redirect PORT PORT")
}

// serve HTTP until it is told to stop, as every pod is at its end.
func serve(address, name string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s := &http.Server{Addr: address, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println(r.Method, r.URL.Path)
		fmt.Fprintf(w, "%s at %s\n", name, r.URL.Path)
	})}
	served := make(chan error, 1)
	go func() { served <- s.ListenAndServe() }()
	fmt.Println("serving", address)
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
		return s.Close()
	}
}

// health serves grpc.health.v1.Health, until it is told to stop.
func health(address string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	s := grpc.NewServer()
	healthpb.RegisterHealthServer(s, grpchealth.NewServer())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
		s.Stop()
		return <-served
	}
}

// ask once.
func ask(url string) error {
	resp, err := (&http.Client{Timeout: 5 * time.Second}).Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", url, resp.Status)
	}
	return nil
}

// redirect needs NET_ADMIN in the pod's network namespace.
func redirect(from, to uint16) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	table := c.AddTable(&nftables.Table{Name: "pod", Family: nftables.TableFamilyINet})
	chain := c.AddChain(&nftables.Chain{
		Name: "in", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest,
	})
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(from)},
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(to)},
		&expr.Redir{RegisterProtoMin: 1},
	}})
	if err := c.Flush(); err != nil {
		return fmt.Errorf("redirect port %d to %d: %w", from, to, err)
	}
	fmt.Printf("redirects port %d to %d\n", from, to)
	return nil
}
