package inject_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"hasp/inject"
)

func handler(cfg inject.Config) inject.Handler {
	return inject.Handler{
		Config: func() inject.Config { return cfg },
		Namespace: func(name string) (*corev1.Namespace, error) {
			ns := &corev1.Namespace{}
			ns.Name = name
			switch name {
			case "nowhere":
				return nil, errors.New("not found")
			case "meshed":
				ns.Labels = map[string]string{"istio-injection": "enabled"}
			}
			return ns, nil
		},
		Log: slog.New(slog.DiscardHandler),
	}
}

// review is a request for the creation of a pod, written as YAML.
func review(t testing.TB, namespace, pod string) []byte {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(pod))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Appendf(nil, `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u-1",
"kind":{"group":"","version":"v1","kind":"Pod"},"resource":{"group":"","version":"v1","resource":"pods"},
"namespace":%q,"operation":"CREATE","dryRun":true,"object":%s}}`, namespace, raw)
}

func post(h http.Handler, body []byte) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/inject", bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func response(t testing.TB, w *httptest.ResponseRecorder) *admissionv1.AdmissionResponse {
	t.Helper()
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	var out admissionv1.AdmissionReview
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
		t.Fatal(err)
	}
	if out.APIVersion != "admission.k8s.io/v1" || out.Kind != "AdmissionReview" || out.Request != nil || out.Response == nil {
		t.Fatalf("got %s", w.Body)
	}
	return out.Response
}

// A pod that a controller names only later, with fields of a newer Kubernetes:
// the patch makes of it what Template does.
func TestWebhookPatch(t *testing.T) {
	const pod = `
apiVersion: v1
kind: Pod
metadata:
  generateName: boards-
spec:
  futureField: {a: 1}
  initContainers:
  - {name: one, image: one:1, futureField: one}
  - {name: two, image: two:1, futureField: two}
  containers:
  - {name: boards, image: boards:1}
  volumes:
  - {name: data, emptyDir: {}}`
	cfg := inject.DefaultConfig()
	body := review(t, "meshed", pod)
	got := response(t, post(handler(cfg), body))
	if got.UID != "u-1" || !got.Allowed || got.PatchType == nil || *got.PatchType != admissionv1.PatchTypeJSONPatch {
		t.Fatalf("got %+v", got)
	}
	patch, err := jsonpatch.DecodePatch(got.Patch)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := yaml.YAMLToJSON([]byte(pod))
	if err != nil {
		t.Fatal(err)
	}
	patched, err := patch.Apply(raw)
	if err != nil {
		t.Fatal(err)
	}
	var before, after map[string]any
	if err := errors.Join(json.Unmarshal(raw, &before), json.Unmarshal(patched, &after)); err != nil {
		t.Fatal(err)
	}
	ns, _ := handler(cfg).Namespace("meshed")
	want, err := inject.Template(before, "meshed", ns, cfg)
	if err != nil {
		t.Fatal(err)
	}
	wantJSON, _ := json.Marshal(want.Tree)
	var wantTree map[string]any
	if err := json.Unmarshal(wantJSON, &wantTree); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wantTree, after); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	var names []string
	for _, c := range after["spec"].(map[string]any)["initContainers"].([]any) {
		c := c.(map[string]any)
		names = append(names, fmt.Sprint(c["name"], " ", c["futureField"]))
	}
	if want := "istio-init <nil>,istio-proxy <nil>,one one,two two"; strings.Join(names, ",") != want {
		t.Errorf("init containers %s, want %s", strings.Join(names, ","), want)
	}
}

func TestWebhookAnswers(t *testing.T) {
	const plain = `{metadata: {name: a}, spec: {containers: [{name: a, image: a}]}}`
	for _, tc := range []struct {
		name, namespace, pod string
		code                 int32 // 0: allowed
		message, warning     string
		patched              bool
	}{
		{name: "asked", namespace: "meshed", pod: plain, patched: true},
		{name: "not asked", namespace: "other", pod: plain},
		{name: "refused", namespace: "meshed", pod: `{metadata: {annotations: {traffic.sidecar.istio.io/excludeInboundPorts: x, sidecar.istio.io/logLevel: loud}}, spec: {containers: [{name: a}]}}`,
			code: 422, message: `annotation traffic.sidecar.istio.io/excludeInboundPorts: "x": "x" is not a port; write numbers from 1 to 65535, separated by commas; annotation sidecar.istio.io/logLevel: "loud": write debug, info, warning or error`},
		{name: "warned", namespace: "meshed", pod: `{spec: {hostNetwork: true, containers: [{name: a}]}}`,
			warning: "no sidecar: the pod is on its node's network (hostNetwork), where its connections cannot be told from the node's"},
		{name: "unknown namespace", namespace: "nowhere", pod: plain, code: 503,
			message: "namespace nowhere is not known yet, so whether the pod is to be in the mesh is not either; try again: not found"},
		{name: "nothing", namespace: "meshed", pod: `{}`, code: 422, message: "the pod cannot be read: it is empty"},
		{name: "not a pod", namespace: "meshed", pod: `{spec: []}`, code: 422,
			message: "the pod cannot be read: json: cannot unmarshal array into Go struct field Pod.spec of type v1.PodSpec"},
	} {
		got := response(t, post(handler(inject.DefaultConfig()), review(t, tc.namespace, tc.pod)))
		if got.Allowed != (tc.code == 0) || got.UID != "u-1" || (len(got.Patch) > 0) != tc.patched {
			t.Errorf("%s: got %+v", tc.name, got)
		}
		if tc.code != 0 && (got.Result == nil || got.Result.Code != tc.code || got.Result.Message != tc.message) {
			t.Errorf("%s: got %+v, want %d %s", tc.name, got.Result, tc.code, tc.message)
		}
		if strings.Join(got.Warnings, "|") != tc.warning {
			t.Errorf("%s: warnings %q", tc.name, got.Warnings)
		}
	}
}

func TestWebhookRefusesRequests(t *testing.T) {
	good := string(review(t, "meshed", `{}`))
	for _, tc := range []struct {
		name, method, content, body string
		code                        int
		want                        string
	}{
		{"GET", http.MethodGet, "application/json", good, 405, "an admission review is a POST"},
		{"content type", http.MethodPost, "text/plain", good, 415, "an admission review is application/json"},
		{"too long", http.MethodPost, "application/json", strings.Repeat(" ", 8<<20) + good, 413, "an admission review of more than 8388608 bytes"},
		{"no JSON", http.MethodPost, "application/json", "{", 400, "decode the admission review: unexpected end of JSON input"},
		{"old version", http.MethodPost, "application/json", strings.Replace(good, "k8s.io/v1", "k8s.io/v1beta1", 1), 400, "admission.k8s.io/v1beta1 AdmissionReview is not an AdmissionReview of admission.k8s.io/v1"},
		{"no request", http.MethodPost, "application/json", `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`, 400, "an admission review without a request"},
		{"update", http.MethodPost, "application/json", strings.Replace(good, "CREATE", "UPDATE", 1), 400, "UPDATE pods: only CREATE of pods is injected; correct the webhook's rules"},
		{"another kind", http.MethodPost, "application/json", strings.Replace(good, `"resource":"pods"`, `"resource":"services"`, 1), 400, "CREATE services: only CREATE of pods is injected; correct the webhook's rules"},
	} {
		r := httptest.NewRequest(tc.method, "/inject", strings.NewReader(tc.body))
		r.Header.Set("Content-Type", tc.content)
		w := httptest.NewRecorder()
		handler(inject.DefaultConfig()).ServeHTTP(w, r)
		if got := strings.TrimSpace(w.Body.String()); w.Code != tc.code || got != tc.want {
			t.Errorf("%s: got %d %s, want %d %s", tc.name, w.Code, got, tc.code, tc.want)
		}
	}
}

// FuzzWebhook: whatever comes, the answer is a status, or a review of the same
// uid whose patch fits the object that came.
func FuzzWebhook(f *testing.F) {
	f.Add([]byte(`{}`))
	f.Add(review(f, "meshed", `null`))
	f.Add(review(f, "meshed", `{}`))
	f.Add(review(f, "meshed", `{metadata: {name: a}, spec: {containers: [{name: a, image: a}]}}`))
	f.Add(review(f, "meshed", `{spec: {volumes: [{name: x}], initContainers: [null, {name: b}], containers: [{name: b}, {name: b}]}}`))
	f.Add(review(f, "meshed", `{metadata: {annotations: {proxy.istio.io/config: "{}", openshift.io/x: y}}, spec: {containers: null}}`))
	h := handler(inject.DefaultConfig())
	f.Fuzz(func(t *testing.T, body []byte) {
		w := post(h, body)
		if w.Code != http.StatusOK {
			return
		}
		got := response(t, w)
		if len(got.Patch) == 0 {
			return
		}
		var in admissionv1.AdmissionReview
		if err := json.Unmarshal(body, &in); err != nil {
			t.Fatal(err)
		}
		patch, err := jsonpatch.DecodePatch(got.Patch)
		if err != nil {
			t.Fatal(err)
		}
		patched, err := patch.Apply(in.Request.Object.Raw)
		if err != nil {
			t.Fatalf("%v\n%s\n%s", err, in.Request.Object.Raw, got.Patch)
		}
		if !bytes.Contains(patched, []byte(`"istio-proxy"`)) {
			t.Errorf("no sidecar in %s", patched)
		}
	})
}

// TestWebhookOverHTTP is one review over a socket.
func TestWebhookOverHTTP(t *testing.T) {
	s := httptest.NewServer(handler(inject.DefaultConfig()))
	defer s.Close()
	body := review(t, "meshed", `{spec: {containers: [{name: a, image: a}]}}`)
	r, err := http.Post(s.URL+"/inject?timeout=10s", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK || !bytes.Contains(b, []byte(`"patchType":"JSONPatch"`)) {
		t.Errorf("%d %v %s", r.StatusCode, err, b)
	}
}
