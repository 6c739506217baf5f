// Command images makes the container images of hasp and of its demo, without
// Docker and without a registry:
//
//	go build -o ../../bin/images/ ./after-stdin
//	go run . --bin ../../bin --out ../../bin/images --tag 0.3.0
//
// An image is a value here: a [recipe] says what goes in, [build] makes it, and
// it leaves as a docker-archive (one tar an image, for "ctr images import") or
// to a registry. The same programs give the same digests, on any day and in any
// order. It is a module of its own, so that hasp links none of this.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

const usage = `images makes container images from programs that are built already.

  images --bin bin --out bin/images --tag 0.3.0
  images --only hasp-proxy,hasp-demo/boards
  images --push localhost:5000                 # hasp's hub below it, and a mirror of docker.io

Flags:
`

// config is everything that the command is told.
type config struct {
	bin      string // directory of the programs
	out      string // directory of the tars
	hub      string // where hasp's own images are named: localhost:5000/hasp
	tag      string // of hasp's own images
	only     []string
	push     string // registry, with or without a path
	revision string // commit
	source   string // URL of the sources
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c, err := parse(os.Args[1:], os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		os.Exit(2) // flag has said it
	}
	if err := run(ctx, c, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func parse(args []string, out io.Writer) (config, error) {
	var c config
	var only string
	fs := flag.NewFlagSet("images", flag.ContinueOnError)
	fs.SetOutput(out)
	fs.Usage = func() { fmt.Fprint(out, usage); fs.PrintDefaults() }
	fs.StringVar(&c.bin, "bin", "bin", "`directory` of the programs")
	fs.StringVar(&c.out, "out", "bin/images", "`directory` that gets a tar and an SBOM for each image, and has after-stdin")
	fs.StringVar(&c.hub, "hub", "localhost:5000/hasp", "`prefix` of the names of hasp's own images, as in quay.io/me/hasp")
	fs.StringVar(&c.tag, "tag", "latest", "`tag` of hasp's own images, as in 0.3.0; the demo's have latest, as its manifests say")
	fs.StringVar(&only, "only", "", "`names` of the images to make, comma separated, as in hasp-proxy,hasp-demo/boards")
	fs.StringVar(&c.push, "push", "", "push to this `registry` too, with or without a path, as in localhost:5000 or quay.io/me")
	fs.StringVar(&c.revision, "revision", "", "`commit` for the label org.opencontainers.image.revision")
	fs.StringVar(&c.source, "source", "", "`URL` for the label org.opencontainers.image.source")
	if err := fs.Parse(args); err != nil {
		return config{}, err
	}
	if fs.NArg() > 0 {
		err := fmt.Errorf("images: unexpected argument %q", fs.Arg(0))
		fmt.Fprintln(out, err)
		return config{}, err
	}
	if only != "" {
		c.only = strings.Split(only, ",")
	}
	return c, nil
}

// run makes the images one after another: each is at most a program's size in
// memory.
func run(ctx context.Context, c config, out io.Writer) error {
	list, err := choose(recipes, c.only)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.out, 0o755); err != nil {
		return err
	}
	for _, r := range list {
		img, err := build(ctx, r, c)
		if err != nil {
			return fmt.Errorf("image %s: %w", r.name, err)
		}
		file := filepath.Join(c.out, r.file())
		if err := img.save(file); err != nil {
			return fmt.Errorf("image %s: %w", r.name, err)
		}
		fmt.Fprintf(out, "%s.tar\t%s@%s\n", file, img.ref, img.digest)
		if c.push == "" {
			continue
		}
		ref, err := img.push(ctx, c.push)
		if err != nil {
			return fmt.Errorf("image %s: push: %w", r.name, err)
		}
		fmt.Fprintf(out, "pushed\t%s\n", ref)
	}
	return nil
}

// choose picks recipes by name, in the recipes' order.
func choose(from []recipe, names []string) ([]recipe, error) {
	if len(names) == 0 {
		return from, nil
	}
	var out []recipe
	for _, r := range from {
		if slices.Contains(names, r.name) {
			out = append(out, r)
		}
	}
	for _, n := range names {
		if !slices.ContainsFunc(from, func(r recipe) bool { return r.name == n }) {
			var known []string
			for _, r := range from {
				known = append(known, r.name)
			}
			return nil, fmt.Errorf("no image is called %q; there are %s", n, strings.Join(known, ", "))
		}
	}
	return out, nil
}
