package cni

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
)

// Versions are the CNI specifications that the plugin speaks: those with results
// handed from plugin to plugin.
var Versions = version.VersionsStartingFrom("0.3.0")

// Settings are the plugin's own part of its configuration.
type Settings struct {
	// Socket of the agent, as the node sees it.
	Socket string `json:"socket"`
	// ExcludeNamespaces are those whose pods are never captured and never asked
	// about, so that they start without the agent.
	ExcludeNamespaces []string `json:"excludeNamespaces,omitempty"`
}

// conf is the configuration that the runtime hands the plugin.
type conf struct {
	types.PluginConf
	Settings
}

func parseConf(data []byte) (*conf, error) {
	c := &conf{}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "hasp-cni: configuration: "+err.Error(), "")
	}
	if c.Socket == "" {
		return nil, types.NewError(types.ErrInvalidNetworkConfig, "hasp-cni: configuration: socket is missing", "")
	}
	if c.RawPrevResult == nil {
		return c, nil
	}
	if err := version.ParsePrevResult(&c.PluginConf); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "hasp-cni: prevResult: "+err.Error(), "")
	}
	return c, nil
}

// result is what the plugin before said, since this one changes nothing of it.
// Started on its own, by Multus, it has nothing to say.
func (c *conf) result() types.Result {
	if c.PrevResult != nil {
		return c.PrevResult
	}
	return &types100.Result{CNIVersion: types100.ImplementedSpecVersion}
}

func (c *conf) excludes(p Pod) bool { return slices.Contains(c.ExcludeNamespaces, p.Namespace) }

// parseArgs finds the pod in CNI_ARGS, "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=api".
// What is started without one is no pod of Kubernetes.
func parseArgs(args string) (p Pod, ok bool, err error) {
	if args == "" {
		return Pod{}, false, nil
	}
	for pair := range strings.SplitSeq(args, ";") {
		key, value, found := strings.Cut(pair, "=")
		if !found {
			return Pod{}, false, fmt.Errorf("hasp-cni: CNI_ARGS: %q is not KEY=VALUE", pair)
		}
		switch key {
		case "K8S_POD_NAMESPACE":
			p.Namespace = value
		case "K8S_POD_NAME":
			p.Name = value
		case "K8S_POD_UID":
			p.UID = value
		}
	}
	if p.Namespace == "" && p.Name == "" {
		return Pod{}, false, nil
	}
	return p, true, p.validate()
}

// validate refuses what is no name of a pod, without knowing Kubernetes' rules
// for them by heart: the API server is asked in the end.
func (p Pod) validate() error {
	for _, f := range []struct {
		what, value string
		most        int
	}{{"namespace", p.Namespace, 63}, {"name", p.Name, 253}, {"uid", p.UID, 128}} {
		switch {
		case f.value == "" && f.what != "uid":
			return fmt.Errorf("hasp-cni: the pod's %s is missing", f.what)
		case len(f.value) > f.most:
			return fmt.Errorf("hasp-cni: the pod's %s is longer than %d bytes", f.what, f.most)
		case strings.ContainsAny(f.value, "/ \t\r\n"):
			return fmt.Errorf("hasp-cni: the pod's %s %q is not a name", f.what, f.value)
		}
	}
	return nil
}
