package deploy

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/engine"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// Options of one rendering.
type Options struct {
	// Values over the chart's own, as [Values] merges them; may be nil.
	Values map[string]any
	// Release names the installation, in the label app.kubernetes.io/instance.
	// Empty is "hasp".
	Release string
	// ManagedBy is the label app.kubernetes.io/managed-by. Empty is "hasp";
	// helm's own is "Helm".
	ManagedBy string
}

// Render gives every object of the installation in the order to apply them:
// the namespace, the definitions, accounts and settings, what runs, and last
// the webhooks. An error names the value or template that is wrong.
func Render(o Options) ([]*unstructured.Unstructured, error) {
	release, manager := cmp.Or(o.Release, "hasp"), cmp.Or(o.ManagedBy, "hasp")
	c, err := load()
	if err != nil {
		return nil, err
	}
	values, err := util.ToRenderValues(c, o.Values, common.ReleaseOptions{
		Name: release, Namespace: Namespace, Revision: 1, IsInstall: true,
	}, nil)
	if err != nil {
		return nil, fmt.Errorf("deploy: %w", err)
	}
	values["Release"].(map[string]any)["Service"] = manager
	texts, err := engine.Render(c, values)
	if err != nil {
		return nil, fmt.Errorf("deploy: %w", err)
	}
	objects := []*unstructured.Unstructured{namespace(release, manager, c.Metadata.AppVersion, values)}
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		if path.Ext(name) != ".yaml" {
			continue // NOTES.txt, helpers
		}
		list, err := decode(texts[name])
		if err != nil {
			return nil, fmt.Errorf("deploy: %s: %w", name, err)
		}
		objects = append(objects, list...)
	}
	slices.SortStableFunc(objects, func(a, b *unstructured.Unstructured) int {
		return cmp.Compare(stage(a), stage(b))
	})
	return objects, nil
}

// namespace is the one object helm makes by itself (--create-namespace). Pod
// Security admits to it what the chart's pods need and no more.
func namespace(release, manager, version string, values common.Values) *unstructured.Unstructured {
	level := "restricted"
	if on, _ := values.PathValue("Values.cni.enabled"); on == true {
		level = "privileged" // the agent's directories are the node's
	}
	u := &unstructured.Unstructured{}
	u.SetAPIVersion("v1")
	u.SetKind("Namespace")
	u.SetName(Namespace)
	u.SetLabels(map[string]string{
		InstanceLabel: release, ManagedByLabel: manager, PartOfLabel: "hasp", VersionLabel: version,
		"pod-security.kubernetes.io/enforce": level,
	})
	return u
}

// stage orders kinds so that nothing is applied before what it needs.
func stage(u *unstructured.Unstructured) int {
	switch u.GetKind() {
	case "Namespace":
		return 0
	case "CustomResourceDefinition":
		return 1
	case "Deployment", "DaemonSet":
		return 3
	case "PodDisruptionBudget", "HorizontalPodAutoscaler":
		return 4
	case "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration":
		return 5 // a webhook without a server behind it refuses
	}
	return 2
}

func decode(text string) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	for d := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096); ; {
		var raw runtime.RawExtension
		if err := d.Decode(&raw); errors.Is(err, io.EOF) {
			return out, nil
		} else if err != nil {
			return nil, err
		}
		if raw.Raw = bytes.TrimSpace(raw.Raw); len(raw.Raw) == 0 || string(raw.Raw) == "null" {
			continue
		}
		u := &unstructured.Unstructured{}
		if err := u.UnmarshalJSON(raw.Raw); err != nil {
			return nil, err
		}
		out = append(out, u)
	}
}
