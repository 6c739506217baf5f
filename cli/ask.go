package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"hasp/api"
	"hasp/mesh"
	"hasp/policy"
	"hasp/truth"
	"hasp/world"
)

// worldLoader gives the World to answer from: that of the question's files or
// directories when there are any, with no mesh running, else that of the running
// mesh or cluster. Objects in files that do not say their namespace are in the
// question's. If no namespace was given and the question names its cluster, the
// namespace becomes that of the kubeconfig's context.
type worldLoader func(ctx context.Context, q *question) (*world.World, error)

// factsLoader gives the facts of the mesh that a World was loaded from, nil
// when it came from files.
type factsLoader func(ctx context.Context, q *question) (*truth.Facts, error)

// question is what every command that asks the policies takes.
type question struct {
	load      worldLoader
	target    clusterFlags
	files     []string
	namespace string
	given     bool // namespace was said, and is not the default
	output    string
	wide      bool // -o wide is known
}

func (q *question) flags(cmd *cobra.Command, namespace string) {
	cmd.Flags().StringArrayVarP(&q.files, "filename", "f", nil, "answer from this manifest `FILE|DIR` alone, with no mesh running; may be repeated")
	cmd.Flags().StringVarP(&q.namespace, "namespace", "n", namespace, "namespace of names that do not say theirs")
	usage := "json for the answer as JSON"
	if q.wide {
		usage += ", wide for more columns"
	}
	cmd.Flags().StringVarP(&q.output, "output", "o", "", usage)
	q.target.register(cmd)
	if q.wide {
		offer(cmd, "output", "json", "wide")
	} else {
		offer(cmd, "output", "json")
	}
	offerFound(cmd, "namespace", fromWorld(q.load, q, namespaces))
}

func (q *question) world(cmd *cobra.Command) (*world.World, error) {
	switch {
	case q.output == "", q.output == "json", q.output == "wide" && q.wide:
	case q.wide:
		return nil, usageError{fmt.Errorf("-o %s: json and wide are known", q.output)}
	default:
		return nil, usageError{fmt.Errorf("-o %s: only json is known", q.output)}
	}
	if q.target.named() && len(q.files) > 0 {
		return nil, usageError{errors.New("-f answers from files alone: leave out --kubeconfig and --context")}
	}
	q.given = cmd.Flags().Changed("namespace")
	return q.load(cmd.Context(), q)
}

// findWorkload is the workload that a person means by NAME, NAME.NAMESPACE or
// NAMESPACE/NAME, where NAME is a pod, a Deployment (one of its pods then, for
// policy treats them alike) or the label app. A name without a namespace is
// looked for in the given one first and then, if only one has it, elsewhere.
func findWorkload(w *world.World, arg, namespace string) (*mesh.Workload, error) {
	if ns, name, ok := strings.Cut(arg, "/"); ok {
		return pickWorkload(w, name, arg, ns)
	}
	if wl, err := pickWorkload(w, arg, arg, namespace); err == nil {
		return wl, nil
	}
	if i := strings.LastIndexByte(arg, '.'); i > 0 {
		return pickWorkload(w, arg[:i], arg, arg[i+1:])
	}
	var found *mesh.Workload
	for _, ns := range workloadNamespaces(w) {
		wl, err := pickWorkload(w, arg, arg, ns)
		switch {
		case err != nil:
		case found != nil:
			return nil, fmt.Errorf("workload %q is in the namespaces %s and %s: say %s.%s or %s.%s",
				arg, found.Namespace, ns, arg, found.Namespace, arg, ns)
		default:
			found = wl
		}
	}
	if found == nil {
		return nil, noWorkload(w, arg)
	}
	return found, nil
}

func pickWorkload(w *world.World, name, arg, namespace string) (*mesh.Workload, error) {
	for _, is := range []func(*mesh.Workload) bool{
		func(wl *mesh.Workload) bool { return wl.Name == name },
		func(wl *mesh.Workload) bool { return wl.Owner == name },
		func(wl *mesh.Workload) bool { return wl.Labels["app"] == name },
	} {
		for _, wl := range w.Workloads {
			if wl.Namespace == namespace && is(wl) {
				return wl, nil
			}
		}
	}
	return nil, noWorkload(w, arg)
}

func noWorkload(w *world.World, arg string) error {
	var names []string
	for _, wl := range w.Workloads {
		names = append(names, policy.WorkloadName(wl))
	}
	return fmt.Errorf("no workload %q; there is %s", arg, listed(names))
}

func workloadNamespaces(w *world.World) []string {
	var out []string
	for _, wl := range w.Workloads {
		out = append(out, wl.Namespace)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// findService is the service that a client in a namespace means by a host name,
// as its resolver would find it: through the search domains first, then as it
// stands.
func findService(w *world.World, host, namespace string) (*mesh.Service, error) {
	host = strings.TrimSuffix(host, ".")
	for _, name := range []string{
		host + "." + namespace + ".svc." + api.DomainSuffix,
		host + ".svc." + api.DomainSuffix,
		host + "." + api.DomainSuffix,
		host,
	} {
		if svc := w.Service(namespace, name); svc != nil && policy.Visible(svc, namespace) {
			return svc, nil
		}
	}
	var names []string
	for _, svc := range w.Services {
		if policy.Visible(svc, namespace) {
			names = append(names, svc.Hostname)
		}
	}
	return nil, fmt.Errorf("no service %q as seen in namespace %s; there is %s", host, namespace, listed(names))
}

// findPort is the service port of HOST:PORT by number or name; a service of one
// port needs none.
func findPort(svc *mesh.Service, port string) (mesh.ServicePort, error) {
	if port == "" && len(svc.Ports) == 1 {
		return svc.Ports[0], nil
	}
	var names []string
	for _, p := range svc.Ports {
		number := strconv.Itoa(int(p.Number))
		if port != "" && (port == number || port == p.Name) {
			return p, nil
		}
		names = append(names, strings.TrimSpace(number+" "+p.Name))
	}
	if port == "" {
		return mesh.ServicePort{}, fmt.Errorf("%s has several ports: say HOST:PORT with one of %s", svc.Hostname, listed(names))
	}
	return mesh.ServicePort{}, fmt.Errorf("%s has no port %s; there is %s", svc.Hostname, port, listed(names))
}

// listed is names for a person: sorted, each once, not too many.
func listed(names []string) string {
	const most = 20
	if len(names) == 0 {
		return "none"
	}
	slices.SortFunc(names, cmp.Compare)
	names = slices.Compact(names)
	if more := len(names) - most; more > 0 {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", more)
	}
	return strings.Join(names, ", ")
}
