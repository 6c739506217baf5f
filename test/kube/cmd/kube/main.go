// Command kube brings up a real Kubernetes of one node on this machine, says how
// to use it, and takes it down at Ctrl-C. "make kube" builds what it needs.
//
//	kube [-bin bin/kube] [-images bin/images] [-dir DIR] [COMMAND ARG ...]
//
// With a command it runs that in the node's network, and ends with its status.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"hasp/test/kube/node"
)

func main() {
	bin := flag.String("bin", "bin/kube", "directory of the programs that make kube-cluster built")
	images := flag.String("images", "bin/images", "directory of image archives; left out when there is none")
	dir := flag.String("dir", "", "directory for the node's files, which stay (default a temporary one)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	status, err := run(ctx, *bin, *images, *dir, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "kube:", err)
		os.Exit(1)
	}
	os.Exit(status)
}

// run the node; status is the command's.
func run(ctx context.Context, bin, images, dir string, command []string) (status int, err error) {
	if archives, _ := filepath.Glob(filepath.Join(images, "*.tar")); len(archives) == 0 {
		fmt.Fprintf(os.Stderr, "No images in %s (make images builds them): the node has only its own.\n", images)
		images = ""
	}
	if dir == "" {
		dir, err = os.MkdirTemp("", "hasp-kube-")
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	n, err := node.Start(ctx, node.Config{Dir: dir, Bin: bin, Images: images, Log: log})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	if len(command) > 0 {
		cmd := n.Command(ctx, command[0], command[1:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		err := cmd.Run()
		if _, exited := err.(*exec.ExitError); exited {
			return cmd.ProcessState.ExitCode(), nil // it has said why
		}
		return 0, err
	}
	fmt.Printf(`The node is up. Anywhere on this machine, as root:
  export KUBECONFIG=%s PATH=%s:$PATH
  nsenter --target %d --net -- kubectl get pods -A    # also oc, helm, curl, bash
Its files and logs: %s
Ctrl-C ends it.
`, n.Kubeconfig, filepath.Join(dir, "bin"), n.PID(), dir)
	<-ctx.Done()
	return 0, nil
}
