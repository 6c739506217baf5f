package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"hasp/cli/check"
	"hasp/cluster"
	"hasp/deploy"
)

// checkEvery is how often check --wait asks again.
const checkEvery = 2 * time.Second

func newCheck(e *env) *cobra.Command {
	var (
		target clusterFlags
		chart  chartFlags
		before bool
		output string
		wait   time.Duration
	)
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check whether a cluster can take hasp, or whether the hasp in it is well",
		Long: `Ask a cluster what must hold for hasp to work, and say for each whether it does,
with a hint when not. Before an installation: versions, permissions, what is in
the way, whether pods may capture. After it: definitions, replicas, webhooks and
whether the API server reaches them, certificates, roots, and every proxy.

Nothing is changed: what the API server is given to judge is a dry run. Give the
values of the installation by -f and --set, since some questions depend on them.

The exit status is 0 when nothing failed, warnings or not, else 1.`,
		Example: `  hasp check
  hasp check --before -f values.yaml     before an upgrade
  hasp check --wait 2m -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "" && output != "json" {
				return usageError{fmt.Errorf("-o %s: only json is known", output)}
			}
			cfg, err := chart.check(e, &target)
			if err != nil {
				return err
			}
			cfg.Before = before
			results, err := checkUntil(cmd.Context(), cfg, wait)
			if err != nil {
				return err
			}
			if output == "json" {
				err = check.PrintJSON(e.Out, results)
			} else {
				err = check.Print(e.Out, results, e.Terminal)
			}
			if err == nil && !check.Well(results) {
				err = exitError(1)
			}
			return err
		},
	}
	target.register(cmd)
	chart.register(cmd)
	cmd.Flags().BoolVar(&before, "before", false, "check for an installation even when there is one")
	cmd.Flags().StringVarP(&output, "output", "o", "", "json for the same as JSON")
	offer(cmd, "output", "json")
	cmd.Flags().DurationVar(&wait, "wait", 0, "ask again until nothing fails, this long at most")
	return cmd
}

// check is what a run asks with: the cluster, and the installation of these
// values.
func (f *chartFlags) check(e *env, target *clusterFlags) (check.Config, error) {
	var cfg check.Config
	rc, err := target.config(e)
	if err != nil {
		return cfg, err
	}
	rc.WarningHandler = nil
	if cfg.Client, err = kubernetes.NewForConfig(rc); err != nil {
		return cfg, err
	}
	if cfg.Dynamic, err = dynamic.NewForConfig(rc); err != nil {
		return cfg, err
	}
	if cfg.Objects, err = f.render(e); err != nil {
		return cfg, err
	}
	if cfg.Version, err = deploy.Version(); err != nil {
		return cfg, err
	}
	cfg.ControlPlane = func(ctx context.Context, pod string) (cluster.Status, error) { return controlPlaneStatus(ctx, rc, pod) }
	return cfg, nil
}

// checkUntil nothing fails or patience ends; the last results count.
func checkUntil(ctx context.Context, cfg check.Config, patience time.Duration) ([]check.Result, error) {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		results, err := check.Run(ctx, cfg)
		if patience == 0 || err == nil && check.Well(results) {
			return results, err
		}
		again := time.NewTimer(checkEvery)
		select {
		case <-ctx.Done():
			again.Stop()
			return results, ctx.Err()
		case <-deadline.C:
			again.Stop()
			return results, err
		case <-again.C:
		}
	}
}
