// Package cli is the hasp command: one file a command, over the packages that
// do the work. [Run] is the whole program but for what only a main may touch
// (arguments, streams, environment), which it is handed in a [Config].
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime/debug"

	"github.com/spf13/cobra"

	"hasp/local"
)

// Config is the world outside, as main found it.
type Config struct {
	Args       []string // without the program's name
	Name       string   // what it was started as: hasp, oc or kubectl
	Executable string   // absolute path of the program
	In         io.Reader
	Out, Err   io.Writer
	Terminal   bool                        // Out is a terminal
	Size       func() (columns, lines int) // of it, in characters
	Environ    []string                    // NAME=value
	Dir        string                      // working directory
	StateDir   string                      // HASP_STATE_DIR, else the usual one
	Kubeconfig string                      // KUBECONFIG, may be empty
}

// env is what the commands share: the Config and the flags of the root.
type env struct {
	Config
	state string
}

// exitError carries a status that is not 1 and has no message of its own.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// Run executes the command line and returns the exit status: 0, 1 for a
// failure, 2 for a command line that makes no sense, or what the command says.
func Run(ctx context.Context, cfg Config) int {
	if cfg.Name == "oc" || cfg.Name == "kubectl" {
		return runKubectl(ctx, &env{Config: cfg, state: cfg.StateDir}, cfg.Name, cfg.Args)
	}
	root := newRoot(&env{Config: cfg, state: cfg.StateDir})
	root.SetArgs(cfg.Args)
	root.SetIn(cfg.In)
	root.SetOut(cfg.Out)
	root.SetErr(cfg.Err)
	err := root.ExecuteContext(ctx)
	var code exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	}
	fmt.Fprintln(cfg.Err, "hasp:", err)
	var usage usageError
	if errors.As(err, &usage) {
		return 2
	}
	return 1
}

// usageError is a command line that makes no sense.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func newRoot(e *env) *cobra.Command {
	root := &cobra.Command{
		Use:   "hasp",
		Short: "A service mesh whose heart is mutual TLS",
		Long: `hasp encrypts, authenticates and authorizes every connection between services,
and the services never notice. On one machine it needs nothing installed.`,
		Example: `  hasp up                      start the mesh and the shared-boards app
  hasp kubectl get pods        kubectl, on the mesh
  hasp connections             who talks to whom now, and what is really spoken
  hasp dashboard               who talks to whom, as pages in a browser
  hasp plaintext               who still speaks plaintext, and what would fix it
  hasp authn tls-check         what is to be mutual TLS, and by which objects
  hasp down                    stop it

  hasp check                   can the cluster of my kubeconfig take hasp? is its hasp well?
  hasp install                 install hasp there`,
		Version:       buildVersion(),
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())}
	})
	root.PersistentFlags().StringVar(&e.state, "state-dir", e.StateDir, "directory that holds everything the mesh keeps")
	root.AddCommand(
		newUp(e), newDown(e), newStatus(e), newDemo(e), newDashboard(e),
		newConnections(e), newPlaintext(e), newWhy(e), newWhatIf(e), newApply(e), newVerify(e),
		newKubectl(e), newAuthnCmd(e.world, e.facts, e.namespace()), newExplainCmd(e.world, e.namespace()),
		newCheck(e), newInstall(e), newUninstall(e), newManifest(e), newInject(e), newControlPlane(e),
		newBackup(e), newRestore(e), newDaemon(e), newProbe(),
	)
	askUsage(root)
	return root
}

// askUsage makes arguments that a command and those below it do not take a
// usageError, as its flags are.
func askUsage(cmd *cobra.Command) {
	if takes := cmd.Args; takes != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := takes(cmd, args); err != nil {
				return usageError{fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())}
			}
			return nil
		}
	}
	for _, c := range cmd.Commands() {
		askUsage(c)
	}
}

// bin is the directory with hasp's own programs.
func (e *env) bin() string { return filepath.Dir(e.Executable) }

// kubeconfig is the user's own, else the mesh's.
func (e *env) kubeconfig() string {
	if e.Config.Kubeconfig != "" {
		return e.Config.Kubeconfig
	}
	return local.Kubeconfig(e.state)
}

// buildVersion comes from the build: the module's version or the commit.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && (v == "" || v == "(devel)") {
			v = s.Value
		}
	}
	if v == "" {
		v = "(devel)"
	}
	return v
}
