package cluster

import (
	"context"
	"log/slog"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// warn writes an event about a Secret or ConfigMap that is not taken over, where
// somebody who changed it looks: kubectl describe, kubectl get events.
func (p *plane) warn(ctx context.Context, about corev1.ObjectReference, reason, message string) {
	const most = 1024 // bytes, of core/v1 Event
	if len(message) > most {
		message = message[:most]
	}
	now := metav1.Now()
	_, err := p.client.CoreV1().Events(Namespace).Create(ctx, &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{GenerateName: about.Name + ".", Namespace: Namespace},
		InvolvedObject: about,
		Type:           corev1.EventTypeWarning, Reason: reason, Message: message,
		FirstTimestamp: now, LastTimestamp: now, Count: 1,
		Source: corev1.EventSource{Component: "hasp", Host: p.cfg.Pod},
	}, metav1.CreateOptions{})
	if err != nil && ctx.Err() == nil {
		p.cfg.Log.Warn("event not written", slog.String("about", about.Kind+" "+about.Namespace+"/"+about.Name), slog.Any("error", err))
	}
}
