package cni

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/containernetworking/cni/pkg/ns"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"hasp/api"
	"hasp/capture"
)

// askTime bounds one question to the agent. Kubelets try again.
const askTime = 10 * time.Second

// Plugin is what the container runtime asks of the plugin, for
// [skel.PluginMainFuncs] with [Versions]. Errors are CNI's, with a code.
func Plugin() skel.CNIFuncs {
	return skel.CNIFuncs{
		Add:   add,
		Check: check,
		// A pod's network namespace goes with everything in it; until then what is
		// left of the pod stays captured.
		Del: func(*skel.CmdArgs) error { return nil },
		GC:  func(*skel.CmdArgs) error { return nil },
		// STATUS does not ask the agent: without it pods of excluded namespaces
		// can start, and the agent is one of them. A plugin that is not ready
		// keeps a node from starting any pod with a network.
		Status: func(args *skel.CmdArgs) error {
			_, err := parseConf(args.StdinData)
			return err
		},
	}
}

func add(args *skel.CmdArgs) error {
	c, err := parseConf(args.StdinData)
	if err != nil {
		return err
	}
	plan, err := planFor(c, args)
	if err != nil {
		return err
	}
	if plan != nil {
		if err := inNamespace(args.Netns, func(fd int) error { return capture.Apply(fd, spec(plan)) }); err != nil {
			return err
		}
	}
	return types.PrintResult(c.result(), c.CNIVersion)
}

func check(args *skel.CmdArgs) error {
	c, err := parseConf(args.StdinData)
	if err != nil {
		return err
	}
	plan, err := planFor(c, args)
	if err != nil || plan == nil {
		return err
	}
	return inNamespace(args.Netns, func(fd int) error {
		there, err := capture.Installed(fd)
		if err == nil && !there {
			err = fmt.Errorf("the connections of this pod are not captured: delete the pod, so that it starts again")
		}
		return err
	})
}

// planFor asks the agent what to capture; nil is nothing.
func planFor(c *conf, args *skel.CmdArgs) (*api.CapturePlan, error) {
	pod, ok, err := parseArgs(args.Args)
	switch {
	case err != nil:
		return nil, types.NewError(types.ErrInvalidEnvironmentVariables, err.Error(), "")
	case !ok || c.excludes(pod):
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	answer, err := Ask(ctx, c.Socket, pod)
	if err != nil {
		return nil, types.NewError(types.ErrTryAgainLater, fmt.Sprintf("hasp-cni: what to capture for pod %s: %v", pod, err),
			"Pods of the mesh must not start uncaptured, so none starts before hasp's node agent answers (DaemonSet hasp-cni-node in istio-system). "+
				"If hasp has left this cluster, run on the node: hasp-cni uninstall --bin-dir "+args.Path+" --conf-dir /etc/cni/net.d")
	}
	return answer.Capture, nil
}

// inNamespace hands over a pod's network namespace. The node's own would be the
// end of the node's connections, so it is refused.
func inNamespace(path string, do func(fd int) error) error {
	own, cniErr := ns.CheckNetNS(path)
	switch {
	case cniErr != nil:
		return cniErr
	case own:
		return types.NewError(types.ErrInvalidNetNS, "hasp-cni: "+path+" is the node's own network namespace", "")
	}
	f, err := os.Open(path)
	if err != nil {
		return types.NewError(types.ErrInvalidNetNS, "hasp-cni: "+err.Error(), "")
	}
	defer f.Close()
	if err := do(int(f.Fd())); err != nil {
		return types.NewError(types.ErrInternal, "hasp-cni: "+err.Error(), "")
	}
	return nil
}
