package deploy_test

import (
	"testing"

	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"

	"hasp/deploy"
)

// TestLint is helm lint --strict.
func TestLint(t *testing.T) {
	for _, m := range lint.RunAll("hasp", map[string]any{}, deploy.Namespace).Messages {
		if m.Severity > support.InfoSev {
			t.Errorf("helm lint: %v", m)
		}
	}
}
