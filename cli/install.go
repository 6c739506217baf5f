package cli

import (
	"context"
	"errors"
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
			fmt.Fprintf(e.Out, "Installing hasp %s on %s\n", version, host)
			if dryRun {
				fmt.Fprintln(e.Out, "This is a dry run: nothing is changed.")
			}
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
			_, err = fmt.Fprintf(e.Out, installedText, version)
			return err
		},
	}
	chart.register(cmd)
	cluster.register(cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "let the API server check every object, and change nothing")
	cmd.Flags().BoolVar(&wait, "wait", true, "wait until everything runs")
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "longest wait")
	return cmd
}

const installedText = `hasp %s runs.

  is all well?                hasp check
  a namespace into the mesh   kubectl label namespace NAME istio-injection=enabled
`

// deployment is the cluster as deploy sees it, saying on standard output what
// it does, and the address of its API server.
func (f *clusterFlags) deployment(e *env) (*deploy.Cluster, string, error) {
	if !f.named() && e.Config.Kubeconfig != "" && !e.foreignKubeconfig() {
		return nil, "", errors.New("KUBECONFIG names the mesh on this machine, which needs no installation: give the cluster's with --kubeconfig")
	}
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
