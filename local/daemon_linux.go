package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"hasp/api"
	"hasp/apiserver"
	"hasp/ca"
	"hasp/control"
	"hasp/mesh"
	"hasp/sandbox"
)

const (
	// controlPlanePort is xDS and CA, as in Istio.
	controlPlanePort = "15012"
	// tokenLife is how long a proxy has from its pod's start to its first
	// certificate.
	tokenLife = 5 * time.Minute
	maxTokens = 10000
	// caReload is how often the CA's files are looked at.
	caReload = 10 * time.Second
)

// Kubeconfig is where a mesh with this state directory keeps its kubeconfig.
func Kubeconfig(dir string) string { return apiserver.KubeconfigPath(apiDir(dir)) }

func apiDir(dir string) string { return filepath.Join(dir, "api") }

// daemon is everything that runs inside.
type daemon struct {
	o         Options
	log       *slog.Logger
	report    *json.Encoder
	listeners [fdEnd]*os.File
	lock      *os.File // of the state directory, held while the process lives

	authority *ca.CA
	tokens    *ca.Tokens
	images    sandbox.Images
	api       *apiserver.Server
	control   *control.Control
	sandbox   *sandbox.Sandbox
	pods      atomic.Pointer[sandbox.Sandbox] // for lateStreams
	plane     atomic.Pointer[control.Control] // for foretell
}

// Daemon is the process that Start starts: process 1 of its own namespaces. It
// runs until ctx ends or somebody asks it to stop.
func Daemon(ctx context.Context, log *slog.Logger) error {
	d := &daemon{log: log}
	out := os.NewFile(fdReport, "report")
	d.report = json.NewEncoder(out)
	err := d.inherit()
	if err == nil {
		err = d.run(ctx)
	}
	if err != nil {
		d.log.Error("the mesh ends", slog.Any("error", err)) // hasp up may be gone
		d.report.Encode(message{Error: err.Error()})
	}
	out.Close()
	return err
}

// inherit takes over what Start handed in.
func (d *daemon) inherit() error {
	d.lock = os.NewFile(fdLock, "lock")
	config := os.NewFile(fdConfig, "config")
	defer config.Close()
	if err := json.NewDecoder(io.LimitReader(config, 1<<20)).Decode(&d.o); err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	for fd := fdAPI; fd < fdEnd; fd++ {
		d.listeners[fd] = os.NewFile(uintptr(fd), "listener")
	}
	return sandbox.Setup(sandbox.Inside{Files: fdEnd - 3, Keep: []string{d.o.Dir, d.o.Bin, d.o.App}})
}

func (d *daemon) step(s string) { d.report.Encode(message{Step: s}) }

func (d *daemon) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	g, ctx := errgroup.WithContext(ctx)
	if err := d.prepare(ctx); err != nil {
		return err
	}
	// The API server goes down last: the others say goodbye through it.
	apiCtx, stopAPI := context.WithCancel(context.WithoutCancel(ctx))
	defer stopAPI()
	apiDone := make(chan error, 1)
	go func() { apiDone <- d.api.Run(apiCtx) }()
	defer func() { stopAPI(); <-apiDone }()

	d.step("starting the API server")
	select {
	case <-d.api.Ready():
	case err := <-apiDone:
		apiDone <- err
		return fmt.Errorf("the API server: %w", err)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := d.wire(ctx); err != nil {
		return err
	}
	g.Go(func() error { return d.control.Run(ctx) })
	g.Go(func() error {
		// Pods of an earlier run start at once; their proxies must find a
		// control plane that knows them.
		select {
		case <-d.control.Ready():
		case <-ctx.Done():
			return d.sandbox.Close()
		}
		return d.sandbox.Run(ctx)
	})
	g.Go(func() error { return d.keepCA(ctx) })
	g.Go(func() error { return d.admin(ctx, stop) })
	g.Go(func() error { return d.dashboard(ctx) })
	g.Go(func() error {
		if err := d.bringUp(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		return nil
	})
	g.Go(func() error {
		select {
		case err := <-apiDone:
			apiDone <- err
			if ctx.Err() == nil {
				return fmt.Errorf("the API server ended: %w", err)
			}
		case <-ctx.Done():
		}
		return nil
	})
	err := g.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// prepare opens the API server.
func (d *daemon) prepare(ctx context.Context) error {
	crds, err := api.CRDs()
	if err != nil {
		return err
	}
	ln, err := net.FileListener(d.listeners[fdAPI])
	if err != nil {
		return fmt.Errorf("the API server's listener: %w", err)
	}
	d.listeners[fdAPI].Close()
	if d.images, err = d.knownImages(); err != nil {
		return err
	}
	d.api, err = apiserver.New(ctx, apiserver.Config{
		Dir: apiDir(d.o.Dir), Listener: ln, ExternalURL: "https://" + ln.Addr().String(),
		EtcdServers: d.o.EtcdServers, EtcdCA: d.o.EtcdCA, EtcdCert: d.o.EtcdCert, EtcdKey: d.o.EtcdKey,
		History: d.o.History, CRDs: crds, Validate: api.ValidateUnstructured, Warnings: api.WarningsUnstructured, Foretell: d.foretell,
		NewPod:  d.images.MarkSidecar,
		Streams: lateStreams{d}, Node: sandbox.NodeName, Namespace: d.o.Project, Log: d.log,
	})
	return err
}

// certify opens the CA. Its trust domain is that of the mesh's settings, which
// are in the API.
func (d *daemon) certify(ctx context.Context, client kubernetes.Interface) error {
	settings := api.DefaultMeshConfig()
	m, err := client.CoreV1().ConfigMaps(settings.RootNamespace).Get(ctx, api.MeshConfigName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
	case err != nil:
		return fmt.Errorf("read the mesh's settings: %w", err)
	default:
		if settings, err = api.ParseMeshConfig(m.Data[api.MeshConfigKey]); err != nil {
			return fmt.Errorf("the mesh's settings, ConfigMap %s/%s: %w", m.Namespace, m.Name, err)
		}
	}
	td, err := spiffeid.TrustDomainFromString(settings.TrustDomain)
	if err != nil {
		return fmt.Errorf("the mesh's settings: trustDomain: %w", err)
	}
	dir := filepath.Join(d.o.Dir, "ca")
	if d.o.CACerts != "" {
		dir = d.o.CACerts
	}
	d.authority, err = ca.Load(ca.Config{Dir: dir, TrustDomain: td, LeafTTL: d.o.CertLifetime})
	d.tokens = ca.NewTokens(maxTokens, time.Now)
	return err
}

// keepCA renews the mesh's own intermediate in time, and takes over a CA that
// was replaced by files. One that cannot sign is refused, and the last good one
// goes on.
func (d *daemon) keepCA(ctx context.Context) error {
	tick := time.NewTicker(caReload)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := d.authority.Reload(); err != nil {
				d.log.Error("the CA's files are not taken over", slog.Any("error", err))
			}
		}
	}
}

// wire makes the parts that need the API server.
func (d *daemon) wire(ctx context.Context) error {
	rc := d.api.RESTConfig()
	dyn, err := dynamic.NewForConfig(rc)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(rc)
	if err != nil {
		return err
	}
	if err := d.certify(ctx, client); err != nil {
		return err
	}
	var lns []net.Listener
	for _, network := range []string{"tcp4", "tcp6"} {
		ln, err := net.Listen(network, ":"+controlPlanePort)
		if err != nil {
			return fmt.Errorf("the control plane's listener: %w", err)
		}
		lns = append(lns, ln)
	}
	d.control, err = control.New(control.Config{
		Client: dyn, CA: d.authority, Tokens: d.tokens, Listeners: lns, Log: d.log,
		Ledger: control.LedgerFile(filepath.Join(d.o.Dir, factsFile)), LedgerDays: d.o.LedgerDays,
		Witness: witness{d}, OnDemand: d.o.OnDemand, Processes: d.processes(),
	})
	if err != nil {
		return err
	}
	d.plane.Store(d.control)
	d.sandbox, err = sandbox.New(sandbox.Config{
		Client: client, Images: d.images, ProxyBinary: filepath.Join(d.o.Bin, "hasp-proxy"),
		ControlPlane:   net.JoinHostPort(sandbox.Gateway.String(), controlPlanePort),
		ControlPlaneID: control.Identity(d.authority.TrustDomain().Name()),
		Roots:          func() string { return string(d.authority.Bundle()) },
		JoinToken:      d.joinToken,
		GatewayListeners: map[uint16]*os.File{
			80: d.listeners[fdHTTP], 443: d.listeners[fdHTTPS],
		},
		Path: d.o.Path, StateDir: filepath.Join(d.o.Dir, "pods"), Hide: []string{d.o.Dir}, Log: d.log,
		ExtraHosts: d.control.Addresses,
	})
	if err != nil {
		return err
	}
	d.pods.Store(d.sandbox)
	return nil
}

// processes that have an address of the mesh's network for themselves: in the
// network that the pods are joined in there is only this one.
func (d *daemon) processes() map[netip.Addr]string {
	own := "hasp"
	if s, err := readState(d.o.Dir); err == nil { // inside, it is process 1
		own = fmt.Sprintf("hasp (pid %d)", s.PID)
	}
	return map[netip.Addr]string{sandbox.Gateway: own, sandbox.Gateway6: own}
}

// foretell what a dry run would do, once there is a control plane.
func (d *daemon) foretell(ctx context.Context, u *unstructured.Unstructured, remove bool) []string {
	if c := d.plane.Load(); c != nil {
		return c.Foretell(ctx, u, remove)
	}
	return nil
}

// joinToken is what a new proxy proves itself with, once.
func (d *daemon) joinToken(namespace, pod, account string) (identity, token string, err error) {
	id, err := spiffeid.FromString(mesh.Identity(d.authority.TrustDomain().Name(), namespace, account))
	if err != nil {
		return "", "", err
	}
	token, err = d.tokens.Issue(id, namespace+"/"+pod, tokenLife)
	return id.String(), token, err
}
