package deploy_test

import (
	"os"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"hasp/deploy"
)

// TestValuesRefused: a value that would do nothing, or harm, is refused by name.
func TestValuesRefused(t *testing.T) {
	for values, want := range map[string]string{
		"gatway: {enabled: false}":                      "at '': additional properties 'gatway' not allowed",
		"gateway: {enabled: maybe}":                     "at '/gateway/enabled': got string, want boolean",
		"controlPlane: {replicas: 0}":                   "at '/controlPlane/replicas': minimum: got 0, want 1",
		"gateway: {service: {ports: []}}":               "at '/gateway/service/ports': minItems: got 0, want 1",
		"gateway: {service: {ports: [{port: 80}]}}":     "at '/gateway/service/ports/0': missing property 'name'",
		"injection: {excludeOutboundPorts: [70000]}":    "at '/injection/excludeOutboundPorts/0': maximum: got 70,000, want 65,535",
		"ca: {address: 'https://ca.example.com'}":       "at '/ca/address': 'https://ca.example.com' does not match pattern",
		"ca: {certLifetime: 1d}":                        "at '/ca/certLifetime': '1d' does not match pattern",
		"platform: k3s":                                 "at '/platform': value must be one of '', 'openshift'",
		"cni: {multus: true}":                           "cni.multus needs cni.enabled",
		"cni: {confDir: etc/cni}":                       "at '/cni/confDir': 'etc/cni' does not match pattern",
		"controlPlane: {logLevel: loud}":                "at '/controlPlane/logLevel': value must be one of 'debug', 'info', 'warn', 'error'",
		"controlPlane: {onDemand: sometimes}":           "at '/controlPlane/onDemand': 'oneOf' failed, none matched",
		"controlPlane: {podDisruptionBudget: {max: 1}}": "at '/controlPlane/podDisruptionBudget': additional properties 'max' not allowed",
	} {
		v, err := deploy.Values([]string{values}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := deploy.Render(deploy.Options{Values: v}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\ngot  %v\nwant %s", values, err, want)
		}
	}
}

func TestValues(t *testing.T) {
	v, err := deploy.Values([]string{"a: {b: 1, c: 2}", "a: {b: 3}"}, []string{"a.d=4,e=x", "a.c=null"})
	if err != nil {
		t.Fatal(err)
	}
	a := v["a"].(map[string]any)
	if a["b"] != 3.0 || a["d"] != int64(4) || v["e"] != "x" || a["c"] != nil {
		t.Errorf("%#v", v)
	}
	for _, c := range []struct {
		texts, set []string
		want       string
	}{
		{[]string{"a: ["}, nil, "deploy: values: error converting YAML to JSON"},
		{nil, []string{"a"}, `deploy: --set a: key "a" has no value`},
	} {
		if _, err := deploy.Values(c.texts, c.set); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v %v: %v, want %s", c.texts, c.set, err, c.want)
		}
	}
}

// TestSchema: values.yaml has every value that values.schema.json takes, so that
// each is explained, and none that it does not.
func TestSchema(t *testing.T) {
	read := func(file string, into any) {
		b, err := os.ReadFile(file)
		if err == nil {
			err = yaml.Unmarshal(b, into)
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	var values map[string]any
	var schema struct {
		property
		Defs map[string]property `json:"$defs"`
	}
	read("hasp/values.yaml", &values)
	read("hasp/values.schema.json", &schema)
	var compare func(path string, p property, v any)
	compare = func(path string, p property, v any) {
		if name, ok := strings.CutPrefix(p.Ref, "#/$defs/"); ok {
			p = schema.Defs[name]
		}
		if p.Properties == nil {
			return
		}
		object, _ := v.(map[string]any)
		for name, below := range p.Properties {
			value, there := object[name]
			if !there && path+name != "global" { // Helm's own
				t.Errorf("values.yaml does not have %s", path+name)
			}
			compare(path+name+".", below, value)
		}
		for name := range object {
			if _, there := p.Properties[name]; !there {
				t.Errorf("values.schema.json does not have %s", path+name)
			}
		}
	}
	compare("", schema.property, values)
}

// property of a JSON schema, as far as the test reads it.
type property struct {
	Ref        string              `json:"$ref"`
	Properties map[string]property `json:"properties"`
}
