package cli

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// clusterFlags say which cluster a command is about.
type clusterFlags struct {
	kubeconfig string
	context    string
}

func (f *clusterFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig `FILE` of the cluster (default KUBECONFIG, else ~/.kube/config)")
	cmd.Flags().StringVar(&f.context, "context", "", "`NAME` of the kubeconfig's context to use instead of the current one")
}

// named: a cluster was asked for in so many words.
func (f *clusterFlags) named() bool { return f.kubeconfig != "" || f.context != "" }

// kubectlsOwn is kubectl's usual kubeconfig, empty when there is none.
func (e *env) kubectlsOwn() string {
	home := lookup(e.Environ, "HOME")
	if home == "" {
		return ""
	}
	file := filepath.Join(home, ".kube", "config")
	if _, err := os.Stat(file); err != nil {
		return ""
	}
	return file
}

// load is what the flags, KUBECONFIG or kubectl's usual place name.
func (f *clusterFlags) load(e *env) (clientcmd.ClientConfig, error) {
	rules := &clientcmd.ClientConfigLoadingRules{}
	if own := e.kubectlsOwn(); own != "" {
		rules.Precedence = []string{own}
	}
	switch {
	case f.kubeconfig != "":
		rules = &clientcmd.ClientConfigLoadingRules{ExplicitPath: absolute(e.Dir, f.kubeconfig)}
		if _, err := os.Stat(rules.ExplicitPath); err != nil {
			return nil, usageError{fmt.Errorf("--kubeconfig: %w", err)}
		}
	case e.Config.Kubeconfig != "":
		rules.Precedence = filepath.SplitList(e.Config.Kubeconfig)
	}
	overrides := &clientcmd.ConfigOverrides{CurrentContext: f.context}
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides), nil
}

// config of the cluster that the flags, KUBECONFIG or kubectl's usual place name.
func (f *clusterFlags) config(e *env) (*rest.Config, error) {
	loaded, err := f.load(e)
	if err != nil {
		return nil, err
	}
	c, err := loaded.ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		return nil, fmt.Errorf("no cluster is named: set KUBECONFIG or give --kubeconfig (on this machine alone, hasp up needs no cluster)")
	}
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	c.QPS = -1 // the API server has its own fairness
	return c, nil
}
