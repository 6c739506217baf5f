package control

import (
	"context"
	"fmt"
	"slices"
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

// newcomer is how long a pod may be ahead of the World that has it.
const newcomer = 3 * time.Second

// known lets only identities that some workload has be signed: one whose last
// pod is gone can no longer renew. A pod that was just made may ask before its
// World is built, so an unknown one waits a little.
func (c *Control) known(id spiffeid.ID) error {
	patience := time.NewTimer(newcomer)
	defer patience.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if s := c.current.Load(); s != nil && s.has(id.String()) {
			return nil
		}
		select {
		case <-tick.C:
		case <-patience.C:
			return fmt.Errorf("no workload of the mesh has the identity %s", id)
		}
	}
}

// has reports whether some workload of the mesh has an identity.
func (s *snapshot) has(identity string) bool {
	trustDomain, namespace, account, ok := mesh.ParseIdentity(identity)
	return ok && trustDomain == s.world.Mesh.TrustDomain && s.world.HasAccount(namespace, account)
}

// own is the control plane's certificate.
func (c *Control) own() (Credentials, error) {
	if c.cfg.Own != nil {
		return c.cfg.Own, nil
	}
	id, err := spiffeid.FromString(Identity(c.cfg.TrustDomain))
	if err != nil {
		return nil, fmt.Errorf("identity of the control plane: %w", err)
	}
	own, err := c.cfg.CA.Server(id)
	if err != nil {
		return nil, fmt.Errorf("certificate of the control plane: %w", err)
	}
	return own, nil
}

// certificates adds the certificate service, if there is an authority.
func (c *Control) certificates(g *grpc.Server) error {
	if c.cfg.CA == nil {
		return nil
	}
	verifiers := slices.Clone(c.cfg.Verifiers)
	if c.cfg.Tokens != nil {
		verifiers = append(verifiers, csr.JoinTokens{Tokens: c.cfg.Tokens})
	}
	s, err := csr.NewServer(csr.ServerConfig{
		CA: c.cfg.CA, Verifiers: verifiers, Allow: c.known, Answered: c.cfg.Signed, Log: c.cfg.Log,
	})
	if err != nil {
		return err
	}
	s.Register(g)
	return nil
}

// serve answers xDS and CSRs on every listener.
func (c *Control) serve(ctx context.Context) error {
	own, err := c.own()
	if err != nil {
		return err
	}
	g := grpc.NewServer(server.Options(own)...)
	c.xds.Register(g)
	if err := c.certificates(g); err != nil {
		return err
	}

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
