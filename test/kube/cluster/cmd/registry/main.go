// Command registry serves container images from memory: the archives of a
// directory, each under the reference that is written in it, and images of one
// static program each. Which registry a reference names does not matter, so that
// one mirror stands for all of them.
//
//	registry -listen 127.0.0.1:5000 -archives images registry.k8s.io/pause:3.10=bin/pause
//
// It prints "ready" when everything can be pulled.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:5000", "address and port")
	archives := flag.String("archives", "", "directory of image archives (docker save), *.tar")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: registry [-listen ADDRESS] [-archives DIRECTORY] [REFERENCE=PROGRAM ...]")
		flag.PrintDefaults()
	}
	flag.Parse()
	if err := run(*listen, *archives, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "registry:", err)
		os.Exit(1)
	}
}

func run(listen, archives string, programs []string) error {
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	served := make(chan error, 1)
	go func() { served <- http.Serve(ln, registry.New(registry.Logger(log.New(io.Discard, "", 0)))) }()

	if archives != "" {
		if err := pushArchives(listen, archives); err != nil {
			return err
		}
	}
	for _, p := range programs {
		ref, path, ok := strings.Cut(p, "=")
		if !ok {
			return fmt.Errorf("%q is not REFERENCE=PROGRAM", p)
		}
		img, err := programImage(path)
		if err != nil {
			return err
		}
		if err := push(listen, ref, img); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	return errors.Join(errors.New("no longer serving"), <-served)
}

// push img so that a mirror at listen answers for ref: the registry in ref is
// left out, the repository and the tag stay.
func push(listen, ref string, img v1.Image) error {
	want, err := name.NewTag(ref)
	if err != nil {
		return fmt.Errorf("image reference %q: %w", ref, err)
	}
	mirror, err := name.NewTag(listen+"/"+want.RepositoryStr()+":"+want.TagStr(), name.Insecure)
	if err != nil {
		return fmt.Errorf("image reference %q: %w", ref, err)
	}
	if err := remote.Write(mirror, img); err != nil {
		return fmt.Errorf("store %s: %w", ref, err)
	}
	fmt.Println("has", want)
	return nil
}
