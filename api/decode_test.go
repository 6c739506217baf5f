package api_test

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	networking "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"hasp/api"
)

// TestDecode prints, for each file, a line for each object and the errors.
func TestDecode(t *testing.T) {
	golden(t, "decode", func(t *testing.T, files []txtar.File) string {
		var out strings.Builder
		for _, f := range files {
			objects, err := api.Decode(f.Name, f.Data)
			for _, o := range objects {
				known := ""
				if !o.Known() {
					known = " (unknown)"
				}
				fmt.Fprintf(&out, "%s: %s %s %s/%s%s\n", o.Where(""), o.GVK.GroupVersion(), o.GVK.Kind, o.Meta().GetNamespace(), o.Meta().GetName(), known)
			}
			if err != nil {
				fmt.Fprintln(&out, err)
			}
		}
		return out.String()
	})
}

func decodeOne(t *testing.T, manifest string) api.Object {
	t.Helper()
	objects, err := api.Decode("test.yaml", []byte(manifest))
	if err != nil || len(objects) != 1 {
		t.Fatalf("Decode = %d objects, %v", len(objects), err)
	}
	return objects[0]
}

func TestDecodeKeepsWhatDecides(t *testing.T) {
	o := decodeOne(t, `
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata:
  name: all
  namespace: shop
  creationTimestamp: "2020-05-08T10:00:00Z"
spec:
  host: "*.shop.svc.cluster.local"
  trafficPolicy:
    tls:
      mode: ISTIO_MUTUAL
    connectionPool:
      tcp: {connectTimeout: 1.5s}
    portLevelSettings:
    - port: {number: 8080}
      tls: {}
`)
	dr, ok := o.Value.(*networking.DestinationRule)
	if !ok {
		t.Fatalf("Value is a %T", o.Value)
	}
	got := fmt.Sprint(dr.APIVersion, dr.CreationTimestamp.UTC().Format(" 2006-01-02 15:04"), " ", dr.Spec.Host, " ", dr.Spec.TrafficPolicy.Tls.Mode,
		" ", dr.Spec.TrafficPolicy.ConnectionPool.Tcp.ConnectTimeout.AsDuration(), " ", dr.Spec.TrafficPolicy.PortLevelSettings[0].Tls.Mode)
	want := "networking.istio.io/v1alpha3 2020-05-08 10:00 *.shop.svc.cluster.local ISTIO_MUTUAL 1.5s DISABLE"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestObjectWhere(t *testing.T) {
	o := decodeOne(t, `apiVersion: authentication.istio.io/v1alpha1
kind: Policy
metadata:
  name: boards
  annotations:
    a.b/c: x
spec:
  targets:
  - name: boards
    ports:
    - number: 8080
  - {name: ui}
  peers:
  - mtls:
      mode: STRICT
`)
	for field, want := range map[string]string{
		"":                             "test.yaml:1",
		"metadata.name":                "test.yaml:4",
		"metadata.annotations[a.b/c]":  "test.yaml:6",
		"spec.targets[0].ports[0]":     "test.yaml:11",
		"spec.targets[1].name":         "test.yaml:12",
		"spec.targets[1].ports[7]":     "test.yaml:12",
		"spec.peers[0].mtls.mode":      "test.yaml:15",
		"spec.peers[0].mtls.allowTls":  "test.yaml:14",
		"spec.principalBinding":        "test.yaml:7",
		"status.conditions[0].message": "test.yaml:1",
	} {
		if got := o.Where(field); got != want {
			t.Errorf("Where(%q) = %s, want %s", field, got, want)
		}
	}
}

func TestDecodeSize(t *testing.T) {
	_, err := api.Decode("big.yaml", make([]byte, api.MaxBytes+1))
	want := "big.yaml: 16777217 bytes are more than the 16 MiB that are read at once; split the file"
	if err == nil || err.Error() != want {
		t.Errorf("Decode = %v, want %s", err, want)
	}
}

// What an API server admitted must never be lost, not even for fields that this
// version does not know.
func TestFromUnstructured(t *testing.T) {
	u := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "networking.istio.io/v1beta1", "kind": "DestinationRule",
		"metadata": map[string]any{"name": "x", "namespace": "n", "future": true},
		"spec": map[string]any{
			"host":   "boards",
			"future": map[string]any{"a": int64(1)},
			"trafficPolicy": map[string]any{
				"tls":       map[string]any{"mode": "SIMPLE", "future": "yes"},
				"newFangle": nil,
			},
		},
	}}
	v, err := api.FromUnstructured(u)
	if err != nil {
		t.Fatal(err)
	}
	dr, ok := v.(*networking.DestinationRule)
	if !ok || dr.Name != "x" || dr.Spec.Host != "boards" || dr.Spec.TrafficPolicy.Tls.Mode.String() != "SIMPLE" {
		t.Errorf("FromUnstructured = %#v", v)
	}

	unknown := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "batch/v1", "kind": "Job"}}
	if v, err := api.FromUnstructured(unknown); v != any(unknown) || err != nil {
		t.Errorf("FromUnstructured of a Job = %v, %v; want itself", v, err)
	}

	u.Object["spec"] = map[string]any{"host": []any{"a"}}
	_, err = api.FromUnstructured(u)
	if err == nil || !strings.HasPrefix(err.Error(), "api: decode DestinationRule n/x: ") {
		t.Errorf("FromUnstructured of a bad object: %v", err)
	}
}

func TestPeerMethodRoundTrip(t *testing.T) {
	for in, want := range map[string]api.PeerMethod{
		`mtls: {}`:                    {HasMTLS: true, MTLSMode: "STRICT"},
		`mtls:`:                       {HasMTLS: true, MTLSMode: "STRICT"},
		`mtls: null`:                  {HasMTLS: true, MTLSMode: "STRICT"},
		`mtls: {mode: STRICT}`:        {HasMTLS: true, MTLSMode: "STRICT"},
		`mtls: {mode: PERMISSIVE}`:    {HasMTLS: true, MTLSMode: "PERMISSIVE"},
		`mtls: {allowTls: true}`:      {HasMTLS: true, MTLSMode: "STRICT", AllowTLS: true},
		`mtls: {mode: WRONG}`:         {HasMTLS: true, MTLSMode: "WRONG"},
		`jwt: {issuer: a}`:            {HasJWT: true},
		`{jwt: null, mtls: {}}`:       {HasMTLS: true, MTLSMode: "STRICT"},
		`{jwt: {}, mtls: {mode: ""}}`: {HasMTLS: true, MTLSMode: "STRICT", HasJWT: true},
		`{}`:                          {},
	} {
		policy := "apiVersion: authentication.istio.io/v1alpha1\nkind: Policy\nmetadata: {name: default}\nspec:\n  peers:\n  - " + in + "\n"
		o := decodeOne(t, policy)
		got := o.Value.(*api.Policy).Spec.Peers
		if diff := cmp.Diff([]api.PeerMethod{want}, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", in, diff)
			continue
		}
		b, err := want.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		var again api.PeerMethod
		if err := again.UnmarshalJSON(b); err != nil || again != want {
			t.Errorf("%s: written as %s, read as %+v (%v)", in, b, again, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob("testdata/decode/*.txt")
	if err != nil || len(files) == 0 {
		f.Fatal("no seeds: ", err)
	}
	for _, name := range files {
		a, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(a.Files[0].Data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		objects, err := api.Decode("f", data)
		lines := 1
		for _, br := range []string{"\n", "\r", "\u0085", "\u2028", "\u2029"} { // all are YAML's
			lines += bytes.Count(data, []byte(br))
		}
		for _, o := range objects {
			if o.Value == nil || o.Line < 1 || o.Line > lines {
				t.Fatalf("object at line %d of %d: %v", o.Line, lines, o.Value)
			}
			o.Where("spec.a[0].b[c.d].e")
			api.Warnings(o)
			for _, e := range api.Validate(o) {
				o.Where(e.Field)
			}
		}
		var e *api.Error
		if errors.As(err, &e) && (e.Line < 1 || e.Line > lines+1) {
			t.Fatalf("error at line %d of %d: %v", e.Line, lines, err)
		}
	})
}
