package deploy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/kubectl/pkg/polymorphichelpers"
)

// pollEvery is how often a waiting Cluster looks again.
const pollEvery = 500 * time.Millisecond

// Wait blocks until what Install applied works: Deployments and DaemonSets are
// rolled out, and the control plane has put its root into its webhooks, without
// which the API server does not believe them. progress is told what is waited
// for. When ctx ends first, the error says that, and what the pods complain of.
func (c *Cluster) Wait(ctx context.Context, objects []*unstructured.Unstructured, progress func(string)) error {
	for _, u := range objects {
		var ready func(*unstructured.Unstructured) (bool, string, error)
		switch u.GetKind() {
		case "Deployment", "DaemonSet":
			ready = rolledOut
		case "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration":
			ready = trusted
		default:
			continue
		}
		k, err := kindOf(u)
		if err != nil {
			return err
		}
		if err := c.until(ctx, k, u, ready, progress); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) until(ctx context.Context, k kind, u *unstructured.Unstructured, ready func(*unstructured.Unstructured) (bool, string, error), progress func(string)) error {
	last := "nothing was seen of it"
	err := wait.PollUntilContextCancel(ctx, pollEvery, true, func(ctx context.Context) (bool, error) {
		now, err := c.resource(k, u.GetNamespace()).Get(ctx, u.GetName(), metav1.GetOptions{})
		if err != nil {
			return false, fmt.Errorf("wait for %s: %w", k.key(u), err)
		}
		done, why, err := ready(now)
		if why != last && !done {
			last = why
			progress(why)
		}
		return done, err
	})
	if err == nil || ctx.Err() == nil || errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	// ctx is over; what is wrong is one more question.
	brief, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	text := fmt.Sprintf("%s is not ready in time: %s", k.key(u), last)
	if more, err := c.complaints(brief); err == nil && len(more) > 0 {
		text += "\n  " + strings.Join(more, "\n  ")
	}
	return errors.New(text)
}

// rolledOut is kubectl rollout status.
func rolledOut(u *unstructured.Unstructured) (bool, string, error) {
	viewer, err := polymorphichelpers.StatusViewerFor(u.GroupVersionKind().GroupKind())
	if err != nil {
		return false, "", err
	}
	message, done, err := viewer.Status(u, 0)
	return done, strings.TrimRight(strings.TrimSpace(message), "."), err
}

// trusted: every webhook of a configuration has a caBundle.
func trusted(u *unstructured.Unstructured) (bool, string, error) {
	hooks, _, err := unstructured.NestedSlice(u.Object, "webhooks")
	if err != nil {
		return false, "", err
	}
	for _, h := range hooks {
		m, _ := h.(map[string]any)
		if bundle, _, _ := unstructured.NestedString(m, "clientConfig", "caBundle"); bundle == "" {
			return false, fmt.Sprintf("Waiting for the control plane's root in webhook %v", m["name"]), nil
		}
	}
	return true, "", nil
}

// complaints are the reasons why containers of hasp's pods wait.
func (c *Cluster) complaints(ctx context.Context) ([]string, error) {
	pods, err := c.list(ctx, schema.GroupVersionResource{Version: "v1", Resource: "pods"}, metav1.ListOptions{LabelSelector: PartOfLabel + "=hasp"})
	if err != nil {
		return nil, err
	}
	var out []string
	for _, p := range pods {
		conditions, _, _ := unstructured.NestedSlice(p.Object, "status", "conditions")
		for _, s := range conditions {
			if m, _ := s.(map[string]any); m["type"] == "PodScheduled" && m["status"] == "False" {
				out = append(out, fmt.Sprintf("pod %s is not scheduled: %v", p.GetName(), m["message"]))
			}
		}
		containers, _, _ := unstructured.NestedSlice(p.Object, "status", "containerStatuses")
		for _, s := range containers {
			m, _ := s.(map[string]any)
			if reason, _, _ := unstructured.NestedString(m, "state", "waiting", "reason"); reason != "" && reason != "PodInitializing" {
				message, _, _ := unstructured.NestedString(m, "state", "waiting", "message")
				out = append(out, strings.TrimSpace(fmt.Sprintf("pod %s: %v: %s %s", p.GetName(), m["name"], reason, message)))
			}
		}
	}
	return out, nil
}
