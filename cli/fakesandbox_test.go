package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// fakeSandbox is a fake: it runs no process. A pod is Running as soon as it
// exists. It begins, prints and ends when somebody attaches to it, with exit
// status 56 when its first argument is "refused" and 0 otherwise.
type fakeSandbox struct{ client kubernetes.Interface }

func (f *fakeSandbox) run(ctx context.Context) {
	w, err := f.client.CoreV1().Pods("").Watch(ctx, metav1.ListOptions{})
	if err != nil {
		panic(err)
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-w.ResultChan():
			if !ok {
				return
			}
			if p, ok := e.Object.(*corev1.Pod); ok && e.Type != watch.Deleted {
				f.step(ctx, p)
			}
		}
	}
}

func (f *fakeSandbox) step(ctx context.Context, p *corev1.Pod) {
	pods := f.client.CoreV1().Pods(p.Namespace)
	switch {
	case p.DeletionTimestamp != nil:
		now := int64(0)
		pods.Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &now})
	case p.Status.Phase == corev1.PodPending:
		f.setStatus(ctx, p, corev1.PodRunning, corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}})
	}
}

func (f *fakeSandbox) setStatus(ctx context.Context, p *corev1.Pod, phase corev1.PodPhase, state corev1.ContainerState) {
	p.Status.Phase, p.Status.PodIP = phase, "10.77.0.9"
	ready := map[bool]corev1.ConditionStatus{true: corev1.ConditionTrue, false: corev1.ConditionFalse}[phase == corev1.PodRunning]
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}} // kubectl run waits for it
	p.Status.PodIPs = []corev1.PodIP{{IP: "10.77.0.9"}}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: p.Spec.Containers[0].Name, Ready: phase == corev1.PodRunning, State: state}}
	f.client.CoreV1().Pods(p.Namespace).UpdateStatus(ctx, p, metav1.UpdateOptions{})
}

func output(p *corev1.Pod) string {
	return "output of " + strings.Join(p.Spec.Containers[0].Args, " ") + "\n"
}

func (f *fakeSandbox) Logs(ctx context.Context, ns, name string, o *corev1.PodLogOptions) (io.ReadCloser, error) {
	p, err := f.client.CoreV1().Pods(ns).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	text := ""
	if p.Status.Phase != corev1.PodRunning {
		text = output(p)
	}
	return io.NopCloser(strings.NewReader(text)), nil
}

func (f *fakeSandbox) Attach(ctx context.Context, ns, name, _ string, in io.Reader, out, _ io.WriteCloser, _ bool) error {
	p, err := f.client.CoreV1().Pods(ns).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if in != nil {
		if _, err := io.Copy(out, in); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprint(out, output(p)); err != nil {
		return err
	}
	end := &corev1.ContainerStateTerminated{Reason: "Completed", FinishedAt: metav1.Now()}
	phase := corev1.PodSucceeded
	if args := p.Spec.Containers[0].Args; len(args) > 0 && args[0] == "refused" {
		end.Reason, end.ExitCode, phase = "Error", 56, corev1.PodFailed
	}
	f.setStatus(ctx, p, phase, corev1.ContainerState{Terminated: end})
	return nil
}
