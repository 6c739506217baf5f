package deploy

import (
	"fmt"

	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/strvals"
	"sigs.k8s.io/yaml"
)

// Values merges what a user gives, later over earlier as helm does: the YAML
// texts of -f files in their order, then the key=value of --set.
func Values(texts []string, set []string) (map[string]any, error) {
	out := map[string]any{}
	for _, text := range texts {
		v := map[string]any{}
		if err := yaml.Unmarshal([]byte(text), &v); err != nil {
			return nil, fmt.Errorf("deploy: values: %w", err)
		}
		out = loader.MergeMaps(out, v)
	}
	for _, s := range set {
		if err := strvals.ParseInto(s, out); err != nil {
			return nil, fmt.Errorf("deploy: --set %s: %w", s, err)
		}
	}
	return out, nil
}
