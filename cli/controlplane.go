package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"hasp/cluster"
)

// controlPlaneFlags are those of hasp controlplane.
type controlPlaneFlags struct {
	kubeconfig, pod, logLevel                   string
	xds, webhook, health, metrics, admin        int
	lifetime, drain                             time.Duration
	caAddress, caName, caTokenFile, caRootsFile string
	ledger                                      string
	ledgerDays                                  int
	onDemand                                    onDemand
}

func newControlPlane(e *env) *cobra.Command {
	f := &controlPlaneFlags{}
	cmd := &cobra.Command{
		Use:   "controlplane",
		Short: "Run the control plane on a Kubernetes cluster",
		Long: `Run one replica of the control plane: it tells proxies their configuration, signs
their certificates, injects sidecars and checks the mesh's objects at apply. The
chart's Deployment istiod runs it; it stops on SIGTERM and never touches the
mesh's own traffic.

In a pod it finds the API server by its ServiceAccount. The authority is Secret
cacerts in istio-system, else one of its own in istio-ca-secret; with
--ca-address another authority signs, such as cert-manager's istio-csr.`,
		Example: `  hasp controlplane
  hasp controlplane --kubeconfig ~/.kube/config --pod my-laptop
  hasp controlplane --ca-address cert-manager-istio-csr.cert-manager.svc:443`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return controlPlane(cmd.Context(), e, f) },
	}
	fs := cmd.Flags()
	fs.StringVar(&f.kubeconfig, "kubeconfig", "", "`FILE` that says where the API server is; empty is the pod's ServiceAccount")
	fs.StringVar(&f.pod, "pod", lookup(e.Environ, "POD_NAME"), "name of this replica (default POD_NAME)")
	fs.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	fs.DurationVar(&f.lifetime, "cert-lifetime", 24*time.Hour, "lifetime of workload certificates, at least 30s")
	fs.DurationVar(&f.drain, "drain", cluster.DefaultDrain, "how long it goes on serving after it was told to stop")
	fs.IntVar(&f.xds, "xds-port", 15012, "port of xDS and certificates")
	fs.IntVar(&f.webhook, "webhook-port", 15017, "port of the webhooks")
	fs.IntVar(&f.health, "health-port", 15021, "port of /healthz/ready and /healthz/live")
	fs.IntVar(&f.metrics, "metrics-port", 15014, "port of /metrics")
	fs.IntVar(&f.admin, "admin-port", 15000, "port on 127.0.0.1 of /status, the views of the facts and /debug/pprof")
	fs.StringVar(&f.caAddress, "ca-address", "", "`HOST:PORT` of the authority that signs instead of this one")
	fs.StringVar(&f.caName, "ca-name", "", "DNS name that authority presents (default the host of --ca-address)")
	fs.StringVar(&f.caTokenFile, "ca-token-file", "/var/run/secrets/tokens/istio-token", "`FILE` with the token shown to that authority")
	fs.StringVar(&f.caRootsFile, "ca-roots-file", "/var/run/secrets/istio/root-cert.pem", "`FILE` with the roots that authority is verified against")
	fs.StringVar(&f.ledger, "ledger", "", "`FILE` in which it keeps who talked to whom")
	fs.IntVar(&f.ledgerDays, "ledger-days", 30, "how long it remembers that")
	f.onDemand.register(cmd)
	return cmd
}

func controlPlane(ctx context.Context, e *env, f *controlPlaneFlags) error {
	log, err := logger(e, f.logLevel)
	if err != nil {
		return err
	}
	if f.pod == "" {
		return usageError{errors.New("name this replica with --pod; in a pod POD_NAME does")}
	}
	if f.ledgerDays < 1 {
		return usageError{fmt.Errorf("--ledger-days %d: give at least 1", f.ledgerDays)}
	}
	cfg := cluster.Config{Pod: f.pod, CertLifetime: f.lifetime, Drain: f.drain, Log: log, Ledger: f.ledger, LedgerDays: f.ledgerDays}
	if cfg.OnDemand, err = f.onDemand.value(); err != nil {
		return err
	}
	if f.caAddress != "" {
		host, _, err := net.SplitHostPort(f.caAddress)
		if err != nil {
			return usageError{fmt.Errorf("--ca-address: %w", err)}
		}
		cfg.External = &cluster.External{
			Address: f.caAddress, Name: cmp.Or(f.caName, host), TokenFile: f.caTokenFile, RootsFile: f.caRootsFile,
		}
	}
	if cfg.API, err = cluster.Client(f.kubeconfig); err != nil {
		return err
	}
	// client-go has one logger for the process.
	klog.SetSlogLogger(log.With("from", "kubernetes"))
	if cfg.Listeners, err = f.listen(); err != nil {
		return err
	}
	return cluster.Run(ctx, cfg)
}

func logger(e *env, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, usageError{fmt.Errorf("--log-level %s: want debug, info, warn or error", level)}
	}
	return slog.New(slog.NewTextHandler(e.Err, &slog.HandlerOptions{Level: l})), nil
}

// listen on all ports, or on none.
func (f *controlPlaneFlags) listen() (cluster.Listeners, error) {
	var l cluster.Listeners
	var open []net.Listener
	for _, p := range []struct {
		ln   *net.Listener
		host string
		port int
	}{
		{&l.XDS, "", f.xds}, {&l.Webhook, "", f.webhook}, {&l.Health, "", f.health}, {&l.Metrics, "", f.metrics}, {&l.Admin, "127.0.0.1", f.admin},
	} {
		ln, err := net.Listen("tcp", net.JoinHostPort(p.host, strconv.Itoa(p.port)))
		if err != nil {
			for _, ln := range open {
				ln.Close()
			}
			return l, fmt.Errorf("listen: %w", err)
		}
		*p.ln = ln
		open = append(open, ln)
	}
	return l, nil
}
