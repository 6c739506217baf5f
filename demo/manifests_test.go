// Package sharedboards_test checks the Kubernetes manifests of the demo: what a
// typing mistake in them would break is found here and not in a lab.
package sharedboards_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// object is as much of a Kubernetes object as the tests look at.
type object struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct {
		Name, Namespace string
		Labels          map[string]string
	}
	Spec spec
	Data map[string]string
}

type spec struct {
	Ports    []port
	Selector any
	Template struct {
		Metadata struct{ Labels, Annotations map[string]string }
		Spec     struct {
			ServiceAccountName string `yaml:"serviceAccountName"`
			Containers         []container
			Volumes            []volume
		}
	}
	Host string
}

type volume struct {
	Claim struct {
		Name string `yaml:"claimName"`
	} `yaml:"persistentVolumeClaim"`
}

type port struct {
	Name          string
	Port          int
	TargetPort    int `yaml:"targetPort"`
	ContainerPort int `yaml:"containerPort"`
}

type container struct {
	Name, Image    string
	Ports          []port
	ReadinessProbe map[string]any `yaml:"readinessProbe"`
}

// read returns the objects of the files that match.
func read(t *testing.T, pattern string) []object {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no file matches %s (%v)", pattern, err)
	}
	var all []object
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for dec := yaml.NewDecoder(bytes.NewReader(data)); ; {
			var o object
			err := dec.Decode(&o)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			all = append(all, o)
		}
	}
	return all
}

// TestApp checks that each Service finds the pods of its Deployment, and what
// the lab takes for granted of both.
func TestApp(t *testing.T) {
	services, pods := map[string]object{}, map[string]object{}
	for _, o := range read(t, "app/*.yaml") {
		if o.Metadata.Namespace != "" {
			t.Errorf("%s %s has a namespace: it is given with -n", o.Kind, o.Metadata.Name)
		}
		switch o.Kind {
		case "Service":
			services[o.Metadata.Name] = o
		case "Deployment":
			pods[o.Metadata.Name] = o
		default:
			t.Errorf("unexpected %s %s", o.Kind, o.Metadata.Name)
		}
	}
	var names []string
	for _, name := range []string{"app-ui", "boards", "boards-mongodb", "context-scraper", "userprofile"} {
		names = append(names, name)
		checkService(t, name, services[name], pods[name])
	}
	if len(services) != len(names) || len(pods) != len(names) {
		t.Errorf("%d services and %d deployments, want %d of each", len(services), len(pods), len(names))
	}
}

func checkService(t *testing.T, name string, svc, dep object) {
	t.Helper()
	want := port{Name: "http", Port: 8080, TargetPort: 8080}
	if name == "boards-mongodb" {
		want = port{Name: "mongo", Port: 27017, TargetPort: 27017}
	}
	if diff := cmp.Diff([]port{want}, svc.Spec.Ports); diff != "" {
		t.Errorf("%s: ports of the service (-want +got):\n%s", name, diff)
	}
	if diff := cmp.Diff(map[string]any{"deploymentconfig": name}, svc.Spec.Selector); diff != "" {
		t.Errorf("%s: selector (-want +got):\n%s", name, diff)
	}
	pod := dep.Spec.Template
	if pod.Metadata.Annotations["sidecar.istio.io/inject"] != "true" {
		t.Errorf("%s: not in the mesh", name)
	}
	for _, label := range []string{"app", "application", "deploymentconfig"} {
		if pod.Metadata.Labels[label] != name {
			t.Errorf("%s: label %s is %q", name, label, pod.Metadata.Labels[label])
		}
	}
	if pod.Metadata.Labels["version"] == "" {
		t.Errorf("%s: no version", name)
	}
	if pod.Spec.ServiceAccountName != "" {
		t.Errorf("%s: has a service account, which the lab's workloads have not", name)
	}
	if len(pod.Spec.Containers) != 1 {
		t.Fatalf("%s: %d containers", name, len(pod.Spec.Containers))
	}
	c := pod.Spec.Containers[0]
	if c.Image != "hasp-demo/"+name+":latest" || c.ReadinessProbe == nil {
		t.Errorf("%s: image %s, probe %v", name, c.Image, c.ReadinessProbe)
	}
	if diff := cmp.Diff([]port{{Name: want.Name, ContainerPort: want.Port}}, c.Ports); diff != "" {
		t.Errorf("%s: ports of the container (-want +got):\n%s", name, diff)
	}
}

// TestClaims checks that every volume of the app is a claim that volumes.yaml
// has for a cluster.
func TestClaims(t *testing.T) {
	var have, want []string
	for _, o := range read(t, "volumes.yaml") {
		have = append(have, o.Metadata.Name)
	}
	for _, o := range read(t, "app/*.yaml") {
		for _, v := range o.Spec.Template.Spec.Volumes {
			want = append(want, v.Claim.Name)
		}
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("claims (-used +defined):\n%s", diff)
	}
}

// TestVersions checks that the other versions of userprofile stand behind the
// same Service, and are told apart by the subsets' label.
func TestVersions(t *testing.T) {
	for i, o := range read(t, "versions/*.yaml") {
		labels := o.Spec.Template.Metadata.Labels
		if o.Kind != "Deployment" || labels["deploymentconfig"] != "userprofile" || labels["version"] != []string{"2.0", "3.0"}[i] {
			t.Errorf("%s %s: labels %v", o.Kind, o.Metadata.Name, labels)
		}
	}
}

// TestLabDocument compares the two files that the lab applies with what the
// lab's document prints of them.
func TestLabDocument(t *testing.T) {
	for name, want := range map[string]string{
		"policy-mtls.yaml": `
apiVersion: authentication.istio.io/v1alpha1
kind: Policy
metadata:
  name: "default"
  namespace: "microservices-demo"
spec:
  peers:
  - mtls:
      mode: STRICT
`,
		"destinationrule-mtls.yaml": `
apiVersion: "networking.istio.io/v1alpha3"
kind: "DestinationRule"
metadata:
  name: "destinationrule-mtls-istio-mutual"
  namespace: "microservices-demo"
spec:
  host: "*.microservices-demo.svc.cluster.local"
  trafficPolicy:
    tls:
      mode: ISTIO_MUTUAL
`,
	} {
		got, err := os.ReadFile(filepath.Join("istio-configuration", name))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), string(got)); diff != "" {
			t.Errorf("%s (-document +file):\n%s", name, diff)
		}
	}
}

// TestMesh checks the other files: the kinds in them, and the hosts of the
// rules that the lab deletes.
func TestMesh(t *testing.T) {
	for file, want := range map[string]string{
		"mesh.yaml":    "Namespace/istio-system Namespace/microservices-demo ConfigMap/istio MeshPolicy/default",
		"gateway.yaml": "ServiceAccount/istio-ingressgateway-service-account Service/istio-ingressgateway Deployment/istio-ingressgateway",
		"istio-configuration/ingress-gateway.yaml": "Gateway/demogateway VirtualService/demogateway",
		"istio-configuration/destinationrules-all.yaml": "DestinationRule/app-ui DestinationRule/boards DestinationRule/boards-mongodb " +
			"DestinationRule/userprofile DestinationRule/userprofile-postgresql",
	} {
		var got []string
		for _, o := range read(t, file) {
			got = append(got, o.Kind+"/"+o.Metadata.Name)
			if o.Kind == "DestinationRule" && o.Spec.Host != o.Metadata.Name {
				t.Errorf("%s: rule %s is for %s", file, o.Metadata.Name, o.Spec.Host)
			}
			if o.Kind == "ConfigMap" && o.Data["mesh"] != "enableAutoMtls: false\n" {
				t.Errorf("%s: mesh settings %q", file, o.Data["mesh"])
			}
		}
		if diff := cmp.Diff(want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
}
