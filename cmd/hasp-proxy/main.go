// Command hasp-proxy is the sidecar, and the gateway, of one workload. Whoever
// starts it hands it a mesh.Bootstrap on an inherited descriptor; the rest it
// learns from its control plane.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"
)

const usage = `hasp-proxy is the sidecar of one workload: it takes the workload's connections
and speaks mutual TLS for it. "hasp up" starts it; by hand it is

  hasp-proxy --bootstrap-fd 3 3< bootstrap.json

where bootstrap.json says where the control plane is and holds the token that
proves the workload once. SIGTERM lets connections end for the drain time.

Flags:
`

// options are what the command line says.
type options struct {
	bootstrapFD int
	accessLog   string // "text", "json" or "off"
	level       slog.Level
	drain       time.Duration
	version     bool
}

func main() {
	opts, err := parse(os.Args[1:], os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		os.Exit(2) // flag has said what is wrong
	case opts.version:
		fmt.Println("hasp-proxy", version())
		return
	}
	// Silent connections are most of the heap and none of it is garbage: a
	// tighter collector costs little and keeps a sidecar small.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	// A second signal kills: stop gives the first one back to the runtime.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	context.AfterFunc(ctx, stop)
	if err := run(ctx, opts, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "hasp-proxy:", err)
		os.Exit(1)
	}
}

func parse(args []string, out io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("hasp-proxy", flag.ContinueOnError)
	f.SetOutput(out)
	f.Usage = func() {
		fmt.Fprint(out, usage)
		f.PrintDefaults()
	}
	f.IntVar(&o.bootstrapFD, "bootstrap-fd", 3, "inherited `descriptor` to read the bootstrap from")
	f.StringVar(&o.accessLog, "access-log", "text", "`form` of the access log on standard output: off, or text or json where the mesh says nothing")
	f.TextVar(&o.level, "log-level", slog.LevelInfo, "least `level` of the log on standard error: debug, info, warn or error")
	f.DurationVar(&o.drain, "drain", 5*time.Second, "how long connections may go on after SIGTERM, where the mesh says nothing")
	f.BoolVar(&o.version, "version", false, "print the version and exit")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	fail := func(format string, a ...any) (options, error) {
		err := fmt.Errorf(format, a...)
		fmt.Fprintln(out, "hasp-proxy:", err)
		return o, err
	}
	switch {
	case f.NArg() > 0:
		return fail("unexpected argument %q", f.Arg(0))
	case o.accessLog != "text" && o.accessLog != "json" && o.accessLog != "off":
		return fail("--access-log %q: it is text, json or off", o.accessLog)
	case o.bootstrapFD < 0:
		return fail("--bootstrap-fd %d: not a descriptor", o.bootstrapFD)
	}
	return o, nil
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
	return v + " " + info.GoVersion
}
