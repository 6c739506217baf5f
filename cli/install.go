package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/dynamic"

	"hasp/deploy"
)

func newInstall(e *env) *cobra.Command {
	var (
		chart   chartFlags
		cluster clusterFlags
		dryRun  bool
		wait    bool
		timeout time.Duration
	)
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Install hasp on a Kubernetes or OpenShift cluster, or upgrade it",
		Long: `Apply to a cluster what hasp manifest prints for the same values, by server-side
apply, and wait until it runs. What an earlier hasp install made and this version
does not is deleted. Repeating it changes nothing. A cluster with Istio's control
plane or with a Helm release of hasp is refused.`,
		Example: `  hasp install
  hasp install -f values.yaml --set gateway.service.type=NodePort
  hasp install --dry-run`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			objects, err := chart.render(e)
			if err != nil {
				return err
			}
			c, host, err := cluster.deployment(e)
			if err != nil {
				return err
			}
			found, err := c.Find(cmd.Context())
			if err != nil {
				return err
			}
			if err := found.Refusal(); err != nil {
				return err
			}
			version, err := deploy.Version()
			if err != nil {
				return err
			}
			fmt.Fprintf(e.Out, "Installing hasp %s on %s%s\n", version, host, unless(!dryRun, " (dry run: nothing is changed)"))
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			if err := c.Install(ctx, objects, dryRun); err != nil || dryRun || !wait {
				return err
			}
			p := newProgress(e.Err, e.Terminal)
			err = c.Wait(ctx, objects, p.step)
			p.done()
			if err != nil {
				return fmt.Errorf("%w\nhasp check says more", err)
			}
			fmt.Fprintf(e.Out, "hasp %s runs.\n\n  hasp check                                          is all well?\n  kubectl label namespace NAME istio-injection=enabled  puts a namespace into the mesh\n", version)
			return nil
		},
	}
	chart.register(cmd)
	cluster.register(cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "let the API server check every object, and change nothing")
	cmd.Flags().BoolVar(&wait, "wait", true, "wait until everything runs")
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "longest wait")
	return cmd
}

func unless(no bool, s string) string {
	if no {
		return ""
	}
	return s
}

// deployment is the cluster as deploy sees it, saying on standard output what
// it does, and the address of its API server.
func (f *clusterFlags) deployment(e *env) (*deploy.Cluster, string, error) {
	rc, err := f.config(e)
	if err != nil {
		return nil, "", err
	}
	client, err := dynamic.NewForConfig(rc)
	if err != nil {
		return nil, "", err
	}
	return &deploy.Cluster{Client: client, Say: func(line string) { fmt.Fprintln(e.Out, line) }}, rc.Host, nil
}
