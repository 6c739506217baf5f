package cli

import (
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/spf13/cobra"

	"hasp/local"
	"hasp/sandbox"
)

// newDaemon is the process that hasp up starts in namespaces of its own.
func newDaemon(e *env) *cobra.Command {
	return &cobra.Command{
		Use:    "daemon",
		Short:  "Run the mesh (started by hasp up)",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			debug.SetGCPercent(50) // measured: less memory at no cost that shows
			log := slog.New(slog.NewTextHandler(e.Err, nil))
			return local.Daemon(cmd.Context(), log)
		},
	}
}

// newProbe is what sandbox.Probe runs inside the namespaces it tries.
func newProbe() *cobra.Command {
	return &cobra.Command{
		Use:    "probe-inside",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(*cobra.Command, []string) error { return sandbox.ProbeInside() },
	}
}

// blame puts what the host forbids in the place of an error that comes of it.
func (e *env) blame(err error) error {
	if probed := sandbox.Probe(e.Executable, "probe-inside"); probed != nil {
		return fmt.Errorf("this host does not allow the sandbox: %w", probed)
	}
	return err
}
