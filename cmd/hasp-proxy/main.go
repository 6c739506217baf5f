// Command hasp-proxy is the sidecar, and the gateway, of one workload, and on a
// cluster what captures the workload's connections for it.
//
// What a proxy has to know at first is a mesh.Bootstrap: on a cluster it is put
// together of flags and the pod's own names, elsewhere whoever starts it hands
// it over on an inherited descriptor. The rest it learns from its control plane.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"hasp/cmd/hasp-proxy/quiet"
)

const usage = `hasp-proxy is the sidecar of one workload: it takes the workload's connections
and speaks mutual TLS for it. In a pod it is one of

  hasp-proxy sidecar   the pod's sidecar
  hasp-proxy gateway   an ingress gateway
  hasp-proxy capture   redirects the pod's connections to its sidecar, and ends
  hasp-proxy verify    sees that they are redirected, and ends
  hasp-proxy wait      ends when the sidecar is ready

each of which has a --help. On one machine "hasp up" starts it; by hand it is

  hasp-proxy --bootstrap-fd 3 3< bootstrap.json

where bootstrap.json says where the control plane is and holds the token that
proves the workload once. SIGTERM lets connections end for the drain time.

Flags:
`

func main() {
	names := podNames{Name: os.Getenv("POD_NAME"), Namespace: os.Getenv("POD_NAMESPACE"), Account: os.Getenv("SERVICE_ACCOUNT")}
	args := os.Args[1:]
	var first string
	if len(args) > 0 {
		first = args[0]
	}
	var err error
	switch first {
	case "capture":
		err = captureCommand(args[1:], os.Stdout, os.Stderr)
	case "verify":
		err = verifyCommand(context.Background(), args[1:], os.Stdout, os.Stderr)
	case "wait":
		err = waitCommand(context.Background(), args[1:], os.Stderr)
	default:
		err = proxyCommand(args, names, os.Getenv("GOGC") == "", os.Stdout, os.Stderr)
	}
	var wrong usageError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.As(err, &wrong):
		os.Exit(2) // it is said already
	default:
		fmt.Fprintln(os.Stderr, "hasp-proxy:", err)
		os.Exit(1)
	}
}

// proxyCommand runs a proxy until a signal ends it.
func proxyCommand(args []string, names podNames, tighten bool, stdout, stderr io.Writer) error {
	o, err := parse(args, names, stderr)
	if err != nil {
		return err
	}
	if o.version {
		fmt.Fprintln(stdout, "hasp-proxy", version())
		return nil
	}
	if err := noCore(); err != nil {
		fmt.Fprintln(stderr, "hasp-proxy:", err) // no reason not to serve
	}
	boot := o.boot
	if boot == nil {
		if boot, err = readBootstrap(o.bootstrapFD); err != nil {
			return err
		}
	}
	// Silent connections are most of the heap and none of it is garbage: a
	// tighter collector costs little and keeps a sidecar small.
	if tighten {
		debug.SetGCPercent(50)
	}
	// A second signal kills: stop gives the first one back to the runtime.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	context.AfterFunc(ctx, stop)
	if tighten {
		go quiet.GiveBack(ctx)
	}
	return run(ctx, boot, o.options, stdout, stderr)
}

// parse takes the command line of a proxy apart. What is wrong with it is
// written to out, and the error is a usageError.
func parse(args []string, names podNames, out io.Writer) (command, error) {
	role := ""
	if len(args) > 0 && slices.Contains([]string{"sidecar", "gateway"}, args[0]) {
		role, args = args[0], args[1:]
	}
	if role != "" {
		return parsePod(role, args, names, out)
	}
	var c command
	f := newFlags("hasp-proxy", usage, out)
	f.IntVar(&c.bootstrapFD, "bootstrap-fd", 3, "inherited `descriptor` to read the bootstrap from")
	f.BoolVar(&c.version, "version", false, "print the version and exit")
	c.options.flags(f)
	if err := f.parse(args); err != nil {
		return c, err
	}
	if err := c.options.check(); err != nil {
		return c, f.fail(err)
	}
	if c.bootstrapFD < 0 {
		return c, f.fail(fmt.Errorf("--bootstrap-fd %d: not a descriptor", c.bootstrapFD))
	}
	return c, nil
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && v == "(devel)" {
			v = s.Value
		}
	}
	return strings.TrimSpace(v + " " + info.GoVersion)
}
