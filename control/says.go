package control

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"hasp/api"
)

// maxSays bounds what the timeline quotes of an object, in characters.
const maxSays = 120

// specOf is what an object asks for, as JSON has it.
func specOf(m metav1.Object) map[string]any {
	if c, ok := m.(*corev1.ConfigMap); ok {
		var settings map[string]any
		if yaml.Unmarshal([]byte(c.Data[api.MeshConfigKey]), &settings) != nil {
			return map[string]any{api.MeshConfigKey: c.Data[api.MeshConfigKey]}
		}
		return settings
	}
	var o struct {
		Spec map[string]any `json:"spec"`
	}
	b, err := json.Marshal(m)
	if err != nil || json.Unmarshal(b, &o) != nil {
		return nil
	}
	return o.Spec
}

// says is what an object asks for in a line: "mtls.mode STRICT",
// "host boards, tls.mode ISTIO_MUTUAL".
func says(m metav1.Object) string {
	var parts []string
	flatten("", specOf(m), &parts)
	line := []rune(strings.Join(parts, ", "))
	if len(line) > maxSays {
		line = append(line[:maxSays-3], []rune("...")...)
	}
	return string(line)
}

// wrappers are fields that only lead to others.
var wrappers = []string{"trafficPolicy", "matchLabels"}

// flatten lists the values in v with their paths.
func flatten(path string, v any, out *[]string) {
	under := func(name string) string {
		if slices.Contains(wrappers, name) {
			return path
		}
		return strings.TrimPrefix(path+"."+name, ".")
	}
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 && path != "" {
			*out = append(*out, path)
		}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			flatten(under(name), v[name], out)
		}
	case []any:
		var words []string
		for _, e := range v {
			switch e.(type) {
			case map[string]any, []any:
				flatten(path, e, out)
			default:
				words = append(words, fmt.Sprint(e))
			}
		}
		if len(words) > 0 {
			*out = append(*out, path+" "+strings.Join(words, " "))
		}
	default:
		*out = append(*out, strings.TrimSpace(path+" "+fmt.Sprint(v)))
	}
}
