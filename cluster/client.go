package cluster

import (
	"fmt"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Client says where the API server is and who we are to it: as the kubeconfig
// says, or, when its name is empty, as the pod's ServiceAccount.
func Client(kubeconfig string) (*rest.Config, error) {
	var c *rest.Config
	var err error
	if kubeconfig == "" {
		c, err = rest.InClusterConfig()
	} else {
		c, err = clientcmd.BuildConfigFromFlags("", kubeconfig)
	}
	if err != nil {
		return nil, fmt.Errorf("cluster: find the API server: %w", err)
	}
	// A TokenReview for each new proxy, a look at the namespace for each new
	// pod, a ConfigMap in every namespace when the roots change: client-go's 5
	// a second are for people.
	c.QPS, c.Burst = 200, 400
	c.UserAgent = "hasp-controlplane"
	return c, nil
}
