package control

import (
	"context"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"hasp/api"
	"hasp/ca/csr"
	"hasp/mesh"
	"hasp/xds/server"
)

// drainTime is how long a stopping control plane lets streams end by
// themselves; proxies keep them open, so it is short.
const drainTime = 200 * time.Millisecond

// Identity is the SPIFFE ID of the control plane in a trust domain.
func Identity(trustDomain string) string {
	return mesh.Identity(trustDomain, api.DefaultMeshConfig().RootNamespace, Account)
}

// known lets only identities that some workload has be signed: one whose last
// pod is gone can no longer renew.
func (c *Control) known(id spiffeid.ID) error {
	w := c.World()
	if w == nil {
		return fmt.Errorf("the control plane has not read the cluster yet")
	}
	for _, wl := range w.Workloads {
		if wl.Role != mesh.RoleNone && wl.Identity(w.Mesh.TrustDomain) == id.String() {
			return nil
		}
	}
	return fmt.Errorf("no workload of the mesh has the identity %s", id)
}

// serve answers xDS and CSRs on every listener.
func (c *Control) serve(ctx context.Context) error {
	id, err := spiffeid.FromString(Identity(c.cfg.CA.TrustDomain().Name()))
	if err != nil {
		return fmt.Errorf("identity of the control plane: %w", err)
	}
	own, err := c.cfg.CA.Server(id)
	if err != nil {
		return fmt.Errorf("certificate of the control plane: %w", err)
	}
	g := grpc.NewServer(server.Options(own)...)
	c.xds.Register(g)
	certificates, err := csr.NewServer(csr.ServerConfig{
		CA: c.cfg.CA, Verifiers: []csr.Verifier{csr.JoinTokens{Tokens: c.cfg.Tokens}},
		Allow: c.known, Log: c.cfg.Log,
	})
	if err != nil {
		return err
	}
	certificates.Register(g)

	group, ctx := errgroup.WithContext(ctx)
	for _, l := range c.cfg.Listeners {
		group.Go(func() error { return g.Serve(l) })
	}
	group.Go(func() error {
		<-ctx.Done()
		timer := time.AfterFunc(drainTime, g.Stop)
		defer timer.Stop()
		g.GracefulStop()
		return nil
	})
	return group.Wait()
}
