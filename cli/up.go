package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"hasp/local"
)

// upFlags are the settings of a mesh on this machine.
type upFlags struct {
	local.Options
	app        string
	onDemand   onDemand
	foreground bool
}

func newUp(e *env) *cobra.Command {
	var f upFlags
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start the mesh on this machine",
		Long: `Start the API server, the control plane and the sandbox in one background
process, and in it the shared-boards app with its gateway. Everything is kept in
the state directory and is there again at the next start. With --app none the
mesh starts empty, for services of your own.`,
		Example: `  hasp up
  hasp up --app none --project shop     for your own services in namespace shop
  hasp up --foreground                  until Ctrl-C`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return up(cmd.Context(), e, &f) },
	}
	f.register(e, cmd)
	cmd.Flags().BoolVar(&f.foreground, "foreground", false, "stay attached; Ctrl-C stops the mesh")
	return cmd
}

func (f *upFlags) register(e *env, cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.app, "app", e.defaultApp(), "directory of the demo app's manifests, or none")
	fs.StringVar(&f.Project, "project", "microservices-demo", "namespace of the app, and of the kubeconfig's context")
	fs.StringVar(&f.Images, "images", "", "YAML file with more image names and the local programs they stand for")
	fs.IntVar(&f.HTTPPort, "http-port", 0, "port on 127.0.0.1 for the gateway's port 80 (default 8080 or a free one)")
	fs.IntVar(&f.HTTPSPort, "https-port", 0, "port on 127.0.0.1 for the gateway's port 443 (default 8443 or a free one)")
	fs.IntVar(&f.APIPort, "api-port", 0, "port on 127.0.0.1 of the API server (default 16443 or a free one)")
	fs.IntVar(&f.DashboardPort, "dashboard-port", 0, "port on 127.0.0.1 of the dashboard (default 20001 or a free one)")
	fs.DurationVar(&f.CertLifetime, "cert-lifetime", 24*time.Hour, "lifetime of workload certificates, at least 30s")
	fs.StringVar(&f.CACerts, "ca-certs", "", "directory with your own CA, in the layout of Istio's cacerts secret")
	fs.StringSliceVar(&f.EtcdServers, "etcd-servers", nil, "URLs of an etcd to use instead of the embedded one")
	fs.StringVar(&f.EtcdCA, "etcd-cafile", "", "CA of that etcd")
	fs.StringVar(&f.EtcdCert, "etcd-certfile", "", "client certificate for that etcd")
	fs.StringVar(&f.EtcdKey, "etcd-keyfile", "", "key of the client certificate")
	fs.IntVar(&f.LedgerDays, "ledger-days", 30, "how long it is remembered who talked to whom")
	f.onDemand.register(cmd)
	fs.DurationVar(&f.History, "history", 0, "how long every revision of an object stays readable (embedded etcd)")
}

// options are the flags, made absolute and checked.
func (f *upFlags) options(e *env) (local.Options, error) {
	o := f.Options
	o.Dir, o.Bin = absolute(e.Dir, e.state), e.bin()
	if o.CertLifetime < 30*time.Second {
		return o, usageError{fmt.Errorf("--cert-lifetime %s is too short; give at least 30s", o.CertLifetime)}
	}
	if o.LedgerDays < 1 {
		return o, usageError{fmt.Errorf("--ledger-days %d: give at least 1", o.LedgerDays)}
	}
	var err error
	if o.OnDemand, err = f.onDemand.value(); err != nil {
		return o, err
	}
	o.Path = lookup(e.Environ, "PATH")
	if f.app != "none" {
		o.App = absolute(e.Dir, f.app)
		if _, err := os.Stat(filepath.Join(o.App, "app")); err != nil {
			return o, usageError{fmt.Errorf("the demo app's manifests are not in %s; give their directory with --app, or --app none for a mesh without it", o.App)}
		}
	}
	if o.Images != "" {
		o.Images = absolute(e.Dir, o.Images)
	}
	if o.CACerts != "" {
		o.CACerts = absolute(e.Dir, o.CACerts)
	}
	if _, err := os.Stat(filepath.Join(o.Bin, "hasp-proxy")); err != nil {
		return o, fmt.Errorf("hasp-proxy is not beside %s; build both with make build", e.Executable)
	}
	return o, nil
}

func absolute(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// defaultApp is the demo directory of the checkout the program was built in, or
// the one installed beside it.
func (e *env) defaultApp() string {
	for _, dir := range []string{filepath.Join(e.bin(), "..", "demo"), filepath.Join(e.bin(), "..", "share", "hasp", "demo")} {
		if _, err := os.Stat(filepath.Join(dir, "app")); err == nil {
			return filepath.Clean(dir)
		}
	}
	return "none"
}

func up(ctx context.Context, e *env, f *upFlags) error {
	o, err := f.options(e)
	if err != nil {
		return err
	}
	p := newProgress(e.Err, e.Terminal)
	start := time.Now()
	m, err := local.Start(ctx, o, !f.foreground, e.Executable, []string{"daemon"}, p.step)
	p.done()
	var running *local.RunningError
	if errors.As(err, &running) {
		fmt.Fprintf(e.Out, "The mesh already runs (process %d); hasp down stops it.\n\n", running.State.PID)
		describe(e.Out, running.State)
		return nil
	}
	if err != nil {
		return e.blame(err)
	}
	fmt.Fprintf(e.Out, "The mesh is up after %.1f s.\n\n", time.Since(start).Seconds())
	describe(e.Out, m.State)
	if !f.foreground {
		return nil
	}
	return wait(ctx, m)
}

// wait for Ctrl-C, then stop the mesh; or for the mesh to end by itself.
func wait(ctx context.Context, m *local.Mesh) error {
	select {
	case <-ctx.Done():
		return local.Stop(context.WithoutCancel(ctx), m.State.Dir, 10*time.Second)
	case <-m.Done():
		return fmt.Errorf("the mesh ended; its log is %s", local.LogPath(m.State.Dir))
	}
}

func describe(w io.Writer, s local.State) {
	if s.App {
		fmt.Fprintf(w, "  web page    %s  (TLS: %s)\n", s.Page, s.PageTLS)
	}
	fmt.Fprintf(w, "  dashboard   %s\n", s.Dashboard)
	fmt.Fprintf(w, "  API server  %s\n", s.API)
	fmt.Fprintf(w, "  kubectl     export KUBECONFIG=%s\n", s.Kubeconfig)
}
