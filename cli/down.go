package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"hasp/local"
)

func newDown(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "down",
		Short:   "Stop the mesh; its state is kept",
		Example: `  hasp down`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p := newProgress(e.Err, e.Terminal)
			p.step("stopping the mesh")
			err := local.Stop(cmd.Context(), absolute(e.Dir, e.state), 20*time.Second)
			p.done()
			if errors.Is(err, local.ErrNotRunning) {
				fmt.Fprintln(e.Out, "No mesh is running.")
				return nil
			}
			if err != nil {
				return err
			}
			fmt.Fprintln(e.Out, "The mesh is stopped.")
			return nil
		},
	}
}
