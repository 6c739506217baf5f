package node

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// systemPath has the programs of Debian's packages, also for a caller whose own
// path is shorter.
const systemPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Command that runs in the node's network, where the API server, Services and
// pods are, with the caller's files, user and directory. kubectl, oc and helm are
// first in its path and know the cluster. When ctx ends it is killed.
func (n *Node) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	argv := append(append(n.nsenter("--net"), name), args...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = n.Environ()
	return cmd
}

// Environ is the environment of a Command.
func (n *Node) Environ() []string {
	return append(os.Environ(),
		"PATH="+n.Path(),
		"KUBECONFIG="+n.Kubeconfig,
		// What the tools remember is this cluster's, and goes with it.
		"KUBECACHEDIR="+n.layout.path("cache/kube"),
		"HELM_CACHE_HOME="+n.layout.path("cache/helm"),
		"HELM_CONFIG_HOME="+n.layout.path("cache/helm-config"),
		"HELM_DATA_HOME="+n.layout.path("cache/helm-data"),
	)
}

// Path in which a Command's programs are looked for.
func (n *Node) Path() string {
	return n.layout.path("bin") + ":" + os.Getenv("PATH") + ":" + systemPath
}

// PID of the node's first process, whose namespaces are the node's: for
// nsenter(1), for /proc/PID/ns/net, and for /proc/PID/root, its files.
func (n *Node) PID() int { return n.space.pid() }

// NetNS is the file of the node's network namespace. The packets between pods
// cross the interface Bridge in it.
func (n *Node) NetNS() string { return fmt.Sprintf("/proc/%d/ns/net", n.PID()) }

// nsenter is the start of a command that runs in namespaces of the node.
func (n *Node) nsenter(which ...string) []string {
	return append(append([]string{"nsenter", "--target=" + strconv.Itoa(n.PID())}, which...), "--")
}

// quiet runs a command and says what it printed only when it failed.
func (n *Node) quiet(ctx context.Context, name string, args ...string) error {
	out, err := n.Command(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
