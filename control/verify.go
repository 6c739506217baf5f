package control

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/sync/errgroup"

	"hasp/api"
	"hasp/ca"
	"hasp/mesh"
	"hasp/proof"
	"hasp/truth"
)

const (
	// Verifier is the service account, in the root namespace, as which a
	// verification shows a good certificate.
	Verifier = mesh.VerifierAccount
	// verifiedAtOnce bounds the workloads that are tried at a time, maxVerified
	// those of one report.
	verifiedAtOnce = 4
	maxVerified    = 1000
	// recordTime is how long the proxies' own records of the attempts are waited
	// for.
	recordTime = 3 * time.Second
)

// Witness looks at a workload from inside its machine, where somebody can.
type Witness interface {
	// Captured says what is redirected to the workload's proxy and what is not.
	Captured(ctx context.Context, workload string) []proof.Check
	// Watch follows the connections to a workload's addresses on its wire, until
	// stop is called and says what there was. An error of stop says why nothing can
	// be told.
	Watch(workload string, addresses []netip.Addr) (stop func() ([]proof.Flow, error))
}

// Verify tries the ports of workloads, all with a sidecar when none is named,
// and signs what came of it. A namespace, if not empty, limits it. One at a time.
func (c *Control) Verify(ctx context.Context, namespace string, names []string) (*proof.Signed, error) {
	if !c.verifying.TryLock() {
		return nil, &viewError{http.StatusServiceUnavailable, "another verification runs; try again when it is done"}
	}
	defer c.verifying.Unlock()
	s := c.current.Load()
	if s == nil {
		return nil, &viewError{http.StatusServiceUnavailable, errUnread.Error()}
	}
	chosen, err := choose(s.world.Workloads, namespace, names)
	if err != nil {
		return nil, err
	}
	own, err := c.own()
	if err != nil {
		return nil, err
	}
	v := &verification{c: c, s: s, report: proof.Report{
		Version: proof.ReportVersion, TrustDomain: s.world.Mesh.TrustDomain, By: Identity(s.world.Mesh.TrustDomain),
		At: time.Now().UTC(), Generation: s.world.Generation, Workloads: make([]proof.Workload, len(chosen)),
	}}
	v.own = own
	v.report.Identity = v.identity()
	if v.c.cfg.CA != nil {
		v.roots = v.c.cfg.CA.Bundle()
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(verifiedAtOnce)
	for i, wl := range chosen {
		g.Go(func() error {
			v.report.Workloads[i] = v.workload(ctx, wl)
			return ctx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	cert, err := own.Certificate()
	if err != nil {
		return nil, err
	}
	return proof.Sign(&v.report, cert, v.roots)
}

var errNoWitness = errors.New("from here nobody can look at it")

// verification under way.
type verification struct {
	c      *Control
	s      *snapshot
	report proof.Report
	own    Credentials
	roots  []byte // PEM
}

// identity of the good certificate: the verifier's own, or ours where a foreign
// authority signs for the mesh.
func (v *verification) identity() string {
	if v.c.cfg.CA == nil {
		return v.report.By
	}
	return mesh.Identity(v.report.TrustDomain, api.DefaultMeshConfig().RootNamespace, Verifier)
}

// credentials to show at one port. They live for a moment only, so that each port
// gets new ones: one that is refused must not be so for its age. A foreign
// authority gives none for another trust domain.
func (v *verification) credentials() (proof.Credentials, error) {
	show := proof.Credentials{Certificates: map[proof.Stranger]*tls.Certificate{}, Roots: v.own.Roots()}
	var err error
	if authority := v.c.cfg.CA; authority == nil {
		show.Certificates[proof.Member], err = v.own.Certificate()
	} else {
		var id spiffeid.ID
		if id, err = spiffeid.FromString(v.report.Identity); err != nil {
			return show, err
		}
		if show.Certificates[proof.OtherDomain], err = authority.Stranger(); err != nil {
			return show, err
		}
		show.Certificates[proof.Member], err = authority.Issue(id, ca.MinLeafTTL)
	}
	if err != nil {
		return show, err
	}
	show.Certificates[proof.OtherCA], err = proof.FromOtherCA(v.report.Identity)
	return show, err
}

// choose the workloads that are meant: a pod or a Deployment as NAMESPACE/NAME,
// NAME.NAMESPACE or NAME.
func choose(all []*mesh.Workload, namespace string, names []string) ([]*mesh.Workload, error) {
	if namespace != "" {
		all = slices.DeleteFunc(slices.Clone(all), func(wl *mesh.Workload) bool { return wl.Namespace != namespace })
	}
	var out []*mesh.Workload
	if len(names) == 0 {
		for _, wl := range all {
			if wl.Role == mesh.RoleSidecar {
				out = append(out, wl)
			}
		}
	}
	for _, name := range names {
		found := false
		for _, wl := range all {
			if !called(wl, name) {
				continue
			}
			found = true
			if !slices.Contains(out, wl) {
				out = append(out, wl)
			}
		}
		if !found {
			return nil, &viewError{http.StatusNotFound, fmt.Sprintf("there is no workload %s; name a pod or a Deployment, as NAMESPACE/NAME, NAME.NAMESPACE or NAME", name)}
		}
	}
	if len(out) == 0 {
		return nil, &viewError{http.StatusNotFound, "there is no workload with a sidecar"}
	}
	if len(out) > maxVerified {
		return nil, &viewError{http.StatusBadRequest, fmt.Sprintf("%d workloads are more than the %d that are tried at once; name some", len(out), maxVerified)}
	}
	return out, nil
}

func called(wl *mesh.Workload, name string) bool {
	for _, n := range []string{wl.Name, wl.Owner} {
		if n != "" && (name == n || name == wl.Namespace+"/"+n || name == n+"."+wl.Namespace) {
			return true
		}
	}
	return false
}

func (v *verification) workload(ctx context.Context, wl *mesh.Workload) proof.Workload {
	out := proof.Workload{Workload: wl.Key(), Owner: wl.Owner}
	switch {
	case wl.Role == mesh.RoleNone:
		out.Checks = []proof.Check{{Name: "sidecar", Verdict: proof.Failed, Says: "it is outside the mesh: it has no sidecar, and takes plaintext from everybody"}}
		return out
	case wl.Role == mesh.RoleGateway:
		out.Checks = []proof.Check{{Name: "sidecar", Verdict: proof.Unknown, Says: "a gateway serves those outside the mesh, as Gateway objects say: there is nothing to refuse"}}
		return out
	}
	out.Identity = wl.Identity(v.report.TrustDomain)
	cfg, _ := v.s.compiler.For(wl)
	var tried []*attempts
	stop := func() ([]proof.Flow, error) { return nil, errNoWitness }
	if w := v.c.cfg.Witness; w != nil {
		stop = w.Watch(wl.Key(), wl.Addresses)
	}
	for _, port := range portsOf(wl, cfg) {
		tried = append(tried, v.port(ctx, wl, port))
	}
	flows, unseen := stop()
	if len(tried) == 0 {
		out.Checks = append(out.Checks, proof.Check{Name: "ports", Verdict: proof.Unknown, Says: "it declares no port, and no Service leads to one"})
	}
	records := v.records(ctx, wl.Key(), tried)
	for _, t := range tried {
		out.Checks = append(out.Checks, t.judge(out.Identity, records)...)
		if len(t.sights) > 0 {
			out.Checks = append(out.Checks, t.wire(flows, unseen))
		}
	}
	if w := v.c.cfg.Witness; w != nil {
		out.Checks = append(out.Checks, w.Captured(ctx, wl.Key())...)
	} else {
		out.Checks = append(out.Checks, proof.Check{Name: "capture", Verdict: proof.Unknown, Says: "its capture was not looked at: from here nobody can see into the pod"})
	}
	return out
}

// portsOf a workload: those its containers declare and those Services lead to.
func portsOf(wl *mesh.Workload, cfg *mesh.ProxyConfig) []mesh.InboundPort {
	out := slices.Clone(cfg.Inbound.Ports)
	for _, p := range wl.Ports {
		if !slices.ContainsFunc(out, func(o mesh.InboundPort) bool { return o.Port == p.Number }) {
			o := cfg.Inbound.Default
			o.Port = p.Number
			out = append(out, o)
		}
	}
	slices.SortFunc(out, func(a, b mesh.InboundPort) int { return int(a.Port) - int(b.Port) })
	return out
}

// attempts at one port, by who tried, at each address.
type attempts struct {
	port   mesh.InboundPort
	failed error // there is no certificate to show
	sights map[proof.Stranger][]proof.Sight
}

func (v *verification) port(ctx context.Context, wl *mesh.Workload, port mesh.InboundPort) *attempts {
	t := &attempts{port: port, sights: map[proof.Stranger][]proof.Sight{}}
	if port.Mode == mesh.ModeDisable {
		return t
	}
	for _, a := range wl.Addresses {
		show, err := v.credentials()
		if err != nil {
			t.failed = err
			return t
		}
		at := netip.AddrPortFrom(a, port.Port)
		for _, who := range []proof.Stranger{proof.Member, proof.Plain, proof.Bare, proof.OtherCA, proof.OtherDomain} {
			if who == proof.Plain && port.Mode != mesh.ModeStrict || who == proof.OtherDomain && show.Certificates[who] == nil {
				continue
			}
			s := proof.Knock(ctx, who, at, show)
			t.sights[who] = append(t.sights[who], s)
			if !s.Reached {
				break
			}
		}
	}
	return t
}

// records are what the workload's own proxy says of the attempts, by trace.
func (v *verification) records(ctx context.Context, node string, tried []*attempts) map[string]*truth.Connection {
	want := map[string]bool{}
	for _, t := range tried {
		for _, sights := range t.sights {
			for _, s := range sights {
				if s.Reached {
					want[s.Trace] = true
				}
			}
		}
	}
	out := map[string]*truth.Connection{}
	late := time.NewTimer(recordTime)
	defer late.Stop()
	for {
		changed, _ := v.c.facts.news()
		f := v.c.facts.at(v.s.world.Generation, time.Now())
		for i := range f.Connections {
			c := &f.Connections[i]
			if c.Node == node && c.Direction == mesh.InboundDir && want[c.Trace] && !c.End.IsZero() {
				out[c.Trace] = c
			}
		}
		if len(out) == len(want) {
			return out
		}
		select {
		case <-changed:
		case <-late.C:
			return out
		case <-ctx.Done():
			return out
		}
	}
}

// serveVerify answers POST /verify?workload=A&workload=B&namespace=N.
func (c *Control) serveVerify(w http.ResponseWriter, r *http.Request) {
	_, version := c.facts.news()
	w.Header().Set(VersionHeader, strconv.FormatUint(version, 10))
	answer(w, func() (any, error) {
		signed, err := c.Verify(r.Context(), r.URL.Query().Get("namespace"), r.URL.Query()["workload"])
		if err != nil && r.Context().Err() != nil {
			err = errors.New("whoever asked has left")
		}
		return signed, err
	})
}

// said is a proxy's record of a connection, for a person.
func said(c *truth.Connection) string {
	word := "refused"
	if c.Allowed {
		word = "let in"
	}
	parts := []string{word, string(c.Security)}
	if c.PeerIdentity != "" {
		parts = append(parts, "peer "+c.PeerIdentity)
	}
	if c.Why != "" {
		parts = append(parts, c.Why)
	}
	return strings.Join(parts, "; ")
}
