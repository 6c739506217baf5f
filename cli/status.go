package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"hasp/control"
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
refused one. In a mesh too large to tell every proxy all of it, also how much of it
each was told, which is what it asked for. Exit status 3 when no mesh is running.

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
	offer(cmd, "output", "json")
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
	fmt.Fprintf(w, "\ntrust domain %s, auto mTLS %s, %s\n", c.TrustDomain, auto, extent(c))
	fmt.Fprintf(w, "generation %d", c.Generation)
	if took := c.Last.Took(); took > 0 {
		fmt.Fprintf(w, ", enforced by every proxy %s after its change arrived", took.Round(100*time.Microsecond))
	} else if !c.Last.Built.IsZero() {
		fmt.Fprint(w, ", not yet acknowledged by every proxy")
	}
	fmt.Fprint(w, "\n\n")

	t := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	head, told := "", ""
	if c.OnDemand {
		head = "TOLD\t"
	}
	fmt.Fprintf(t, "PROXY\tIDENTITY\tACKED\t%sSTATE\n", head)
	for _, p := range c.Proxies {
		if c.OnDemand {
			told = p.Told() + "\t"
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%s%s\n", p.Node, p.Identity, p.AckedGeneration, told, p.State(c.Generation))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	report(w, "Outside the mesh:", c.Unmeshed)
	report(w, "Not used:", c.Problems)
	return nil
}

// extent is how large the mesh is, and whether that is told on demand.
func extent(c control.Status) string {
	s := fmt.Sprintf("%d services, %d workloads", c.Services, c.Workloads)
	if c.OnDemand {
		s += ", told on demand"
	}
	return s
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
