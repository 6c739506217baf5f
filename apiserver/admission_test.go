package apiserver_test

import (
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// warnings collects what the server says beside its answers.
type warnings struct{ got []string }

func (w *warnings) HandleWarningHeader(_ int, _, text string) { w.got = append(w.got, text) }

// Config.Validate sees custom resources and ConfigMaps, and refuses them in its
// own words; Config.Warnings reach the client.
func TestValidation(t *testing.T) {
	cfg, err := config(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var strict atomic.Bool
	strict.Store(true)
	cfg.Validate = func(u *unstructured.Unstructured) field.ErrorList {
		if strict.Load() && strings.HasPrefix(u.GetName(), "bad") {
			return field.ErrorList{field.Invalid(field.NewPath("spec", "host"), u.GetKind(), "not today")}
		}
		return nil
	}
	cfg.Warnings = func(u *unstructured.Unstructured) []string { return []string{"mind " + u.GetName()} }
	s, stop, err := run(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	w := &warnings{}
	rc := rest.CopyConfig(s.RESTConfig())
	rc.WarningHandler = w
	d, err := dynamic.NewForConfig(rc)
	if err != nil {
		t.Fatal(err)
	}
	rules := d.Resource(schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1beta1", Resource: "destinationrules"}).Namespace("default")
	rule := func(name string) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "networking.istio.io/v1beta1", "kind": "DestinationRule",
			"metadata": map[string]any{"name": name}, "spec": map[string]any{"host": "a"}}}
	}
	_, err = rules.Create(t.Context(), rule("bad"), metav1.CreateOptions{})
	if want := `DestinationRule.networking.istio.io "bad" is invalid: spec.host: Invalid value: "DestinationRule": not today`; !apierrors.IsInvalid(err) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if _, err = rules.Create(t.Context(), rule("good"), metav1.CreateOptions{}); err != nil {
		t.Error(err)
	}
	if len(w.got) != 1 || w.got[0] != "mind good" {
		t.Errorf("warnings %q", w.got)
	}
	k, err := kubernetes.NewForConfig(rc)
	if err != nil {
		t.Fatal(err)
	}
	_, err = k.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "bad"}}, metav1.CreateOptions{})
	if want := `ConfigMap "bad" is invalid: spec.host: Invalid value: "ConfigMap": not today`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}

	// What was let in before a rule existed can be labelled, not changed.
	strict.Store(false)
	u, err := rules.Create(t.Context(), rule("bad-before"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	strict.Store(true)
	u.SetLabels(map[string]string{"old": "yes"})
	if u, err = rules.Update(t.Context(), u, metav1.UpdateOptions{}); err != nil {
		t.Fatalf("a label on an old object: %v", err)
	}
	u.Object["spec"] = map[string]any{"host": "b"}
	if _, err = rules.Update(t.Context(), u, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("a change of an old object: %v; want Invalid", err)
	}
}

// Config.NewPod completes pods as they are created, and later never again.
func TestNewPod(t *testing.T) {
	cfg, err := config(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cfg.NewPod = func(p *corev1.Pod, namespaceLabels map[string]string) {
		metav1.SetMetaDataAnnotation(&p.ObjectMeta, "of", namespaceLabels["kubernetes.io/metadata.name"]+"/"+p.Name)
	}
	s, stop, err := run(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	k, err := kubernetes.NewForConfig(s.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	pods := k.CoreV1().Pods("default")
	p, err := pods.Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a"},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "x"}}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if p.Annotations["of"] != "default/a" {
		t.Errorf("annotations of a new pod: %v", p.Annotations)
	}
	p.Annotations = nil
	if p, err = pods.Update(t.Context(), p, metav1.UpdateOptions{}); err != nil || len(p.Annotations) > 0 {
		t.Errorf("an update: %v, annotations %v", err, p.Annotations)
	}
}
