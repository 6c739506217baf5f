// Command hasp is the mesh on one machine, its control plane and its command
// line. Started under the name oc or kubectl it is kubectl on the mesh.
package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/term"

	"hasp/cli"
	"hasp/local"
)

func main() {
	// A mesh in the foreground dies with the thread that started it: it must be
	// one that lives as long as the process.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Run(ctx, config())
	stop()
	os.Exit(code)
}

func config() cli.Config {
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	dir, err := os.Getwd()
	if err != nil {
		dir = "/"
	}
	state := os.Getenv("HASP_STATE_DIR")
	if state == "" {
		state = local.DefaultDir(os.Getenv("XDG_STATE_HOME"), os.Getenv("HOME"))
	}
	return cli.Config{
		Args: os.Args[1:], Name: filepath.Base(os.Args[0]), Executable: self,
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Terminal: term.IsTerminal(int(os.Stdout.Fd())),
		Size:    size,
		Environ: os.Environ(), Dir: dir, StateDir: state, Kubeconfig: os.Getenv("KUBECONFIG"),
	}
}

// size of the terminal on standard output; of none it is 0.
func size() (columns, lines int) {
	columns, lines, err := term.GetSize(int(os.Stdout.Fd()))
	if err != nil {
		return 0, 0
	}
	return columns, lines
}
