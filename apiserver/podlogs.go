package apiserver

import (
	"context"
	"io"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
)

// logREST is pods/log: kubectl logs.
type logREST struct {
	pods    *genericregistry.Store
	streams PodStreams
}

var (
	_ rest.GetterWithOptions = logREST{}
	_ rest.StorageMetadata   = logREST{}
)

func (logREST) New() runtime.Object               { return &corev1.Pod{} }
func (logREST) Destroy()                          {}
func (logREST) ProducesMIMETypes(string) []string { return []string{"text/plain"} }
func (logREST) ProducesObject(string) any         { return "" }
func (logREST) NewGetOptions() (runtime.Object, bool, string) {
	return &corev1.PodLogOptions{}, false, ""
}

func (r logREST) Get(ctx context.Context, name string, o runtime.Object) (runtime.Object, error) {
	opts := o.(*corev1.PodLogOptions)
	ns, container, err := target(ctx, r.pods, r.streams, name, opts.Container)
	if err != nil {
		return nil, err
	}
	opts.Container = container
	return &logStream{streams: r.streams, namespace: ns, pod: name, opts: opts}, nil
}

// target is what a log or an attach is about.
func target(ctx context.Context, pods *genericregistry.Store, streams PodStreams, name, container string) (namespace, chosen string, err error) {
	obj, err := pods.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return "", "", err
	}
	if streams == nil {
		return "", "", apierrors.NewMethodNotSupported(corev1.Resource("pods"), "stream: nothing runs pods here")
	}
	if chosen, err = containerOf(obj.(*corev1.Pod), container); err != nil {
		return "", "", apierrors.NewBadRequest(err.Error())
	}
	return genericapirequest.NamespaceValue(ctx), chosen, nil
}

// logStream is an answer that is copied out as it comes.
type logStream struct {
	streams        PodStreams
	namespace, pod string
	opts           *corev1.PodLogOptions
}

var _ rest.ResourceStreamer = &logStream{}

func (*logStream) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }
func (l *logStream) DeepCopyObject() runtime.Object { c := *l; return &c }

func (l *logStream) InputStream(ctx context.Context, _, _ string) (io.ReadCloser, bool, string, error) {
	r, err := l.streams.Logs(ctx, l.namespace, l.pod, l.opts)
	return r, l.opts.Follow, "text/plain", err
}
