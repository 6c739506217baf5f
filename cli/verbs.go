package cli

import (
	"context"
	"os"

	"github.com/spf13/cobra"
)

func newKubectl(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "kubectl ARGS...",
		Short: "kubectl on the mesh; also what hasp is when started as oc or kubectl",
		Long: `kubectl's own code on the mesh's kubeconfig, or on the one KUBECONFIG names. The
verbs of oc about projects (project, projects, new-project, whoami) are there too.`,
		Example: `  hasp kubectl get pods
  hasp kubectl apply -f policy.yaml
  hasp kubectl project shop`,
		DisableFlagParsing: true,
		ValidArgsFunction:  e.completeKubectl,
		RunE: func(cmd *cobra.Command, args []string) error {
			if code := runKubectl(cmd.Context(), e, "kubectl", args); code != 0 {
				return exitError(code)
			}
			return nil
		},
	}
}

// runKubectl leaves KUBECONFIG to kubectl itself: it may list several files. An
// interrupt ends kubectl as it does everywhere, at once and by its own hand.
func runKubectl(ctx context.Context, e *env, name string, args []string) int {
	return Kubectl(context.WithoutCancel(ctx), name, e.meshConfig(), args, e.In, e.Out, e.Err)
}

// meshConfig is the kubeconfig of the mesh on this machine, "" for kubectl to
// find one where it always does.
func (e *env) meshConfig() string {
	if e.Config.Kubeconfig != "" {
		return ""
	}
	config := e.kubeconfig()
	if _, err := os.Stat(config); err != nil {
		return "" // no mesh was ever started here
	}
	return config
}
