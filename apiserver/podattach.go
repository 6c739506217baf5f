package apiserver

import (
	"context"
	"io"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

const (
	attachIdle   = 4 * time.Hour    // as a kubelet's streamingConnectionIdleTimeout
	attachCreate = 30 * time.Second // for the client to open its streams
)

// attachREST is pods/attach: kubectl attach, and what kubectl run -i does.
type attachREST struct {
	pods    *genericregistry.Store
	streams PodStreams
}

var _ rest.Connecter = attachREST{}

func (attachREST) New() runtime.Object      { return &corev1.Pod{} }
func (attachREST) Destroy()                 {}
func (attachREST) ConnectMethods() []string { return []string{http.MethodGet, http.MethodPost} }
func (attachREST) NewConnectOptions() (runtime.Object, bool, string) {
	return &corev1.PodAttachOptions{}, false, ""
}

func (r attachREST) Connect(ctx context.Context, name string, o runtime.Object, _ rest.Responder) (http.Handler, error) {
	opts := o.(*corev1.PodAttachOptions)
	ns, container, err := target(ctx, r.pods, r.streams, name, opts.Container)
	if err != nil {
		return nil, err
	}
	if opts.TTY { // a terminal has one output
		opts.Stderr = false
	}
	if !opts.Stdin && !opts.Stdout && !opts.Stderr {
		return nil, apierrors.NewBadRequest("you must specify at least 1 of stdin, stdout, stderr")
	}
	a := attacher{r.streams, ns}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if wsstream.IsWebSocketRequestWithStreamCloseProtocol(req) {
			serveWebSocket(w, req, opts, func(ctx context.Context, in io.Reader, out, errw io.WriteCloser) error {
				return a.streams.Attach(ctx, ns, name, container, in, out, errw, opts.TTY)
			})
			return
		}
		want := &remotecommand.Options{Stdin: opts.Stdin, Stdout: opts.Stdout, Stderr: opts.Stderr, TTY: opts.TTY}
		remotecommand.ServeAttach(w, req, a, name, "", container, want, attachIdle, attachCreate, remotecommand.SupportedStreamingProtocols)
	}), nil
}

// attacher is PodStreams in the words of the streaming library.
type attacher struct {
	streams   PodStreams
	namespace string
}

func (a attacher) AttachContainer(ctx context.Context, name, _, container string, in io.Reader, out, errw io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { // the terminals here have no size
		defer close(done)
		for {
			select {
			case _, ok := <-resize:
				if !ok {
					resize = nil
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	defer func() { cancel(); <-done }()
	return a.streams.Attach(ctx, a.namespace, name, container, in, out, errw, tty)
}
