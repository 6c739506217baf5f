package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"hasp/local"
)

func newBackup(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "backup FILE",
		Short:   "Copy the running mesh's store to a file",
		Long:    "Write a consistent copy of every object to FILE, while the mesh runs. It holds Secrets: its mode is 0600.",
		Example: `  hasp backup monday.hasp`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file := absolute(e.Dir, args[0])
			if err := local.Backup(cmd.Context(), absolute(e.Dir, e.state), file); err != nil {
				return err
			}
			fmt.Fprintf(e.Out, "The store was saved to %s.\n", args[0])
			return nil
		},
	}
}

func newRestore(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "restore FILE",
		Short:   "Replace a stopped mesh's store by a backup",
		Example: `  hasp down && hasp restore monday.hasp && hasp up`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := absolute(e.Dir, e.state)
			if _, err := local.Find(dir); !errors.Is(err, local.ErrNotRunning) {
				return errors.New("the mesh is running; stop it with hasp down first")
			}
			if err := local.Restore(cmd.Context(), dir, absolute(e.Dir, args[0])); err != nil {
				return err
			}
			fmt.Fprintf(e.Out, "The store was restored from %s.\n", args[0])
			return nil
		},
	}
}
