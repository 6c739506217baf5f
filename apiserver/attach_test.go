package apiserver_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/remotecommand"
)

// Nothing of what an attached container prints is lost, over either protocol,
// although both ends hang up as soon as they can.
func TestAttach(t *testing.T) {
	c := client(t)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "attached"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "one", Image: "one", Stdin: true}}}}
	if _, err := c.CoreV1().Pods("default").Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		now := int64(0)
		c.CoreV1().Pods("default").Delete(context.Background(), "attached", metav1.DeleteOptions{GracePeriodSeconds: &now})
	})
	cfg, err := clientcmd.BuildConfigFromFlags("", shared.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	attach := func(o *corev1.PodAttachOptions) *url.URL {
		return c.CoreV1().RESTClient().Post().Resource("pods").Namespace("default").Name("attached").SubResource("attach").VersionedParams(o, scheme.ParameterCodec).URL()
	}
	u := attach(&corev1.PodAttachOptions{Stdin: true, Stdout: true, Stderr: true})
	ws, err := remotecommand.NewWebSocketExecutor(cfg, http.MethodGet, u.String())
	if err != nil {
		t.Fatal(err)
	}
	spdy, err := remotecommand.NewSPDYExecutor(cfg, http.MethodPost, u)
	if err != nil {
		t.Fatal(err)
	}
	for name, e := range map[string]remotecommand.Executor{"websocket v5": ws, "SPDY": spdy} {
		t.Run(name, func(t *testing.T) {
			for i := range 100 {
				input := strings.Repeat(fmt.Sprintf("line %d\n", i), i*100)
				var out, errOut bytes.Buffer
				if err := e.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: strings.NewReader(input), Stdout: &out, Stderr: &errOut}); err != nil {
					t.Fatalf("attach %d: %v", i, err)
				}
				if out.String() != input {
					t.Fatalf("attach %d: sent %d bytes, got %d back", i, len(input), out.Len())
				}
				if want := "attached to default/attached one\n"; errOut.String() != want {
					t.Fatalf("attach %d: stderr is %q, want %q", i, errOut.String(), want)
				}
			}
		})
	}
}
