package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"hasp/local"
)

func newStatus(e *env) *cobra.Command {
	var output string
	var target clusterFlags
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the mesh and what each proxy acknowledged",
		Long: `Show whether the mesh runs, its addresses, the current generation of its
configuration and, for each proxy, the generation it acknowledged or why it
refused one. Exit status 3 when no mesh is running.

When none runs on this machine and --kubeconfig, KUBECONFIG or ~/.kube/config names
a cluster, the mesh is that of the cluster: every replica of its control plane is asked, through
the API server's port-forward. Each counts its own generations.`,
		Example: `  hasp status
  hasp status -o json
  hasp status --context production`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "" && output != "json" {
				return usageError{fmt.Errorf("-o %s: only json is known", output)}
			}
			if target.named() {
				return clusterStatus(cmd.Context(), e, &target, output == "json")
			}
			s, err := local.GetStatus(cmd.Context(), absolute(e.Dir, e.state))
			if errors.Is(err, local.ErrNotRunning) && (e.foreignKubeconfig() || e.Config.Kubeconfig == "" && e.kubectlsOwn() != "") {
				return clusterStatus(cmd.Context(), e, &target, output == "json")
			}
			if errors.Is(err, local.ErrNotRunning) {
				if output == "json" {
					fmt.Fprintln(e.Out, `{"running": false}`)
				} else {
					fmt.Fprintln(e.Out, "No mesh is running; start one with hasp up.")
				}
				return exitError(3)
			}
			if err != nil {
				return err
			}
			if output == "json" {
				enc := json.NewEncoder(e.Out)
				enc.SetIndent("", "  ")
				return enc.Encode(struct {
					Running bool `json:"running"`
					local.Status
				}{true, s})
			}
			return printStatus(e.Out, s, time.Now())
		},
	}
	target.register(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "", "json for the same as JSON")
	return cmd
}

func printStatus(w io.Writer, s local.Status, now time.Time) error {
	c := s.Control
	fmt.Fprintf(w, "The mesh runs since %s (process %d).\n\n", s.Started.Local().Format(time.DateTime), s.PID)
	describe(w, s.State)
	auto := "off"
	if c.AutoMTLS {
		auto = "on"
	}
	fmt.Fprintf(w, "\ntrust domain %s, auto mTLS %s, %d services, %d workloads\n", c.TrustDomain, auto, c.Services, c.Workloads)
	fmt.Fprintf(w, "generation %d", c.Generation)
	if took := c.Last.Took(); took > 0 {
		fmt.Fprintf(w, ", enforced by every proxy %s after its change arrived", took.Round(100*time.Microsecond))
	} else if !c.Last.Built.IsZero() {
		fmt.Fprint(w, ", not yet acknowledged by every proxy")
	}
	fmt.Fprint(w, "\n\n")

	t := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	fmt.Fprintln(t, "PROXY\tIDENTITY\tACKED\tSTATE")
	for _, p := range c.Proxies {
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\n", p.Node, p.Identity, p.AckedGeneration, p.State(c.Generation))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	report(w, "Outside the mesh:", c.Unmeshed)
	report(w, "Not used:", c.Problems)
	return nil
}

// report is a list under a title, when there is one.
func report(w io.Writer, title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s\n", title)
	for _, l := range lines {
		fmt.Fprintln(w, "  "+l)
	}
}
