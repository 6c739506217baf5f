package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

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

// Attach delivers everything that a container has written since it was started,
// and then what it writes, until it ends and all is delivered; that is, nothing
// is lost by attaching late. Who attaches after Logs gave out all there was gets
// what follows: so "kubectl run -i", which reads the log and then attaches,
// prints everything once. stdin, if not nil, is forwarded when the container
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
	r := l.untold()
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
	status := s.pods.status(pod, container)
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
