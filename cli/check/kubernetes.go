package check

import (
	"context"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/version"
)

// The oldest that hasp works with.
var (
	// Native sidecars are on by default since then (KEP-753), and CEL's
	// optional fields in match conditions are there.
	oldestKubernetes = version.MustParseGeneric("1.29")
	// nf_tables has NAT for both families by then.
	oldestKernel = version.MustParseGeneric("5.2")
)

const (
	clusterSection = "cluster"
	unreachable    = "are the kubeconfig's address and credentials right (kubectl get --raw /version), the cluster up and reachable from here?"
)

func (c *checker) aboutCluster() []question {
	return []question{
		{clusterSection, "the API server answers and is Kubernetes 1.29 or newer", c.askVersion},
		{clusterSection, "the nodes can run sidecars and capture connections", c.askNodes},
	}
}

// aboutSeeing is what is left to ask for a user who may not see what is
// installed.
func (c *checker) aboutSeeing(forbidden error) []question {
	return []question{
		{clusterSection, "you may see what is installed", func(context.Context) Result {
			return failed(forbidden, "check as a cluster administrator, or as one who may read what hasp manifest prints")
		}},
		{"before installing", "you may create what hasp installs", c.askPermissions},
	}
}

func (c *checker) askVersion(context.Context) Result {
	info, err := c.Client.Discovery().ServerVersion()
	if err != nil {
		return failed(err, unreachable)
	}
	v, err := version.ParseGeneric(info.GitVersion)
	if err != nil {
		return failed(err, "")
	}
	if v.LessThan(oldestKubernetes) {
		return fail("it is "+info.GitVersion, "upgrade Kubernetes: sidecars are init containers with restartPolicy Always, on by default since 1.29")
	}
	return ok("it is " + info.GitVersion)
}

func (c *checker) askNodes(ctx context.Context) Result {
	nodes, err := c.Client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return warn(err.Error(), "ask somebody who may list nodes")
	}
	platforms := map[string]int{}
	var wrong, doubtful []string
	for i := range nodes.Items {
		info := nodes.Items[i].Status.NodeInfo
		platforms[info.OperatingSystem+"/"+info.Architecture]++
		if info.OperatingSystem != "linux" {
			continue // no meshed pod runs there anyway
		}
		if v, err := version.ParseGeneric(info.KubeletVersion); err == nil && v.LessThan(oldestKubernetes) {
			wrong = append(wrong, nodes.Items[i].Name+" has kubelet "+info.KubeletVersion)
		}
		if v, err := version.ParseGeneric(info.KernelVersion); err == nil && v.LessThan(oldestKernel) {
			doubtful = append(doubtful, nodes.Items[i].Name+" has Linux "+info.KernelVersion)
		}
	}
	switch {
	case len(wrong) > 0:
		return fail(listed(wrong)+", and native sidecars came with 1.29", "upgrade these nodes, or keep meshed pods off them by nodeSelector or taints")
	case len(doubtful) > 0: // distributions carry nf_tables back
		return warn(listed(doubtful)+", and nf_tables does NAT for IPv4 and IPv6 since 5.2", "if pods there do not start, keep meshed pods off these nodes")
	}
	var have []string
	for p, n := range platforms {
		have = append(have, fmt.Sprintf("%d %s", n, p))
	}
	slices.Sort(have)
	return ok(strings.Join(have, ", "))
}

// listed is some of many, for a line.
func listed(names []string) string {
	const most = 5
	if more := len(names) - most; more > 0 {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", more)
	}
	return strings.Join(names, ", ")
}
