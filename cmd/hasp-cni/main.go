// Command hasp-cni captures pods' connections from the node: it is the CNI
// plugin that container runtimes start for each pod, and the agent that the
// plugin asks and that keeps it installed. Package cni has both.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"hasp/cni"
)

const usage = `hasp-cni captures the connections of a node's pods, for pods that may not do so
themselves. A DaemonSet runs the agent; container runtimes start the plugin, which
is this program with CNI_COMMAND in its environment.

  hasp-cni agent --node worker-1      answer the plugin and keep it installed
  hasp-cni ready                      exit 0 when the agent is ready, for a probe
  hasp-cni install --conf-dir /etc/cni/net.d --bin-dir /opt/cni/bin
  hasp-cni uninstall --conf-dir /etc/cni/net.d --bin-dir /opt/cni/bin
  hasp-cni version

Flags:
`

// options are what the command line says.
type options struct {
	command    string
	node       string
	kubeconfig string
	daemonSet  string
	install    cni.Installer
	exclude    string
	level      slog.Level
}

func main() {
	if os.Getenv("CNI_COMMAND") != "" {
		skel.PluginMainFuncs(cni.Plugin(), cni.Versions, "hasp-cni "+version())
		return
	}
	o, err := parse(os.Args[1:], os.Getenv("NODE_NAME"), os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		os.Exit(2) // parse has said what is wrong
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	context.AfterFunc(ctx, stop) // a second signal kills
	if err := run(ctx, o, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "hasp-cni:", err)
		os.Exit(1)
	}
}

func parse(args []string, node string, out io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("hasp-cni", flag.ContinueOnError)
	f.SetOutput(out)
	f.Usage = func() { fmt.Fprint(out, usage); f.PrintDefaults() }
	f.StringVar(&o.node, "node", node, "`name` of this node; NODE_NAME in the environment says it too")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "`file` with the way to the API server; by default the pod's own ServiceAccount")
	f.StringVar(&o.daemonSet, "daemonset", "istio-system/hasp-cni-node", "`NAMESPACE/NAME` of the agent's DaemonSet: when it is deleted the plugin goes too")
	f.StringVar(&o.install.Settings.Socket, "socket", cni.Socket, "`path` of the agent's socket, the same on the node")
	f.StringVar(&o.install.BinDir, "bin-dir", "/host/opt/cni/bin", "the node's `directory` of CNI programs")
	f.StringVar(&o.install.ConfDir, "conf-dir", "/host/etc/cni/net.d", "the node's `directory` of network configurations")
	f.BoolVar(&o.install.Chained, "chained", true, "join the first network of --conf-dir; false gives the plugin one of its own, for Multus")
	f.StringVar(&o.exclude, "exclude-namespaces", "kube-system,istio-system", "`namespaces` whose pods are never captured and start without the agent, comma separated")
	f.TextVar(&o.level, "log-level", slog.LevelInfo, "least `level` of the log on standard error: debug, info, warn or error")
	fail := func(err error) (options, error) {
		fmt.Fprintln(out, "hasp-cni:", err)
		return o, err
	}
	// The command comes first, as everywhere; --help may stand alone.
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		o.command, args = args[0], args[1:]
	}
	if err := f.Parse(args); err != nil {
		return o, err
	}
	switch {
	case f.NArg() > 0:
		return fail(fmt.Errorf("unexpected argument %q", f.Arg(0)))
	case o.command == "":
		return fail(errors.New("a command is needed: agent, ready, install, uninstall or version"))
	case o.command == "agent" && o.node == "":
		return fail(errors.New("--node or NODE_NAME is needed, as in --node worker-1"))
	}
	for namespace := range strings.SplitSeq(o.exclude, ",") {
		if namespace = strings.TrimSpace(namespace); namespace != "" {
			o.install.Settings.ExcludeNamespaces = append(o.install.Settings.ExcludeNamespaces, namespace)
		}
	}
	return o, nil
}

// patience is how long "ready" waits for the agent.
const patience = 2 * time.Second

func run(ctx context.Context, o options, out, errOut io.Writer) error {
	var err error
	if o.install.Program, err = os.Executable(); err != nil {
		return err
	}
	switch o.command {
	case "agent":
		return agent(ctx, o, slog.New(slog.NewTextHandler(errOut, &slog.HandlerOptions{Level: o.level})))
	case "ready":
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		return cni.Ready(ctx, o.install.Settings.Socket)
	case "install":
		_, err := o.install.Install()
		return err
	case "uninstall":
		return o.install.Remove()
	case "version":
		_, err := fmt.Fprintln(out, "hasp-cni", version())
		return err
	}
	return fmt.Errorf("no such command: %q (agent, ready, install, uninstall or version)", o.command)
}

func agent(ctx context.Context, o options, log *slog.Logger) error {
	daemonSet, err := cni.ParseDaemonSet(o.daemonSet)
	if err != nil {
		return err
	}
	config, err := clusterConfig(o.kubeconfig)
	if err != nil {
		return fmt.Errorf("the way to the API server: %w (outside a cluster, name a --kubeconfig)", err)
	}
	config.UserAgent = "hasp-cni"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	return cni.Run(ctx, cni.Config{
		Client: client, Node: o.node, Socket: o.install.Settings.Socket,
		DaemonSet: daemonSet, Install: o.install, Log: log,
	})
}

func clusterConfig(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		return rest.InClusterConfig()
	}
	return clientcmd.BuildConfigFromFlags("", kubeconfig)
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return info.Main.Version + " " + info.GoVersion
}
