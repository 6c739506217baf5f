package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"

	"hasp/local"
	"hasp/source"
	"hasp/world"
)

// namespace is that of the kubeconfig's context: where a bare name is looked
// for. Without a kubeconfig it is "default", as for kubectl.
func (e *env) namespace() string {
	ns, _, err := e.clientConfig().Namespace()
	if err != nil || ns == "" {
		return "default"
	}
	return ns
}

func (e *env) clientConfig() clientcmd.ClientConfig {
	rules := &clientcmd.ClientConfigLoadingRules{ExplicitPath: e.kubeconfig()}
	if list := filepath.SplitList(e.Config.Kubeconfig); len(list) > 1 {
		rules = &clientcmd.ClientConfigLoadingRules{Precedence: list} // KUBECONFIG may name several
	}
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{})
}

// world is what a question is answered from: manifests alone, or the cluster
// the kubeconfig names.
func (e *env) world(ctx context.Context, namespace string, files []string) (*world.World, error) {
	var w *world.World
	var problems []source.Problem
	var err error
	if len(files) > 0 {
		for i, f := range files {
			if f != "-" {
				files[i] = absolute(e.Dir, f)
			}
		}
		w, problems, err = source.FromFiles(e.In, namespace, files...)
	} else {
		w, problems, err = e.cluster(ctx)
	}
	if err != nil {
		return nil, err
	}
	for _, p := range problems {
		fmt.Fprintln(e.Err, "hasp: not used:", p)
	}
	return w, nil
}

func (e *env) cluster(ctx context.Context) (*world.World, []source.Problem, error) {
	if e.Config.Kubeconfig == "" {
		if _, err := local.Find(absolute(e.Dir, e.state)); err != nil {
			return nil, nil, fmt.Errorf("%w, or give manifests with -f", err)
		}
	}
	rc, err := e.clientConfig().ClientConfig()
	if err != nil {
		return nil, nil, fmt.Errorf("no mesh to ask: %w (start one with hasp up, or give manifests with -f)", err)
	}
	rc.QPS = -1
	client, err := dynamic.NewForConfig(rc)
	if err != nil {
		return nil, nil, err
	}
	w, problems, err := source.FromCluster(ctx, client)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED) && e.foreignKubeconfig():
		err = fmt.Errorf("nobody answers at %s; is the cluster of KUBECONFIG up? Or give manifests with -f", rc.Host)
	case errors.Is(err, syscall.ECONNREFUSED):
		err = fmt.Errorf("nobody answers at %s; start the mesh with hasp up, or give manifests with -f", rc.Host)
	}
	return w, problems, err
}
