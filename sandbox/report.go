package sandbox

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// report writes the pod's status whenever it changed, until ctx ends.
func (p *pod) report(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.changed:
		}
		p.linger(ctx)
		for p.writeStatus(ctx) != nil && pause(ctx, retryPeriod/10) {
		}
	}
}

// quick is how long a pod that is to run once has to be over before it is said
// to run.
const quick = 300 * time.Millisecond

// linger spares the API server the news of a pod that is over at once. It is
// also what users of "kubectl run -i" are used to, since a kubelet looks at its
// containers once a second: they see the output of a short command, and not the
// ceremony of attaching to one that has just ended.
func (p *pod) linger(ctx context.Context) {
	obj := p.object()
	if restartPolicy(obj) != corev1.RestartPolicyNever || obj.Status.Phase == corev1.PodRunning || p.status(obj.Status).Phase != corev1.PodRunning {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, quick)
	defer cancel()
	for _, c := range p.all() {
		if c.kind == appKind && !c.await(ctx, func(c *container) bool { return c.done }) {
			return
		}
	}
}

func (p *pod) writeStatus(ctx context.Context) error {
	p.writing.Lock()
	defer p.writing.Unlock()
	obj := p.object()
	client := p.s.cfg.Client.CoreV1().Pods(obj.Namespace)
	for {
		if ctx.Err() != nil {
			return nil // what the sandbox's own end did to the pod is no news
		}
		next := obj.DeepCopy()
		next.Status = p.status(obj.Status)
		if sameStatus(obj.Status, next.Status) {
			return nil
		}
		_, err := client.UpdateStatus(ctx, next, metav1.UpdateOptions{})
		switch outcome := writeOutcome(err); {
		case outcome == written, outcome == noObject, ctx.Err() != nil:
			return nil
		case outcome == outdated:
			if obj, err = client.Get(ctx, obj.Name, metav1.GetOptions{}); writeOutcome(err) == written && obj.UID == p.uid {
				continue
			}
			return nil // another pod has the name: the watch will tell
		default:
			p.s.log.Warn("pod's status not written", "pod", p.name(), "err", err)
			return err
		}
	}
}
