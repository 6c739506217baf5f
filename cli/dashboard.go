package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"hasp/control"
	"hasp/dashboard"
	"hasp/local"
)

// dashboardPort is the usual one.
const dashboardPort = 20001

func newDashboard(e *env) *cobra.Command {
	var target clusterFlags
	var port int
	var noBrowser bool
	cmd := &cobra.Command{
		Use:   "dashboard",
		Short: "Open the pages that show who talks to whom, and how",
		Long: `Open the dashboard in a browser: the services and who calls whom, with a lock on
every edge; who speaks plaintext; what a policy would do; who changed what.

The mesh on this machine serves it as long as it runs. For a cluster this command
does, on 127.0.0.1, until Ctrl-C: it asks the control plane through the API
server's port-forward. Nobody else on the network reaches either, but other users
of this machine do.

Without a display, or with --no-browser, it prints the address only.`,
		Example: `  hasp dashboard
  hasp dashboard --context production --port 8000`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if !target.named() && !e.foreignKubeconfig() {
				s, err := local.Find(absolute(e.Dir, e.state))
				if err == nil {
					if cmd.Flags().Changed("port") {
						return usageError{fmt.Errorf("--port: the mesh on this machine serves its dashboard at %s; hasp up --dashboard-port sets that", s.Dashboard)}
					}
					return e.openPage(ctx, s.Dashboard, noBrowser)
				}
				if !errors.Is(err, local.ErrNotRunning) {
					return err
				}
				if e.Config.Kubeconfig == "" && e.kubectlsOwn() == "" {
					return fmt.Errorf("%w; for a cluster set KUBECONFIG or give --kubeconfig", err)
				}
			}
			return serveDashboard(ctx, e, &target, port, noBrowser)
		},
	}
	target.register(cmd)
	cmd.Flags().IntVar(&port, "port", 0, fmt.Sprintf("port on 127.0.0.1, for a cluster's (default %d or a free one)", dashboardPort))
	cmd.Flags().BoolVar(&noBrowser, "no-browser", false, "print the address and open nothing")
	return cmd
}

// serveDashboard of a cluster until ctx ends.
func serveDashboard(ctx context.Context, e *env, target *clusterFlags, port int, noBrowser bool) error {
	rc, err := target.config(e)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	asked := &replica{open: func() (*viewClient, error) { return clusterViews(ctx, e, target) }}
	defer asked.close()
	// Whether there is one at all is known before a page is opened.
	if _, err := asked.views(); err != nil {
		return err
	}
	ln, err := listenLoopback(port)
	if err != nil {
		return err
	}
	views := &dashboard.Remote{
		Client: &http.Client{Transport: asked}, Base: "http://replica", Name: "the control plane of " + rc.Host,
		Namespace: (&candidate{target: *target}).usualNamespace(e),
		StatusOf:  func(ctx context.Context) (any, error) { return askReplicas(ctx, rc) },
	}
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		views.Run(ctx)
	}()
	defer func() { stop(); <-followed }()
	if err := e.openPage(ctx, "http://"+ln.Addr().String(), noBrowser); err != nil {
		ln.Close()
		return err
	}
	fmt.Fprintln(e.Out, "It is served until Ctrl-C.")
	return control.ServeHTTP(ctx, ln, &http.Server{
		Handler: dashboard.Handler(views), ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx }, // open pages do not hold up the end
	})
}

// listenLoopback on a port; 0 is the usual one, or a free one when it is taken.
func listenLoopback(port int) (net.Listener, error) {
	ask := port
	if port == 0 {
		ask = dashboardPort
	}
	ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(ask)))
	if port == 0 && errors.Is(err, syscall.EADDRINUSE) {
		ln, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return nil, fmt.Errorf("the dashboard: %w", err)
	}
	return ln, nil
}

// openPage prints an address and, where there is a display, opens it.
func (e *env) openPage(ctx context.Context, address string, noBrowser bool) error {
	fmt.Fprintln(e.Out, address)
	if noBrowser || lookup(e.Environ, "DISPLAY") == "" && lookup(e.Environ, "WAYLAND_DISPLAY") == "" {
		return nil
	}
	opener, err := exec.LookPath("xdg-open")
	if err != nil {
		return nil // the address is printed
	}
	cmd := exec.CommandContext(ctx, opener, address)
	cmd.Env = e.Environ
	if err := cmd.Run(); err != nil && ctx.Err() == nil {
		fmt.Fprintln(e.Err, "hasp: no browser could be opened:", err)
	}
	return nil
}

// replica is one of the control plane, and another when that one goes away.
type replica struct {
	open func() (*viewClient, error)

	mu  sync.Mutex
	now *viewClient
}

func (r *replica) views() (*viewClient, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now != nil {
		return r.now, nil
	}
	v, err := r.open()
	if err == nil {
		r.now = v
	}
	return v, err
}

// RoundTrip asks the replica, and another one when it cannot be reached.
func (r *replica) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := r.ask(req)
	if err != nil && req.Body == nil && req.Context().Err() == nil {
		resp, err = r.ask(req)
	}
	return resp, err
}

func (r *replica) ask(req *http.Request) (*http.Response, error) {
	v, err := r.views()
	if err != nil {
		return nil, err
	}
	u, err := req.URL.Parse(v.Base + req.URL.RequestURI())
	if err != nil {
		return nil, err
	}
	out := req.Clone(req.Context())
	out.URL, out.Host = u, ""
	resp, err := v.Client.Do(out)
	if err != nil && req.Context().Err() == nil {
		r.drop(v)
	}
	return resp, err
}

func (r *replica) drop(v *viewClient) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now == v {
		r.now = nil
		v.Close()
	}
}

func (r *replica) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now != nil {
		r.now.Close()
		r.now = nil
	}
}
