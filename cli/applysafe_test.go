package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"hasp/api"
	"hasp/mesh"
	"hasp/source"
	"hasp/truth"
)

const (
	strictDoc = "{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: default, namespace: shop}, spec: {mtls: {mode: STRICT}}}"
	mutualDoc = "{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: mtls, namespace: shop}, spec: {host: boards, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}}"
)

// fakeMesh is an API server and a control plane in one: it writes down what is
// done, says of the answers what it was told to, and never takes what is stuck.
type fakeMesh struct {
	t       *testing.T
	objects map[string]*unstructured.Unstructured
	log     []string
	cutting string           // a candidate with this word cuts somebody
	links   []truth.Link     // that are there
	onApply func(key string) // is called after each
	stuck   string           // a kind that no proxy takes
	refuse  string           // a kind whose status says that it is not used
	fail    string           // a kind that cannot be applied
	version int
}

func key(o *object) string { return o.want.GetKind() + " " + o.want.GetName() }

func (f *fakeMesh) get(_ context.Context, o *object) (*unstructured.Unstructured, error) {
	u := f.objects[key(o)]
	if u == nil {
		return nil, nil
	}
	return u.DeepCopy(), nil
}

func (f *fakeMesh) apply(_ context.Context, o *object) (*unstructured.Unstructured, error) {
	if o.want.GetKind() == f.fail {
		return nil, errors.New("the API server has gone to lunch")
	}
	u := f.write(o, o.want)
	f.log = append(f.log, "apply "+key(o))
	if f.onApply != nil {
		f.onApply(key(o))
	}
	return u, nil
}

func (f *fakeMesh) put(_ context.Context, o *object, u *unstructured.Unstructured) error {
	if u.GetResourceVersion() != f.objects[key(o)].GetResourceVersion() {
		return errors.New("conflict")
	}
	f.write(o, u)
	f.log = append(f.log, "put "+key(o))
	return nil
}

func (f *fakeMesh) remove(_ context.Context, o *object, _ types.UID) error {
	delete(f.objects, key(o))
	f.log = append(f.log, "delete "+key(o))
	return nil
}

func (f *fakeMesh) write(o *object, u *unstructured.Unstructured) *unstructured.Unstructured {
	f.version++
	u = u.DeepCopy()
	u.SetResourceVersion(fmt.Sprint(f.version))
	u.SetGeneration(int64(f.version))
	condition := map[string]any{"type": "Reconciled", "status": "True"}
	switch u.GetKind() {
	case f.stuck:
		condition = map[string]any{"type": "Reconciled", "status": "False", "reason": "Pending"}
	case f.refuse:
		condition = map[string]any{"type": "Reconciled", "status": "False", "reason": "NotUsed", "message": "it makes no sense"}
	}
	u.Object["status"] = map[string]any{"observedGeneration": int64(f.version), "conditions": []any{condition}}
	f.objects[key(o)] = u
	return u.DeepCopy()
}

func (f *fakeMesh) WhatIfOf(_ context.Context, manifests []byte, _ string, _ bool) (truth.Answer, error) {
	a := truth.Answer{Effects: []truth.Effect{{What: truth.Upgraded, Source: web, Destination: boards, Pods: []string{"shop/web-1"}, Port: 8080, Live: 1}}}
	if f.cutting != "" && strings.Contains(string(manifests), f.cutting) {
		a.Effects = append(a.Effects, truth.Effect{What: truth.Cut, Source: rogue, Destination: boards, Port: 8080, Why: "no sidecar", Fix: "give it one"})
	}
	return a, nil
}

func (f *fakeMesh) Links(context.Context, string) ([]truth.Link, error) { return f.links, nil }

func (f *fakeMesh) Facts(context.Context) (*truth.Facts, error) {
	web := truth.Reporter{Node: "shop/web-1", Connected: true, Generation: 6}
	if slices.ContainsFunc(f.log, func(s string) bool { return !strings.HasPrefix(s, "apply") }) {
		web.Generation = 7 // it takes what was there before
	}
	return &truth.Facts{At: noon, Generation: 7, Proxies: []truth.Reporter{web}}, nil
}

func link(s mesh.Security) truth.Link {
	return truth.Link{Source: web, Destination: boards, Port: 8080, Seen: "both", Security: s, Allowed: true}
}

// objectsOf manifests.
func objectsOf(t *testing.T, docs ...string) []*object {
	t.Helper()
	all, err := api.Decode("test.yaml", []byte(strings.Join(docs, "\n---\n")))
	if err != nil {
		t.Fatal(err)
	}
	var out []*object
	for _, m := range all {
		out = append(out, &object{manifest: m, want: m.Written(), resource: schema.GroupVersionResource{Group: m.GVK.Group}})
	}
	return out
}

func TestApplySafe(t *testing.T) {
	old := "{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: mtls, namespace: shop, labels: {a: b}}, spec: {host: boards}}"
	done := []string{"apply DestinationRule mtls", "apply PeerAuthentication default"}
	rule, policy := done[0], done[1]
	for name, c := range map[string]struct {
		mesh    fakeMesh
		old     string
		timeout time.Duration
		dryRun  bool
		stop    bool // Ctrl-C once the first is applied
		log     []string
		want    string // of the error, or the output
	}{
		"the client comes back with mutual TLS": {log: done, want: "Applied, and every connected proxy has it: DestinationRule shop/mtls, PeerAuthentication shop/default."},
		"dry run":                               {dryRun: true, want: "Nothing was applied: --dry-run."},
		"somebody would be cut":                 {mesh: fakeMesh{cutting: "STRICT"}, want: "exit status 3"},
		"the client stays": {mesh: fakeMesh{links: []truth.Link{link(mesh.Plaintext)}}, timeout: time.Second, old: old, log: []string{rule, "put DestinationRule mtls"},
			want: "not done within 1s, while waiting for mutual TLS between 1 of 1 pairs that talk: shop/web-1 to boards.shop:8080; everything is as it was before"},
		"Ctrl-C": {mesh: fakeMesh{links: []truth.Link{link(mesh.Plaintext)}}, stop: true, log: []string{rule, "delete DestinationRule mtls"},
			want: "interrupted, while "},
		"a proxy that does not take it": {mesh: fakeMesh{stuck: "PeerAuthentication"}, timeout: time.Second, log: []string{rule, policy, "delete PeerAuthentication default", "delete DestinationRule mtls"},
			want: "not done within 1s, while step 2 of 2, servers let in less: waiting for the proxies of shop/web-1; everything is as it was before"},
		"an object that is not used": {mesh: fakeMesh{refuse: "DestinationRule"}, log: []string{rule, "delete DestinationRule mtls"},
			want: "DestinationRule shop/mtls: NotUsed: it makes no sense, while "},
		"the API server fails": {mesh: fakeMesh{fail: "PeerAuthentication"}, old: old, log: []string{rule, "put DestinationRule mtls"},
			want: "apply PeerAuthentication shop/default: the API server has gone to lunch, while "},
	} {
		t.Run(name, func(t *testing.T) {
			f := &c.mesh
			f.t, f.objects = t, map[string]*unstructured.Unstructured{}
			if c.old != "" {
				o := objectsOf(t, c.old)[0]
				f.write(o, o.want)
			}
			before := maps.Clone(f.objects)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stays := len(f.links) > 0
			if !stays {
				f.links = []truth.Link{link(mesh.Plaintext)}
			}
			f.onApply = func(key string) {
				if c.stop {
					cancel()
				}
				if !stays && strings.HasPrefix(key, "DestinationRule") {
					f.links = []truth.Link{link(mesh.MutualTLS)}
				}
			}
			var out bytes.Buffer
			a := &applying{e: &env{Config: Config{Out: &out, Err: &out}}, ask: f, store: f, timeout: max(c.timeout, 0), dryRun: c.dryRun}
			if a.timeout == 0 {
				a.timeout = time.Minute
			}
			objects := objectsOf(t, mutualDoc, strictDoc)
			a.steps = []*stage{{"clients", objects[:1]}, {lessStep, objects[1:]}}
			err := a.do(ctx)
			got := out.String()
			if err != nil {
				got = err.Error()
			}
			if !strings.Contains(got, c.want) {
				t.Errorf("got %s\nwant %s", got, c.want)
			}
			if diff := cmp.Diff(c.log, f.log); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if len(c.log) > 0 && c.log[len(c.log)-1] != policy {
				for k, u := range f.objects {
					if before[k] == nil || !same(before[k], u) {
						t.Errorf("%s is not as it was", k)
					}
				}
				if len(f.objects) != len(before) {
					t.Errorf("there is %v", slices.Collect(maps.Keys(f.objects)))
				}
			}
		})
	}
}

// What somebody else wrote meanwhile is his.
func TestApplySafeLeavesWhatOthersWrote(t *testing.T) {
	f := &fakeMesh{t: t, objects: map[string]*unstructured.Unstructured{}}
	o := objectsOf(t, mutualDoc)[0]
	if err := o.apply(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	theirs := objectsOf(t, strings.Replace(mutualDoc, "ISTIO_MUTUAL", "DISABLE", 1))[0]
	f.write(theirs, theirs.want)
	_, err := o.restore(t.Context(), f)
	if err == nil || err.Error() != "DestinationRule shop/mtls was changed by somebody else meanwhile and is left as it is" || f.objects[key(o)] == nil {
		t.Errorf("%v", err)
	}
}

func TestApplyOrder(t *testing.T) {
	const base = `
{apiVersion: v1, kind: Service, metadata: {name: boards, namespace: shop}, spec: {clusterIP: 10.96.0.3, selector: {app: boards}, ports: [{name: http, port: 8080, targetPort: 80}]}}
---
{apiVersion: authentication.istio.io/v1alpha1, kind: Policy, metadata: {name: default, namespace: bank}, spec: {peers: [{mtls: {}}]}}
`
	pods, err := api.Decode("pods.yaml", []byte(`
{apiVersion: v1, kind: Pod, metadata: {name: boards-1, namespace: shop, labels: {app: boards}}, spec: {containers: [{name: a, image: x}, {name: istio-proxy, image: x}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: vault-1, namespace: bank, labels: {app: vault}}, spec: {containers: [{name: a, image: x}, {name: istio-proxy, image: x}]}}
`))
	if err != nil {
		t.Fatal(err)
	}
	objects, err := source.ReadCandidate(strings.NewReader(base), "base.yaml")
	if err != nil {
		t.Fatal(err)
	}
	read := &source.Objects{}
	for _, p := range pods {
		read.Pods = append(read.Pods, p.Value.(*corev1.Pod))
	}
	if read, _, err = read.Apply(objects, "shop", false, noon); err != nil {
		t.Fatal(err)
	}
	for doc, want := range map[string]int{
		strictDoc: lessLast,
		strings.Replace(strictDoc, "STRICT", "PERMISSIVE", 1): moreFirst,
		strings.Replace(strictDoc, "STRICT", "DISABLE", 1):    lessLast,
		mutualDoc: clientsThen,
		"{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: boards, namespace: shop}, spec: {selector: {matchLabels: {app: boards}}, portLevelMtls: {80: {mode: STRICT}}}}": lessLast,
		"{apiVersion: authentication.istio.io/v1alpha1, kind: Policy, metadata: {name: default, namespace: bank}, spec: {peers: [{mtls: {mode: PERMISSIVE}}]}}":                                        moreFirst,
		"{apiVersion: authentication.istio.io/v1alpha1, kind: Policy, metadata: {name: default, namespace: bank}, spec: {}}":                                                                           lessLast,
		"{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: a, namespace: shop}, spec: {}}":                                                                                lessLast,
		"{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: istio-system}, data: {mesh: 'enableAutoMtls: true'}}":                                                                    clientsThen,
	} {
		if got := objectsOf(t, doc)[0].order(read, "shop"); got != want {
			t.Errorf("%s: step %d, want %d", doc, got, want)
		}
	}
}
