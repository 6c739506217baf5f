package service

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

// Program is what a command's main hands to [Main]: it declares flags on fs,
// parses args, and runs until ctx ends.
type Program func(ctx context.Context, in Input) error

// Input is what a program is given of the world around it.
type Input struct {
	// Flags is an empty set, named after the program; [Input.Parse] parses Args.
	Flags *flag.FlagSet
	Args  []string
	// Env answers the value of an environment variable, or the default if it is
	// unset or empty.
	Env func(name, otherwise string) string
	Log *slog.Logger
}

// Parse parses the arguments and refuses what is left over.
func (in Input) Parse() error {
	if err := in.Flags.Parse(in.Args); err != nil {
		return err
	}
	if in.Flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", in.Flags.Arg(0))
	}
	return nil
}

// Listen declares the flag --listen, whose default is the port that the
// environment names in PORT, or port, on all addresses.
func (in Input) Listen(port string) *string {
	return in.Flags.String("listen", ":"+in.Env("PORT", port), "`address` to listen on")
}

// Main runs a program until SIGTERM or SIGINT and returns its exit status.
func Main(name string, run Program) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	// The second signal is not ours any more: it ends a program that hangs.
	context.AfterFunc(ctx, stop)

	log := slog.New(slog.NewJSONHandler(os.Stderr, nil)).With(slog.String("service", name))
	err := run(ctx, Input{
		Flags: flag.NewFlagSet(name, flag.ContinueOnError),
		Args:  os.Args[1:],
		Env:   getenv,
		Log:   log,
	})
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	default:
		log.Error("failed", slog.String("error", err.Error()))
		return 1
	}
}

func getenv(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}
