package control

import (
	"sync"

	"hasp/mesh"
	"hasp/xds"
)

// whole encodes the configurations of proxies that are told all of a World. Nearly
// all of one is the same for everybody of an audience, who have one list of clusters
// (see [compile.Compiler.For]): it is encoded once.
type whole struct {
	mu     sync.Mutex
	shared map[*mesh.Cluster]func() (xds.Resources, error) // by the first cluster
}

func newWhole() *whole { return &whole{shared: map[*mesh.Cluster]func() (xds.Resources, error){}} }

func (w *whole) encode(c *mesh.ProxyConfig) (xds.Resources, error) {
	if c.Role != mesh.RoleSidecar || len(c.Outbound.Clusters) == 0 {
		return xds.Encode(c)
	}
	w.mu.Lock()
	shared := w.shared[&c.Outbound.Clusters[0]]
	if shared == nil {
		shared = sync.OnceValues(func() (xds.Resources, error) { return xds.EncodeShared(c) })
		w.shared[&c.Outbound.Clusters[0]] = shared
	}
	w.mu.Unlock()
	r, err := shared()
	if err != nil {
		return nil, err
	}
	return xds.EncodeOwn(c, r)
}
