// Command scale is a mesh of many proxies on one machine, to see what a change
// costs its control plane. The control plane is the real one, informers, authority,
// certificate service and xDS; the proxies are real xDS clients, each with a
// certificate of its own over a connection of its own, but without a byte path.
//
//	go run ./test/scale -services 10000 -workloads 50000 -proxies 1000 -changes 20
//
// Three processes have a part in it, so that what is measured of one is its own:
// this one holds the objects and is the API server that the control plane
// watches (list, watch and status, in memory: a real one would take longer to fill
// than all the rest; -embedded has the real one), one is the control plane, one holds
// all proxies.
//
// A change is applied, and its time runs until every proxy that it concerns has
// acknowledged it. After the last one the proxies' configurations are compared
// with what the objects as they are now compile to.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	if len(os.Args) == 2 && isPart(os.Args[1]) {
		serve(os.Args[1])
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

// Plan is what to simulate.
type Plan struct {
	Services  int    `json:"services"`
	Workloads int    `json:"workloads"`
	Proxies   int    `json:"proxies"`
	Calls     int    `json:"calls"`   // services that a proxy's workload talks to
	Changes   int    `json:"changes"` // of each kind
	Seed      uint64 `json:"seed"`
	// Embedded has the objects in the product's own API server, with its etcd.
	Embedded bool `json:"embedded,omitempty"`
	// OnDemand is from how many services on proxies are told only what they ask for;
	// 0 is the control plane's default, and less than 0 never.
	OnDemand int `json:"onDemand,omitempty"`
	// Profile is a directory for profiles of the control plane: CPU over the
	// changes of each kind, and its heap. Empty: none.
	Profile string `json:"-"`
	// Brief takes no time to measure.
	Brief bool `json:"-"`
	// Progress is told how far it is; nil is not.
	Progress io.Writer `json:"-"`
}

func (p Plan) say(format string, args ...any) {
	if p.Progress != nil {
		fmt.Fprintf(p.Progress, format, args...)
	}
}

func command(ctx context.Context, args []string, stdout io.Writer) error {
	p := Plan{Progress: os.Stderr}
	fs := flag.NewFlagSet("scale", flag.ExitOnError)
	fs.IntVar(&p.Services, "services", 1000, "services in the mesh")
	fs.IntVar(&p.Workloads, "workloads", 5000, "workloads behind them, all with a sidecar")
	fs.IntVar(&p.Proxies, "proxies", 100, "sidecars that are connected")
	fs.IntVar(&p.Calls, "calls", 10, "services that each of them talks to")
	fs.IntVar(&p.Changes, "changes", 20, "changes of each kind")
	fs.IntVar(&p.OnDemand, "on-demand", 0, "from how many services on proxies are told only what they ask for: 0 is the default, -1 never")
	fs.BoolVar(&p.Embedded, "embedded", false, "the objects are in the embedded API server, with its etcd")
	fs.Uint64Var(&p.Seed, "seed", 1, "of what is drawn")
	fs.StringVar(&p.Profile, "profile", "", "`directory` for profiles of the control plane")
	format := fs.String("o", "table", "table or json")
	out := fs.String("out", "", "`file` to write the results to as well, as Markdown")
	fs.Parse(args)
	if err := p.check(); err != nil {
		return err
	}
	if *format != "table" && *format != "json" {
		return fmt.Errorf("-o %q: it is table or json", *format)
	}
	r, err := Run(ctx, p)
	if err != nil {
		return err
	}
	if *out != "" {
		if err := os.WriteFile(*out, []byte(r.Markdown()), 0o644); err != nil {
			return err
		}
	}
	if *format == "json" {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	_, err = io.WriteString(stdout, r.Table())
	return err
}

func (p Plan) check() error {
	switch {
	case p.Services < 1 || p.Services > 50_000:
		return fmt.Errorf("-services %d: 1 to 50000 have an address here", p.Services)
	case p.Workloads < p.Services || p.Workloads > 1_000_000:
		return fmt.Errorf("-workloads %d: at least one for each service, and at most 1000000", p.Workloads)
	case p.Proxies < 1 || p.Proxies > min(p.Workloads, 9_000):
		return fmt.Errorf("-proxies %d: at least one, at most one for each workload, and 9000", p.Proxies)
	case p.Calls < 1 || p.Calls > p.Services:
		return fmt.Errorf("-calls %d: at least one, at most all services", p.Calls)
	case p.Changes < 1:
		return fmt.Errorf("-changes %d: at least one", p.Changes)
	}
	return nil
}
