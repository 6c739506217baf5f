package cni

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
)

// mirrorKey is the annotation of the pod that stands in the API for one that the
// kubelet has from a file: its value is the UID that the runtime knows.
const mirrorKey = corev1.MirrorPodAnnotationKey

// pods are the pods of one node.
type pods struct {
	client kubernetes.Interface
	node   string
	cache  listers.PodLister
	synced func() bool
}

// watchPods keeps the pods of a node. The caller starts the factory, and stops
// it.
func watchPods(client kubernetes.Interface, node string) (*pods, informers.SharedInformerFactory) {
	f := informers.NewSharedInformerFactoryWithOptions(client, 0,
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", node).String()
		}),
		informers.WithTransform(slim))
	p := f.Core().V1().Pods()
	return &pods{client: client, node: node, cache: p.Lister(), synced: p.Informer().HasSynced}, f
}

// slim leaves out of a pod what decides nothing here.
func slim(o any) (any, error) {
	if pod, ok := o.(*corev1.Pod); ok {
		pod.ManagedFields, pod.Status = nil, corev1.PodStatus{}
	}
	return o, nil
}

// answer is what to capture for a pod.
func (p *pods) answer(ctx context.Context, asked Pod) (Answer, error) {
	pod, err := p.find(ctx, asked)
	if err != nil {
		return Answer{}, err
	}
	return decide(pod)
}

// find is the pod that the runtime means. The kubelet may know a pod before the
// watch here does, and a StatefulSet's next pod has the name of the last one: then
// the API server is asked.
func (p *pods) find(ctx context.Context, asked Pod) (*corev1.Pod, error) {
	if pod, err := p.cache.Pods(asked.Namespace).Get(asked.Name); err == nil && asked.UID != "" && isPod(pod, asked.UID) {
		return pod, nil
	}
	pod, err := p.client.CoreV1().Pods(asked.Namespace).Get(ctx, asked.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("there is no pod %s", asked)
	case err != nil:
		return nil, fmt.Errorf("get pod %s: %w", asked, err)
	case asked.UID != "" && !isPod(pod, asked.UID):
		return nil, fmt.Errorf("pod %s has the UID %s, and %s was asked about", asked, pod.UID, asked.UID)
	case pod.Spec.NodeName != p.node:
		return nil, fmt.Errorf("pod %s is on node %q, and this is %s", asked, pod.Spec.NodeName, p.node)
	}
	return pod, nil
}

func isPod(pod *corev1.Pod, uid string) bool {
	return string(pod.UID) == uid || pod.Annotations[mirrorKey] == uid
}
