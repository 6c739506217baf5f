package api_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/jsonmergepatch"
	"sigs.k8s.io/yaml"

	"hasp/api"
)

// TestValidate prints what is wrong with each object of each file, and the
// warnings; "ok" for an object with neither.
func TestValidate(t *testing.T) {
	golden(t, "validate", func(t *testing.T, files []txtar.File) string {
		var out strings.Builder
		for _, f := range files {
			objects, err := api.Decode(f.Name, f.Data)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range objects {
				said := false
				for _, e := range api.Validate(o) {
					fmt.Fprintf(&out, "%s: %v\n", o.Where(e.Field), e)
					said = true
				}
				for _, w := range api.Warnings(o) {
					fmt.Fprintf(&out, "%s: warning: %s\n", o.Where(""), w)
					said = true
				}
				if !said {
					fmt.Fprintf(&out, "%s: ok\n", o.Where(""))
				}
			}
		}
		return out.String()
	})
}

// The API server and a file get the same answer.
func TestValidateUnstructured(t *testing.T) {
	const manifest = `
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata: {name: x, namespace: shop}
spec:
  host: b*
  trafficPolicy:
    tls: {}
    portLevelSettings:
    - port: {number: 0}
`
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(manifest), &u.Object); err != nil {
		t.Fatal(err)
	}
	o := decodeOne(t, manifest)
	want := fmt.Sprint(api.Validate(o), api.Warnings(o))
	for name, got := range map[string]string{
		"Validate":             fmt.Sprint(api.Validate(u), api.Warnings(u)),
		"ValidateUnstructured": fmt.Sprint(api.ValidateUnstructured(u), api.WarningsUnstructured(u)),
	} {
		if got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, want)
		}
	}
	if !strings.Contains(want, "no mode: that means DISABLE") || !strings.Contains(want, "at least one field") {
		t.Errorf("said only %s", want)
	}

	u.Object["spec"] = "host"
	got := api.Validate(u).ToAggregate().Error()
	if !strings.HasPrefix(got, "spec: Invalid value: ") {
		t.Errorf("a spec of the wrong type: %s", got)
	}
	unknown := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "batch/v1", "kind": "Job"}}
	if errs := api.Validate(unknown); errs != nil {
		t.Errorf("a Job: %v", errs)
	}
}

// Applying "mtls:" with null over a policy loses it on the way: a merge patch has
// no null in a list. It must not pass for "no mutual TLS".
func TestPeerLostToAPatch(t *testing.T) {
	was := []byte(`{"spec":{"peers":[{"mtls":{"mode":"PERMISSIVE"}}]}}`)
	patch, err := jsonmergepatch.CreateThreeWayJSONMergePatch(was, []byte(`{"spec":{"peers":[{"mtls":null}]}}`), was)
	if err != nil {
		t.Fatal(err)
	}
	var p api.Policy
	if err := json.Unmarshal(patch, &p); err != nil {
		t.Fatal(err)
	}
	p.Name = "default"
	var got []string
	for _, e := range api.Validate(&p) {
		got = append(got, e.Error())
	}
	want := []string{`spec.peers[0]: Required value: a peer needs a method; write "mtls: {}" for STRICT, or remove the peer to turn mutual TLS off`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// The manifests of the demo are what the lab applies: nothing is wrong with them
// and nothing is printed about them.
func TestDemoManifests(t *testing.T) {
	seen := 0
	err := filepath.WalkDir("../demo", func(name string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(name) != ".yaml" {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		objects, err := api.Decode(name, data)
		if err != nil {
			t.Error(err)
		}
		for _, o := range objects {
			seen++
			for _, e := range api.Validate(o) {
				t.Errorf("%s: %v", o.Where(e.Field), e)
			}
			for _, w := range api.Warnings(o) {
				t.Errorf("%s: warning: %s", o.Where(""), w)
			}
		}
		return nil
	})
	if err != nil || seen == 0 {
		t.Fatalf("%d objects read: %v", seen, err)
	}
}
