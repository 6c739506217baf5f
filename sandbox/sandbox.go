// Package sandbox runs a cluster's worth of pods on one machine: it is the
// network, the DNS server, the kube-proxy and the kubelet of the embedded API
// server, and its controller of Deployments.
//
// A process enters it by [Command], which starts a program in namespaces of its
// own, and [Setup], which that program calls first. [New] then builds the
// fabric, a bridge that every packet between pods crosses, and [Sandbox.Run]
// makes the pods that the API server has objects for real: processes in network
// namespaces, with a sidecar where the mesh wants one. [Sandbox.Logs] and
// [Sandbox.Attach] are what a kubelet serves. Nothing of it is visible from
// outside, and when the process ends, however it ends, the kernel takes
// everything away.
//
// Pods are what the Kubernetes API says they are, as far as processes can be. A
// container's image is a local program (see [Images]); its file system is the
// host's, read only, but for /tmp, a /run of its own, a scratch directory that it
// starts in, and its volumes (emptyDir, persistentVolumeClaim, hostPath,
// configMap, secret), which can be mounted where the host has nothing. It is an
// unprivileged user of a user namespace of its own. Exec probes see the
// container's files and network, but not its processes. Not there: exec,
// port-forward, terminals (a tty is a plain stream), lifecycle hooks, resource
// limits, ReplicaSets.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
)

// Mark is set on the packets of proxies and of probes: capture lets them pass.
const Mark = 1337

// workloadUID is what a workload is inside its user namespace unless its pod
// says otherwise.
const workloadUID = 1000

// Config is what a Sandbox needs to know.
type Config struct {
	// Client of the API server; the Sandbox reads and writes Pods and
	// Deployments, and reads Services, Namespaces, ConfigMaps and Secrets.
	Client kubernetes.Interface
	// Images says which programs stand for which images.
	Images Images
	// Path is where programs without a slash are looked for; empty is
	// DefaultPath.
	Path string

	// ProxyBinary is the mesh's proxy. It reads a mesh.Bootstrap in JSON from
	// descriptor 3. Empty: no pod gets a sidecar.
	ProxyBinary string
	// ControlPlane is what proxies are told to connect to, on the fabric
	// ("10.77.0.1:15012"), ControlPlaneID the SPIFFE ID it presents.
	ControlPlane, ControlPlaneID string
	// Roots are the trust anchors for proxies in PEM, asked for each start.
	Roots func() string
	// JoinToken makes a single-use token for a proxy, and says which identity
	// it is for. It may be called at the same time for different pods.
	JoinToken func(namespace, pod, serviceAccount string) (identity, token string, err error)
	// GatewayListeners are the host's sockets that gateways serve, by port.
	GatewayListeners map[uint16]*os.File

	// ExtraHosts resolves names that are not of the cluster; nil knows none.
	ExtraHosts func(name string) []netip.Addr
	// StateDir keeps logs and volumes of pods. Pods cannot see it.
	StateDir string
	// Hide are more directories that pods must not see: where keys are.
	Hide []string
	Log  *slog.Logger
}

// Sandbox is the network and kubelet of one machine.
type Sandbox struct {
	cfg      Config
	log      *slog.Logger
	fabric   *fabric
	dns      *dnsSockets
	resolver *resolver
	pods     *pods
	close    sync.Once

	recovered chan struct{} // closed by disown
}

// New builds the fabric in the network namespace that Command made, so that
// when it returns addresses of the Gateway can be listened on. Run, or Close,
// must follow.
func New(cfg Config) (*Sandbox, error) {
	switch {
	case cfg.Client == nil:
		return nil, errors.New("sandbox: no client of an API server")
	case cfg.StateDir == "":
		return nil, errors.New("sandbox: no state directory")
	}
	if cfg.Path == "" {
		cfg.Path = DefaultPath
	}
	cfg.Path = openFirst(cfg.Path, workloadHost())
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := makeStateDir(cfg.StateDir); err != nil {
		return nil, err
	}
	f, err := newFabric()
	if err != nil {
		return nil, err
	}
	s := &Sandbox{cfg: cfg, log: cfg.Log, fabric: f, resolver: newResolver(cfg.ExtraHosts), recovered: make(chan struct{})}
	if s.dns, err = listenDNS(Gateway, Gateway6); err != nil {
		f.close()
		return nil, err
	}
	s.pods = newPods(s)
	return s, nil
}

// makeStateDir makes the directory for its owner only: logs may tell secrets.
func makeStateDir(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "pods"), 0o700); err != nil {
		return fmt.Errorf("sandbox: state directory: %w", err)
	}
	return nil
}

// Close gives up what New made, if Run was never called.
func (s *Sandbox) Close() error {
	s.close.Do(func() {
		s.dns.close()
		s.fabric.close()
	})
	return nil
}

// Run makes pods real until ctx ends; then it stops them all and waits for
// them. What the API server says of them is left as it was: the next Run takes
// the pods up again.
func (s *Sandbox) Run(ctx context.Context) error {
	defer s.Close()
	if err := s.disown(ctx); err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(s.cfg.Client, 0)
	defer factory.Shutdown()
	watch, err := newWatch(factory)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.resolver.serve(ctx, s.dns) })
	factory.StartWithContext(ctx)
	if !watch.synced(ctx) {
		_ = g.Wait()
		return ctx.Err()
	}
	g.Go(func() error { return s.balanceLoop(ctx, watch) })
	g.Go(func() error { return newDeployments(s, watch).run(ctx) })
	g.Go(func() error { return s.pods.run(ctx, watch) })
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}
