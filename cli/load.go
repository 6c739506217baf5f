package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"hasp/local"
	"hasp/source"
	"hasp/truth"
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
func (e *env) world(ctx context.Context, q *question) (*world.World, error) {
	var w *world.World
	var problems []source.Problem
	var err error
	if len(q.files) > 0 {
		for i, f := range q.files {
			if f != "-" {
				q.files[i] = absolute(e.Dir, f)
			}
		}
		w, problems, err = source.FromFiles(e.In, q.namespace, q.files...)
	} else {
		w, problems, err = e.cluster(ctx, q)
	}
	if err != nil {
		return nil, err
	}
	for _, p := range problems {
		fmt.Fprintln(e.Err, "hasp: not used:", p)
	}
	return w, nil
}

// facts of the mesh that a question is about.
func (e *env) facts(ctx context.Context, q *question) (*truth.Facts, error) {
	if len(q.files) > 0 {
		return nil, nil
	}
	v, err := views(ctx, e, &q.target)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	return v.Facts(ctx)
}

// cluster asks what the flags name, else KUBECONFIG, else the mesh on this
// machine, else kubectl's usual kubeconfig.
func (e *env) cluster(ctx context.Context, q *question) (*world.World, []source.Problem, error) {
	foreign, err := e.elsewhere(&q.target)
	if err != nil {
		return nil, nil, fmt.Errorf("%w, for files -f", err)
	}
	rc, err := e.restConfig(q, foreign)
	if err != nil {
		return nil, nil, err
	}
	client, err := dynamic.NewForConfig(rc)
	if err != nil {
		return nil, nil, err
	}
	w, problems, err := source.FromCluster(ctx, client)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED) && foreign:
		err = fmt.Errorf("nobody answers at %s; is the cluster of the kubeconfig up? Or give manifests with -f", rc.Host)
	case errors.Is(err, syscall.ECONNREFUSED):
		err = fmt.Errorf("nobody answers at %s; start the mesh with hasp up, or give manifests with -f", rc.Host)
	}
	return w, problems, err
}

// elsewhere reports whether another cluster is meant than the mesh on this
// machine. An error says that there is neither.
func (e *env) elsewhere(target *clusterFlags) (bool, error) {
	foreign := target.named() || e.foreignKubeconfig()
	if !foreign && e.Config.Kubeconfig == "" {
		if _, err := local.Find(absolute(e.Dir, e.state)); err != nil {
			if foreign = e.kubectlsOwn() != ""; !foreign {
				return false, fmt.Errorf("%w; for a cluster set KUBECONFIG or give --kubeconfig", err)
			}
		}
	}
	return foreign, nil
}

// restConfig of a foreign cluster, whose context's namespace is then the
// question's, or of the mesh on this machine.
func (e *env) restConfig(q *question, foreign bool) (*rest.Config, error) {
	if foreign {
		if loaded, err := q.target.load(e); err == nil && !q.given {
			if ns, _, err := loaded.Namespace(); err == nil && ns != "" {
				q.namespace = ns
			}
		}
		return q.target.config(e)
	}
	rc, err := e.clientConfig().ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("no mesh to ask: %w (start one with hasp up, or give manifests with -f)", err)
	}
	rc.QPS = -1
	return rc, nil
}
