package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hasp/mesh"
	"hasp/policy"
	"hasp/truth"
	"hasp/world"
)

// completeTimeout is what a person at a prompt waits for.
const completeTimeout = 2 * time.Second

type completion = func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective)

// offer words for a flag, those that it takes or those that a function finds.
func offer(cmd *cobra.Command, flag string, words ...string) {
	offerFound(cmd, flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

func offerFound(cmd *cobra.Command, flag string, find completion) {
	if err := cmd.RegisterFlagCompletionFunc(flag, find); err != nil {
		panic(err) // there is no such flag
	}
}

// nothing completes arguments that are not files.
func nothing(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// fromWorld completes with words of the mesh that is asked; whatever is in the
// way stays unsaid.
func fromWorld(load worldLoader, q *question, words func(*world.World) []string) completion {
	return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := completing(cmd)
		defer cancel()
		asked := *q
		w, err := load(ctx, &asked)
		if err != nil {
			return nothing(nil, nil, "")
		}
		out := words(w)
		slices.Sort(out)
		return slices.Compact(out), cobra.ShellCompDirectiveNoFileComp
	}
}

func completing(cmd *cobra.Command) (context.Context, context.CancelFunc) {
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	return context.WithTimeout(ctx, completeTimeout)
}

// completeNamespace of the mesh that a command's flags name.
func (e *env) completeNamespace(target *clusterFlags) completion {
	return func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		return fromWorld(e.world, &question{target: *target}, namespaces)(cmd, args, toComplete)
	}
}

// workloadNames are those of all workloads, or of those with a proxy alone.
func workloadNames(meshed bool) func(*world.World) []string {
	return func(w *world.World) []string {
		var out []string
		for _, wl := range w.Workloads {
			if !meshed || wl.Role != mesh.RoleNone {
				out = append(out, policy.WorkloadName(wl))
			}
		}
		return out
	}
}

func namespaces(w *world.World) []string {
	var out []string
	for _, wl := range w.Workloads {
		out = append(out, wl.Namespace)
	}
	return out
}

func hostNames(w *world.World) []string {
	var out []string
	for _, s := range w.Services {
		out = append(out, s.Hostname)
	}
	return out
}

// hostPorts are HOST:PORT of all services.
func hostPorts(w *world.World) []string {
	var out []string
	for _, s := range w.Services {
		for _, p := range s.Ports {
			out = append(out, s.Hostname+":"+strconv.Itoa(int(p.Number)))
		}
	}
	return out
}

// completeFrom the links that are known.
func (e *env) completeFrom(cmd *cobra.Command, target *clusterFlags, words func(truth.Link) []string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := completing(cmd)
	defer cancel()
	var out []string
	if v, err := views(ctx, e, target); err == nil {
		defer v.Close()
		links, _ := v.Links(ctx, "")
		for _, l := range links {
			out = append(out, words(l)...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), cobra.ShellCompDirectiveNoFileComp
}

// completeKubectl asks kubectl's own code, which knows verbs, kinds and objects.
func (e *env) completeKubectl(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := completing(cmd)
	defer cancel()
	var out bytes.Buffer
	line := append(append([]string{cobra.ShellCompRequestCmd}, args...), toComplete)
	if Kubectl(ctx, "kubectl", e.meshConfig(), line, strings.NewReader(""), &out, io.Discard) != 0 {
		return nothing(nil, nil, "")
	}
	// A word a line, and last how to take them, as in ":4".
	words := strings.Split(strings.TrimSpace(out.String()), "\n")
	last := len(words) - 1
	var how int
	if _, err := fmt.Sscanf(words[last], ":%d", &how); err != nil {
		return nothing(nil, nil, "")
	}
	return words[:last], cobra.ShellCompDirective(how)
}
