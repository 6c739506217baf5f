package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"hasp/deploy"
)

func newUninstall(e *env) *cobra.Command {
	var (
		cluster clusterFlags
		how     deploy.Removal
		timeout time.Duration
	)
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Take hasp away from a cluster",
		Long: `Delete from a cluster all that hasp install applied, or that helm uninstall left,
and what the running control plane made: the roots in every namespace, its lease
and its own signing key. It asks nothing, prints each object, and may be repeated.

What is yours stays, and is named: Secret cacerts, and definitions of which there
are objects, since those would be deleted too. --purge deletes both them and the
objects. The namespace istio-system goes if hasp made it and nothing else is in it.

Pods keep their sidecars until they are restarted.`,
		Example: `  hasp uninstall
  hasp uninstall --keep-crds     policies and their definitions stay
  hasp uninstall --purge         policies are deleted too`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if how.KeepDefinitions && how.Purge {
				return usageError{fmt.Errorf("--keep-crds and --purge exclude each other")}
			}
			c, host, err := cluster.deployment(e)
			if err != nil {
				return err
			}
			said := 0
			say := c.Say
			c.Say = func(line string) { said++; say(line) }
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			found, err := c.Find(ctx)
			if err != nil {
				return err
			}
			if err := found.Refusal(); err != nil {
				return err
			}
			stays, err := c.Uninstall(ctx, how)
			if err != nil {
				return err
			}
			meshed, err := c.Meshed(ctx)
			if err != nil {
				return err
			}
			if found.By == "" && said == 0 {
				fmt.Fprintln(e.Out, "Nothing of hasp is on "+host+".")
			} else {
				fmt.Fprintln(e.Out, "hasp is gone from "+host+".")
			}
			report(e.Out, "What stays:", stays)
			report(e.Out, "Pods with a sidecar that no control plane serves any more; restart what made them:", meshed)
			return nil
		},
	}
	cluster.register(cmd)
	cmd.Flags().BoolVar(&how.KeepDefinitions, "keep-crds", false, "leave the definitions and every policy")
	cmd.Flags().BoolVar(&how.Purge, "purge", false, "delete definitions even if there are objects of their kinds, with the objects")
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "longest wait")
	return cmd
}
