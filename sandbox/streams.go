package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Logs is a container's output, as the log subresource of a pod serves it. It
// also works for pods that finished, in this run of the sandbox or in an
// earlier one. Errors are those of the Kubernetes API.
func (s *Sandbox) Logs(ctx context.Context, namespace, pod string, opts *corev1.PodLogOptions) (io.ReadCloser, error) {
	if opts == nil {
		opts = &corev1.PodLogOptions{}
	}
	l, err := s.findLog(namespace, pod, opts.Container, opts.Previous)
	if err != nil {
		return nil, err
	}
	return openOutput(ctx, l, opts)
}

// openOutput opens a log as the options say.
func openOutput(ctx context.Context, l *containerLog, opts *corev1.PodLogOptions) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancel(ctx)
	out := &logOutput{ctx: ctx, cancel: cancel, reader: l.reader(opts.Follow), opts: *opts, lineStart: true, left: -1}
	out.since = sinceOf(opts, time.Now())
	if opts.LimitBytes != nil {
		out.left = *opts.LimitBytes
	}
	if opts.TailLines != nil {
		skip, err := linesBefore(ctx, l, out.wants, *opts.TailLines)
		if err != nil {
			cancel()
			return nil, err
		}
		out.skip = skip
	}
	return out, nil
}

// Attach delivers everything that a container has written since it was started,
// and then what it writes, until it ends and all is delivered; that is, nothing
// is lost by attaching late. stdin, if not nil, is forwarded when the container
// asked for it; who made stdin closes it when Attach returned. With tty both
// outputs go to stdout.
func (s *Sandbox) Attach(ctx context.Context, namespace, pod, container string, stdin io.Reader, stdout, stderr io.WriteCloser, tty bool) error {
	l, err := s.findLog(namespace, pod, container, false)
	if err != nil {
		return err
	}
	if c := s.pods.writer(l); c != nil && stdin != nil {
		go c.feed(stdin) // ends with the container or with stdin
	}
	r := l.reader(true)
	defer r.close()
	for {
		rec, err := r.next(ctx)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		to := stdout
		if rec.stream == streamErr && !tty {
			to = stderr
		}
		if to == nil {
			continue
		}
		if _, err := to.Write(rec.data); err != nil {
			return fmt.Errorf("sandbox: attach: %w", err)
		}
	}
}

// findLog picks a container as the API does and finds its log.
func (s *Sandbox) findLog(namespace, name, container string, previous bool) (*containerLog, error) {
	pod, err := s.pods.get(namespace, name)
	if err != nil {
		return nil, apierrors.NewNotFound(corev1.Resource("pods"), name)
	}
	if container == "" {
		if container, err = defaultContainer(pod); err != nil {
			return nil, err
		}
	}
	status := containerStatus(pod, container)
	if status == nil && !hasContainer(pod, container) {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", container, name))
	}
	l := s.pods.log(pod, container, previous)
	switch {
	case l == nil && previous:
		return nil, apierrors.NewBadRequest(fmt.Sprintf("previous terminated container %q in pod %q not found", container, name))
	case l == nil:
		why := "ContainerCreating"
		if status != nil && status.State.Waiting != nil {
			why = status.State.Waiting.Reason
			if m := status.State.Waiting.Message; m != "" {
				why += ": " + m
			}
		}
		return nil, apierrors.NewBadRequest(fmt.Sprintf("container %q in pod %q is waiting to start: %s", container, name, why))
	}
	return l, nil
}

func defaultContainer(pod *corev1.Pod) (string, error) {
	if name := pod.Annotations["kubectl.kubernetes.io/default-container"]; name != "" {
		return name, nil
	}
	if len(pod.Spec.Containers) == 1 {
		return pod.Spec.Containers[0].Name, nil
	}
	var names []string
	for _, c := range pod.Spec.Containers {
		names = append(names, c.Name)
	}
	return "", apierrors.NewBadRequest(fmt.Sprintf("a container name must be specified for pod %s, choose one of: [%s]", pod.Name, strings.Join(names, " ")))
}

func hasContainer(pod *corev1.Pod, name string) bool {
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for _, c := range list {
			if c.Name == name {
				return true
			}
		}
	}
	return false
}

func containerStatus(pod *corev1.Pod, name string) *corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

func sinceOf(opts *corev1.PodLogOptions, now time.Time) time.Time {
	switch {
	case opts.SinceSeconds != nil:
		return now.Add(-time.Duration(*opts.SinceSeconds) * time.Second)
	case opts.SinceTime != nil:
		return opts.SinceTime.Time
	}
	return time.Time{}
}

// logOutput turns records into the bytes that a reader of logs sees.
type logOutput struct {
	ctx       context.Context
	cancel    context.CancelFunc
	reader    *logReader
	opts      corev1.PodLogOptions
	since     time.Time
	skip      int64 // lines still to leave out
	left      int64 // bytes still to give; negative: no limit
	lineStart bool
	pending   []byte
	mu        sync.Mutex // one of Read and Close at a time
}

// wants reports whether a record is asked for at all.
func (o *logOutput) wants(r record) bool {
	if s := o.opts.Stream; s != nil && *s != corev1.LogStreamAll && !strings.EqualFold(*s, string(r.stream)) {
		return false
	}
	return !r.time.Before(o.since)
}

func (o *logOutput) Read(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.pending) == 0 {
		if o.left == 0 {
			return 0, io.EOF
		}
		r, err := o.reader.next(o.ctx)
		if err != nil {
			return 0, err
		}
		o.take(r)
	}
	n := copy(p, o.pending)
	o.pending = o.pending[n:]
	return n, nil
}

func (o *logOutput) take(r record) {
	if !o.wants(r) {
		return
	}
	ends := bytes.HasSuffix(r.data, []byte("\n"))
	if o.skip > 0 {
		if ends {
			o.skip--
		}
		return
	}
	var out []byte
	if o.opts.Timestamps && o.lineStart {
		out = append(out, r.time.Format(time.RFC3339Nano)+" "...)
	}
	out = append(out, r.data...)
	o.lineStart = ends
	if o.left > 0 {
		out = out[:min(int64(len(out)), o.left)]
		o.left -= int64(len(out))
	}
	o.pending = out
}

// Close ends a Read that waits.
func (o *logOutput) Close() error {
	o.cancel()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.reader.close()
	return nil
}

// linesBefore is how many of a log's lines come before its last n.
func linesBefore(ctx context.Context, l *containerLog, wants func(record) bool, n int64) (int64, error) {
	r := l.reader(false)
	defer r.close()
	var lines int64
	open := false
	for {
		rec, err := r.next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, err
		}
		if !wants(rec) {
			continue
		}
		if open = !bytes.HasSuffix(rec.data, []byte("\n")); !open {
			lines++
		}
	}
	if open {
		lines++
	}
	return max(0, lines-n), nil
}
