// Package node runs a real Kubernetes of one node on this machine: etcd, API
// server, controllers, scheduler, kubelet, kube-proxy, containerd, CoreDNS, and a
// registry for images that were built here. Everything is in mount, network,
// process, host name and IPC namespaces of its own, and ends with the first
// process in them.
//
//	n, err := node.Start(ctx, node.Config{Dir: t.TempDir(), Bin: "bin/kube", Images: "bin/images"})
//	defer n.Close()
//	out, err := n.Command(ctx, "kubectl", "get", "nodes").CombinedOutput()
//
// Start needs root, and from Debian containerd, runc and the CNI plugins. It
// touches nothing outside of Config.Dir but the cgroups of its pods, which Close
// removes; the next Start removes those of a program that was killed.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Config of a node.
type Config struct {
	// Dir, empty or not there yet, gets all that the node writes. Not on an
	// overlay file system, since containers' layers are below.
	Dir string
	// Bin is what "make kube-cluster" built, bin/kube.
	Bin string
	// Images is a directory of archives (docker save), *.tar. A container gets
	// the image that has its repository and tag, whatever the registry is called.
	// Empty: only what the node itself needs.
	Images string
	// Programs that are images, too: static, the entrypoint of an image that has
	// nothing else. By reference, for the pods of a test.
	Programs map[string]string
	// Log of the node's own steps; components write to Dir/log. Nil: nothing.
	Log *slog.Logger
}

// Node that is Ready, with DNS.
type Node struct {
	// Kubeconfig of the administrator. The address in it is reachable in the
	// node's network only: use Command.
	Kubeconfig string
	// AuditLog, a JSON event a line, of what ServiceAccounts in istio-system ask
	// the API server for.
	AuditLog string

	layout layout
	log    *slog.Logger
	space  *namespaces

	mu        sync.Mutex
	processes map[string]*process
}

// Start a node and wait until it is Ready and answers DNS. Who calls it calls
// Close. The error of a start that failed contains what the components last said.
func Start(ctx context.Context, config Config) (*Node, error) {
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	for _, p := range []*string{&config.Dir, &config.Bin, &config.Images} {
		if *p == "" {
			continue
		}
		abs, err := filepath.Abs(*p)
		if err != nil {
			return nil, fmt.Errorf("kube node: %w", err)
		}
		*p = abs
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("kube node: a kubelet needs root: run it as root")
	}
	if _, err := os.Stat(filepath.Join(config.Bin, "kubernetes")); err != nil {
		return nil, fmt.Errorf("kube node: no Kubernetes to run (make kube-cluster builds it): %w", err)
	}
	n := &Node{log: config.Log, processes: map[string]*process{}}
	if err := n.start(ctx, config); err != nil {
		// Asked before the node is gone.
		var says report
		n.Diagnose(context.WithoutCancel(ctx), &says)
		return nil, errors.Join(fmt.Errorf("kube node: %w\n%s", err, says.String()), n.Close())
	}
	return n, nil
}

// start is the life of a node until it is Ready.
func (n *Node) start(ctx context.Context, config Config) error {
	begin := time.Now()
	sweepCgroups()
	cgroup := fmt.Sprintf("%s%d-%d", cgroupPrefix, os.Getpid(), begin.UnixNano()%1e6)
	n.layout = newLayout(config, cgroup)
	n.Kubeconfig = n.layout.path("pki/admin.conf")
	n.AuditLog = n.layout.path("audit.log")
	if err := os.MkdirAll(config.Dir, 0o755); err != nil {
		return err
	}
	if err := n.layout.write(); err != nil {
		return fmt.Errorf("write the node's files: %w", err)
	}
	if err := makeCgroups(cgroup); err != nil {
		return err
	}
	space, err := enter(n.layout)
	if err != nil {
		return err
	}
	n.space = space

	for _, c := range n.layout.foundation() {
		if err := n.run(c); err != nil {
			return err
		}
	}
	if err := n.until(ctx, "the API server to be ready", func() error {
		return n.quiet(ctx, "kubectl", "get", "--raw", "/readyz")
	}); err != nil {
		return err
	}
	n.log.Info("API server ready", slog.Duration("after", time.Since(begin)))

	for _, c := range n.layout.workers() {
		if err := n.run(c); err != nil {
			return err
		}
	}
	if err := n.until(ctx, "CoreDNS and the volumes to be accepted", func() error {
		return n.quiet(ctx, "kubectl", "apply", "-f", n.layout.path("etc/addons.yaml"))
	}); err != nil {
		return err
	}
	if err := n.until(ctx, "the node to be Ready", func() error {
		return n.quiet(ctx, "kubectl", "wait", "--for=condition=Ready", "node/"+n.layout.Name, "--timeout=5s")
	}); err != nil {
		return err
	}
	n.log.Info("node Ready", slog.Duration("after", time.Since(begin)))
	if err := n.until(ctx, "CoreDNS to run", func() error {
		return n.quiet(ctx, "kubectl", "-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=5s")
	}); err != nil {
		return err
	}
	n.log.Info("DNS answers", slog.Duration("after", time.Since(begin)))
	return nil
}

// patience with each step of the start. A machine that does much else at the
// same time needs most of it.
const patience = 3 * time.Minute

// until asks again and again until ok has no error. It gives up when a component
// has ended, since then nothing gets better.
func (n *Node) until(ctx context.Context, what string, ok func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok()
		if err == nil {
			return nil
		}
		if ended := n.ended(); ended != nil {
			return fmt.Errorf("wait for %s: %w", what, ended)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w: %w", what, ctx.Err(), err)
		case <-tick.C:
		}
	}
}

// Close ends every process of the node and removes its cgroups. It may be called
// again. Config.Dir stays, for who wants to read the logs.
func (n *Node) Close() error {
	if n.space != nil {
		n.space.close()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.processes {
		<-p.done
	}
	return removeCgroups(n.layout.Cgroup)
}
