package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"hasp/cluster"
	"hasp/deploy"
	"hasp/local"
)

// meshStatus is hasp status -o json for a cluster: control as each replica of
// the control plane has it.
type meshStatus struct {
	Running  bool             `json:"running"`
	API      string           `json:"api"`
	Replicas []cluster.Status `json:"replicas"`
	// Silent are replicas that did not answer, and why.
	Silent []string `json:"silent,omitempty"`
}

// foreignKubeconfig: KUBECONFIG names a cluster that is not the mesh on this
// machine.
func (e *env) foreignKubeconfig() bool {
	own := local.Kubeconfig(absolute(e.Dir, e.state))
	return e.Config.Kubeconfig != "" && absolute(e.Dir, e.Config.Kubeconfig) != own
}

func clusterStatus(ctx context.Context, e *env, target *clusterFlags, asJSON bool) error {
	rc, err := target.config(e)
	if err != nil {
		return err
	}
	s, err := askReplicas(ctx, rc)
	if err != nil {
		return err
	}
	switch {
	case asJSON:
		enc := json.NewEncoder(e.Out)
		enc.SetIndent("", "  ")
		err = enc.Encode(s)
	case !s.Running:
		fmt.Fprintf(e.Out, "No control plane runs in %s of %s; hasp install installs one, hasp check says what is wrong. On this machine hasp up starts a mesh.\n", deploy.Namespace, s.API)
	default:
		err = printClusterStatus(e.Out, s)
	}
	if err == nil && !s.Running {
		err = exitError(3)
	}
	return err
}

// askReplicas asks each running pod of the control plane.
func askReplicas(ctx context.Context, rc *rest.Config) (meshStatus, error) {
	s := meshStatus{API: rc.Host}
	client, err := kubernetes.NewForConfig(rc)
	if err != nil {
		return s, err
	}
	pods, err := client.CoreV1().Pods(deploy.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=istiod"})
	if err != nil {
		return s, fmt.Errorf("list the control plane's pods: %w", err)
	}
	var failures []error
	for _, p := range pods.Items {
		if p.Status.Phase != corev1.PodRunning || p.DeletionTimestamp != nil {
			continue
		}
		r, err := controlPlaneStatus(ctx, rc, p.Name)
		if err != nil {
			failures = append(failures, err)
			s.Silent = append(s.Silent, err.Error())
			continue
		}
		s.Replicas = append(s.Replicas, r)
	}
	s.Running = len(s.Replicas) > 0
	if !s.Running {
		return s, errors.Join(failures...)
	}
	return s, nil
}

func printClusterStatus(w io.Writer, s meshStatus) error {
	c := s.Replicas[0].Control
	auto := "off"
	if c.AutoMTLS {
		auto = "on"
	}
	fmt.Fprintf(w, "The mesh of %s: trust domain %s, auto mTLS %s, %s;\n%s signs.\n\n",
		s.API, c.TrustDomain, auto, extent(c), s.Replicas[0].Authority)

	t := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	fmt.Fprintln(t, "REPLICA\tSTARTED\tLEADS\tGENERATION\tPROXIES")
	for _, r := range s.Replicas {
		leads := "-"
		if r.Leader == r.Pod {
			leads = "yes"
		}
		connected := 0
		for _, p := range r.Control.Proxies {
			if p.Connected {
				connected++
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\n", r.Pod, r.Started.Local().Format(time.DateTime), leads, r.Control.Generation, connected)
	}
	if err := t.Flush(); err != nil {
		return err
	}

	fmt.Fprintln(w)
	t = tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	head := ""
	if c.OnDemand {
		head = "TOLD\t"
	}
	fmt.Fprintf(t, "PROXY\tIDENTITY\tREPLICA\tACKED\t%sSTATE\n", head)
	for _, row := range proxyRows(s) {
		fmt.Fprintln(t, row)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	report(w, "Did not answer:", s.Silent)
	report(w, "Outside the mesh:", c.Unmeshed)
	report(w, "Not used:", c.Problems)
	return nil
}

// proxyRows has one row a proxy. One that went over to another replica is known
// to both; where it is connected counts.
func proxyRows(s meshStatus) []string {
	connected := map[string]bool{}
	for _, r := range s.Replicas {
		for _, p := range r.Control.Proxies {
			connected[p.Node] = connected[p.Node] || p.Connected
		}
	}
	var rows []string
	told, onDemand := "", s.Replicas[0].Control.OnDemand
	gone := map[string]bool{}
	for _, r := range s.Replicas {
		for _, p := range r.Control.Proxies {
			if !p.Connected && (connected[p.Node] || gone[p.Node]) {
				continue
			}
			gone[p.Node] = !p.Connected
			if onDemand {
				told = p.Told() + "\t"
			}
			rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%d\t%s%s", p.Node, p.Identity, r.Pod, p.AckedGeneration, told, p.State(r.Control.Generation)))
		}
	}
	slices.Sort(rows)
	return rows
}
