// Command bench measures what a pair of sidecars costs, beside what users would
// pick instead, in one run: `make bench`.
//
// Each peer is a client's and a server's proxy on loopback with mutual TLS 1.3
// between them, a load before and a workload behind, each in a process of its
// own (package load). Peers take turns within a round, in an order that rotates;
// what counts is the CPU time of the two proxies. docs/benchmarks.md is written
// by this program.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"hasp/test/bench/load"
)

// partWord is in the environment of this program where it is a part of the bench.
const partWord = "HASP_BENCH_PART"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if os.Getenv(partWord) != "" {
		return runPart(ctx, args)
	}
	var b bench
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.IntVar(&b.rounds, "rounds", 5, "`rounds` in all; 0 measures nothing")
	f.DurationVar(&b.length, "for", 1500*time.Millisecond, "`length` of a run; those at 1,000/s are twice as long")
	f.BoolVar(&b.brief, "brief", false, "a few requests of each kind, to see that all of it works")
	only := f.String("only", "", "`peers` to measure, separated by commas; all without it")
	which := f.String("measures", "", "`measures` to take, separated by commas; all without it")
	form := f.String("o", "text", "`form` of what is printed: text or json")
	f.StringVar(&b.profiles, "profiles", "", "`folder` that gets CPU profiles of our sidecars, from their start to their end")
	out := f.String("out", "", "`file` that gets the document, in Markdown")
	f.DurationVar(&b.settle, "settle", 130*time.Second, "`time` that idle connections have before memory is looked at")
	if err := f.Parse(args); err != nil {
		return err
	}
	if err := b.choose(*only, *which); err != nil {
		return err
	}
	b.progress = stderr
	if b.profiles != "" {
		var err error
		if b.profiles, err = filepath.Abs(b.profiles); err != nil {
			return err
		}
		if err := os.MkdirAll(b.profiles, 0o755); err != nil {
			return err
		}
	}
	root, err := repository()
	if err != nil {
		return err
	}
	r := &report{bench: &b}
	if b.rounds > 0 {
		if r, err = b.run(ctx, root); ctx.Err() != nil {
			return errors.New("interrupted")
		} else if err != nil {
			return err
		}
	}
	if *out != "" {
		if err := os.WriteFile(*out, []byte(r.document()), 0o644); err != nil {
			return err
		}
	}
	if b.rounds == 0 {
		return nil
	}
	return r.print(stdout, *form)
}

// runPart is what this program does as a part of the bench.
func runPart(ctx context.Context, args []string) error {
	switch {
	case len(args) == 1 && args[0] == "backend":
		ctx, cancel := context.WithCancel(ctx)
		go func() { // the end of the standard input is the end of the bench
			_, _ = io.Copy(io.Discard, os.Stdin)
			cancel()
		}()
		return load.Serve(ctx, os.Stdout)
	case len(args) == 2 && args[0] == "load":
		var p load.Plan
		if err := json.Unmarshal([]byte(args[1]), &p); err != nil {
			return err
		}
		return load.Run(p, os.Stdin, os.Stdout)
	}
	return fmt.Errorf("%s is set, and %q is no part", partWord, args)
}

// choose takes the peers and measures that are asked for.
func (b *bench) choose(only, which string) error {
	wanted := words(only)
	for _, p := range peers() {
		if wanted.take(p.name) {
			b.peers = append(b.peers, p)
		}
	}
	if err := wanted.rest("peer"); err != nil {
		return err
	}
	wanted = words(which)
	for _, m := range measures() {
		if wanted.take(m.name) {
			b.measures = append(b.measures, m)
		}
	}
	b.idle = wanted.take(idle().name)
	return wanted.rest("measure")
}

// list of words that were asked for; nil is all.
type list map[string]bool

func words(s string) list {
	if s == "" {
		return nil
	}
	out := list{}
	for _, w := range strings.Split(s, ",") {
		out[strings.TrimSpace(w)] = true
	}
	return out
}

func (l list) take(name string) bool {
	if l == nil {
		return true
	}
	ok := l[name]
	delete(l, name)
	return ok
}

// rest complains about words that nobody took.
func (l list) rest(kind string) error {
	for w := range l {
		return fmt.Errorf("there is no %s %q", kind, w)
	}
	return nil
}

// repository is where the module's root is.
func repository() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	file := strings.TrimSpace(string(out))
	if filepath.Base(file) != "go.mod" {
		return "", errors.New("this is to be run in the repository: go run ./test/bench")
	}
	return filepath.Dir(file), nil
}
