package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"time"

	"hasp/mesh"
)

// command is what a proxy's command line says.
type command struct {
	options
	boot        *mesh.Bootstrap // nil: it is to be read
	bootstrapFD int             // from here
	version     bool
}

// options are those of every proxy.
type options struct {
	accessLog string // "text", "json" or "off"
	level     slog.Level
	drain     time.Duration
	idle      time.Duration // proxy.Config.IdleTimeout
	relay     string        // "fast" or "portable"
	trunks    string        // "on" or "off"
}

func (o *options) flags(f *flags) {
	f.StringVar(&o.accessLog, "access-log", "text", "`form` of the access log on standard output: off, or text or json where the mesh says nothing")
	f.TextVar(&o.level, "log-level", slog.LevelInfo, "least `level` of the log on standard error: debug, info, warn or error")
	f.StringVar(&o.relay, "relay", "fast", "`what` moves the bytes: fast, an event loop for each processor, or portable, two goroutines a connection")
	f.StringVar(&o.trunks, "trunks", "on", "on or off: `whether` a TLS connection to another sidecar carries one connection after another, where the mesh does not say off; off is a handshake for each")
	f.DurationVar(&o.drain, "drain", 5*time.Second, "how long connections may go on after SIGTERM, where the mesh says nothing")
	f.Func("idle-timeout", "how `long` a connection may be silent before it is ended, 0 for ever (default what the mesh says, else for ever)", o.readIdle)
}

func (o *options) check() error {
	switch {
	case o.accessLog != "text" && o.accessLog != "json" && o.accessLog != "off":
		return fmt.Errorf("--access-log %q: it is text, json or off", o.accessLog)
	case o.relay != "fast" && o.relay != "portable":
		return fmt.Errorf("--relay %q: it is fast or portable", o.relay)
	case o.trunks != "on" && o.trunks != "off":
		return fmt.Errorf("--trunks %q: it is on or off", o.trunks)
	case o.drain < 0:
		return fmt.Errorf("--drain %s: it is not negative", o.drain)
	}
	return nil
}

func (o *options) readIdle(s string) error {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return errors.New("it is a duration such as 1h, or 0")
	}
	if o.idle = d; d == 0 {
		o.idle = -1
	}
	return nil
}

// usageError is a mistake on the command line that was said already.
type usageError struct{ error }

// flags are a command's flags; mistakes are written to out.
type flags struct {
	*flag.FlagSet
	out io.Writer
}

func newFlags(name, usage string, out io.Writer) *flags {
	f := &flags{flag.NewFlagSet(name, flag.ContinueOnError), out}
	f.SetOutput(out)
	f.Usage = func() {
		fmt.Fprint(out, usage)
		f.PrintDefaults()
	}
	return f
}

func (f *flags) parse(args []string) error {
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return err
	case err != nil:
		return usageError{err} // flag has said what is wrong
	}
	if f.NArg() > 0 {
		return f.fail(fmt.Errorf("unexpected argument %q", f.Arg(0)))
	}
	return nil
}

func (f *flags) fail(err error) error {
	fmt.Fprintln(f.out, f.Name()+":", err)
	return usageError{err}
}
