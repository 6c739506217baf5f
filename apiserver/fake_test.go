package apiserver_test

import (
	"context"
	"fmt"
	"io"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// fakeStreams is a fake sandbox: it runs nothing. Its logs say what was asked
// for, and what is attached to answers each line.
type fakeStreams struct{}

func (fakeStreams) Logs(_ context.Context, ns, pod string, o *corev1.PodLogOptions) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(fmt.Sprintf("log of %s/%s %s follow=%v\n", ns, pod, o.Container, o.Follow))), nil
}

func (fakeStreams) Attach(_ context.Context, ns, pod, container string, in io.Reader, out, errw io.WriteCloser, tty bool) error {
	if errw != nil {
		fmt.Fprintf(errw, "attached to %s/%s %s\n", ns, pod, container)
	}
	if in == nil {
		return nil
	}
	b, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	_, err = out.Write(b)
	return err
}
