package server

import (
	"context"
	"log/slog"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// anewEvery is how far apart proxies are asked to report anew, so that they do
// not come all at once.
const anewEvery = time.Millisecond

// relay is the stream of another control plane.
type relay struct {
	srv  *Server
	peer spiffeid.ID
}

// relay takes what another control plane passes on. What a proxy says here
// itself goes before it.
func (s *Server) relay(ctx context.Context, peer spiffeid.ID, first []byte, in <-chan received[[]byte]) error {
	r := &relay{srv: s, peer: peer}
	defer r.close()
	if err := r.message(ctx, first); err != nil {
		return err
	}
	for {
		select {
		case m := <-in:
			if m.err != nil {
				return hungUp(ctx, m.err)
			}
			if err := r.message(ctx, m.msg); err != nil {
				return err
			}
		case <-ctx.Done():
			return ended(ctx)
		}
	}
}

// message of one proxy. One that is not taken is passed over: the other control
// plane cannot mend it, and has more to say.
func (r *relay) message(ctx context.Context, wire []byte) error {
	report, err := r.srv.decode(ctx, wire)
	if err != nil {
		return err
	}
	if report.Node == "" {
		return nil // it only shows that it is there
	}
	log := r.srv.cfg.Log.With(slog.String("node", report.Node))
	node, err := nodeName(report.Node)
	if err == nil && report.Gone {
		r.gone(node) // also of a workload that is no more: it is how most of them end
		return nil
	}
	if err == nil {
		err = r.srv.cfg.MayReport(node, r.peer)
	}
	switch {
	case err != nil:
		log.Debug("a report that was passed on is not taken", slog.Any("why", err))
	case r.own(node):
		report.Node, report.Identity = node, r.peer.String()
		if report.At.IsZero() {
			report.At = r.srv.cfg.Now()
		}
		if err := r.srv.cfg.Reports(node, r.peer, report); err != nil {
			log.Warn("a report that was passed on is refused", slog.Any("why", err))
		}
	}
	return nil
}

// own makes the stream the one that speaks for a node, unless its proxy does so
// here itself.
func (r *relay) own(node string) bool {
	all := &r.srv.reporters
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.node[node] != nil {
		delete(all.relayed, node)
		return false
	}
	all.relayed[node] = r
	return true
}

// gone ends what the stream says of a node, if it is the one that speaks for it:
// the proxy may be with another control plane by now.
func (r *relay) gone(node string) {
	all := &r.srv.reporters
	all.mu.Lock()
	mine := all.relayed[node] == r
	if mine {
		delete(all.relayed, node)
	}
	mine = mine && all.node[node] == nil
	all.mu.Unlock()
	if mine && r.srv.cfg.Gone != nil {
		r.srv.cfg.Gone(node)
	}
}

func (r *relay) close() {
	all := &r.srv.reporters
	all.mu.Lock()
	var nodes []string
	for node, owner := range all.relayed {
		if owner == r {
			nodes = append(nodes, node)
		}
	}
	all.mu.Unlock()
	for _, node := range nodes {
		r.gone(node)
	}
}

// ReportAnew has all proxies that report here begin anew, with all that they
// know, for whoever wants to hear it from the beginning.
func (s *Server) ReportAnew(ctx context.Context) {
	s.reporters.mu.Lock()
	var all []*reporter
	for _, r := range s.reporters.node {
		all = append(all, r)
	}
	s.reporters.mu.Unlock()
	tick := time.NewTicker(anewEvery)
	defer tick.Stop()
	for _, r := range all {
		select {
		case r.anew <- struct{}{}:
		default:
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
