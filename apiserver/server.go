// Package apiserver is the mesh's configuration store on one machine: the
// Kubernetes API-server library and an etcd, both in this process, serving the
// istio.io kinds and the few core kinds a mesh needs. kubectl, client-go,
// server-side apply and watch work because they are the real thing.
//
// [New] prepares a data directory (lock, keys, kubeconfig), [Server.Run]
// serves it until its context ends, and [Server.RESTConfig] is how the rest of
// this process talks to it. [Backup], [Restore] and [Defrag] look after the
// store. Every call into k8s.io/apiserver, whose Go API promises no stability,
// is in this package.
package apiserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/rest"
)

// Config is all a server needs. Dir, Listener and ExternalURL are required.
type Config struct {
	// Dir holds everything: lock, pki/, kubeconfig, etcd/. Made with mode 0700.
	Dir string
	// Listener for clients outside this process, already bound, on loopback. It
	// may come from another network namespace: this process itself never dials
	// it. The server closes it.
	Listener net.Listener
	// ExternalURL is how clients reach Listener: https://127.0.0.1:PORT.
	ExternalURL string

	// EtcdServers names an etcd of the user's own; none starts one in Dir. The
	// three files secure the way to it.
	EtcdServers               []string
	EtcdCA, EtcdCert, EtcdKey string
	// History keeps every change of an object readable that long (embedded etcd
	// only). 0 drops old revisions every five minutes.
	History time.Duration

	// CRDs are installed before the server reports ready.
	CRDs []*apiextensionsv1.CustomResourceDefinition
	// Validate refuses bad objects: every custom resource and every ConfigMap
	// is shown to it at create and update. Nil accepts all.
	Validate func(*unstructured.Unstructured) field.ErrorList
	// Warnings are sent to the client beside an accepted object. May be nil.
	Warnings func(*unstructured.Unstructured) []string
	// Foretell is asked on a dry run, of the same objects and of those that would
	// be deleted, what would come of it; the client gets it as warnings. May be nil.
	Foretell func(ctx context.Context, u *unstructured.Unstructured, remove bool) []string

	// NewPod may complete a Pod that is about to be created, as a mutating
	// webhook would. It is given the labels of its Namespace. May be nil.
	NewPod func(p *corev1.Pod, namespaceLabels map[string]string)

	// Streams serves pods/log and pods/attach; nil answers them with an error.
	Streams PodStreams
	// Node is the name given to Pods that name none, since there is one machine
	// and nothing to schedule. Empty leaves them alone.
	Node string
	// Namespace is the context's namespace in a new kubeconfig. Default
	// "default". It is created at start, as are default, kube-system and
	// istio-system.
	Namespace string

	Log *slog.Logger
}

// PodStreams is what runs the pods: it has their output and their terminals.
type PodStreams interface {
	// Logs returns what the container printed. With o.Follow it goes on until
	// the container ends or ctx does. The caller closes it.
	Logs(ctx context.Context, namespace, pod string, o *corev1.PodLogOptions) (io.ReadCloser, error)
	// Attach joins the streams (each may be nil) to the container's and returns
	// when it ends or ctx does. What Logs gave out before is not repeated:
	// kubectl run -i asks for that first, and prints both.
	Attach(ctx context.Context, namespace, pod, container string, stdin io.Reader, stdout, stderr io.WriteCloser, tty bool) error
}

// Server is one data directory being served.
type Server struct {
	cfg   Config
	lock  *os.File
	keys  *authority
	local *localListener
	admin *rest.Config
	ready chan struct{}
	close sync.Once
}

// New takes the directory's lock, makes what keys are missing and writes the
// kubeconfig. It serves nothing yet; the caller must call Run or Close.
func New(ctx context.Context, cfg Config) (*Server, error) {
	s, err := newServer(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("apiserver: %w", err)
	}
	return s, nil
}

func newServer(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Dir == "" || cfg.Listener == nil || cfg.ExternalURL == "" {
		return nil, errors.New("Dir, Listener and ExternalURL are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Namespace == "" {
		cfg.Namespace = "default"
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, err
	}
	cfg.Dir = dir
	lock, err := lockDir(ctx, dir)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, lock: lock, ready: make(chan struct{})}
	if err := s.prepare(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// prepare makes the files clients need.
func (s *Server) prepare() error {
	var err error
	if s.keys, err = openAuthority(filepath.Join(s.cfg.Dir, "pki")); err != nil {
		return err
	}
	if s.local, err = newLocalListener(s.cfg.Listener); err != nil {
		return err
	}
	cert, key, err := s.keys.admin()
	if err != nil {
		return err
	}
	s.admin = &rest.Config{
		Host:            s.cfg.ExternalURL,
		QPS:             -1, // the server is in this process; it needs no protection from us
		Dial:            s.local.dial,
		TLSClientConfig: rest.TLSClientConfig{CAData: s.keys.caPEM, CertData: cert, KeyData: key, ServerName: "localhost"},
	}
	return writeKubeconfig(s.Kubeconfig(), s.cfg.ExternalURL, s.cfg.Namespace, s.keys.caPEM, cert, key)
}

// Close releases the directory if Run never did. It may be called again.
func (s *Server) Close() error {
	var err error
	s.close.Do(func() {
		if s.local != nil {
			s.local.Close()
		}
		err = unlockDir(s.lock)
	})
	return err
}

// Ready is closed once every kind is served and every default namespace exists.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// RESTConfig is how this process talks to the server, whichever network
// namespace it is in: over a socket pair, as administrator, without a limit on
// requests. It is a copy.
func (s *Server) RESTConfig() *rest.Config { return rest.CopyConfig(s.admin) }

// Kubeconfig is the path of the kubeconfig of the server's administrator.
func (s *Server) Kubeconfig() string { return KubeconfigPath(s.cfg.Dir) }

// ClientCert issues a client certificate for a user and its groups: PEM of the
// certificate and of its key. It lives a year.
func (s *Server) ClientCert(user string, groups ...string) (cert, key []byte, err error) {
	return s.keys.client(user, groups, 365*24*time.Hour)
}
