// Command with runs a command in a network namespace of its own, where what its
// processes say to each other goes past TCP by eBPF sockmap, and tells what it
// cost:
//
//	go run ./test/sockmap/with python3 -m unittest
//
// It needs root.
package main

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"

	"hasp/test/sockmap"
)

func main() {
	var o sockmap.Options
	off := flag.Bool("off", false, "leave everything to TCP, to compare")
	flag.BoolVar(&o.OneWay, "one-way", false, "leave to TCP what servers send")
	flag.Func("except", "`address` of servers to which connections are left to TCP", func(s string) (err error) {
		o.Except, err = netip.ParseAddr(s)
		return err
	})
	flag.Parse()
	if flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "with: which command?")
		os.Exit(2)
	}
	cmd := exec.Command(flag.Arg(0), flag.Args()[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := run(cmd, o, *off)
	if s := cmd.ProcessState; s != nil {
		fmt.Fprintf(os.Stderr, "with: user %v, system %v\n", s.UserTime(), s.SystemTime())
	}
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		os.Exit(max(e.ExitCode(), 1))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "with:", err)
		os.Exit(1)
	}
}

func run(cmd *exec.Cmd, o sockmap.Options, off bool) (err error) {
	dir, remove, err := sockmap.Cgroup()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	if !off {
		o.Cgroup = dir
		s, err := sockmap.Load(o)
		if err != nil {
			return err
		}
		defer s.Close()
	}
	return sockmap.Run(cmd, dir)
}
