package local

import (
	"context"
	"errors"
	"io"

	corev1 "k8s.io/api/core/v1"
)

var errNoSandbox = errors.New("the sandbox is not running yet")

// lateStreams hands the API server's log and attach calls to the sandbox, which
// is made after it.
type lateStreams struct{ d *daemon }

func (l lateStreams) Logs(ctx context.Context, namespace, pod string, o *corev1.PodLogOptions) (io.ReadCloser, error) {
	s := l.d.pods.Load()
	if s == nil {
		return nil, errNoSandbox
	}
	return s.Logs(ctx, namespace, pod, o)
}

func (l lateStreams) Attach(ctx context.Context, namespace, pod, container string, stdin io.Reader, stdout, stderr io.WriteCloser, tty bool) error {
	s := l.d.pods.Load()
	if s == nil {
		return errNoSandbox
	}
	return s.Attach(ctx, namespace, pod, container, stdin, stdout, stderr, tty)
}
