package proxy

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"hasp/mesh"
)

// requestLog is the access-log entry of one request through a gateway.
type requestLog struct {
	Start        time.Time      `json:"start"`
	Source       string         `json:"source"`
	Method       string         `json:"method"`
	Host         string         `json:"host"`
	Path         string         `json:"path"`
	Protocol     string         `json:"protocol"`
	Code         int            `json:"code"`
	Flags        string         `json:"flags"`
	Why          string         `json:"why,omitempty"`
	Sent         uint64         `json:"sent"`
	Duration     time.Duration  `json:"durationNanos"`
	RequestID    string         `json:"requestID"`
	Route        string         `json:"route,omitempty"` // the VirtualService
	Cluster      string         `json:"cluster,omitempty"`
	Upstream     netip.AddrPort `json:"upstream,omitzero"`
	Security     mesh.Security  `json:"security,omitempty"`
	PeerIdentity string         `json:"peerIdentity,omitempty"`
	Generation   uint64         `json:"generation,omitempty"`
	Trace        string         `json:"trace,omitempty"`  // of the upstream connection
	Reason       string         `json:"reason,omitempty"` // why it did not come about
}

// tell takes down the upstream connection of the request.
func (q *requestLog) tell(f mesh.Connection) {
	q.Upstream, q.Security, q.PeerIdentity, q.Generation, q.Trace = f.Upstream, f.Security, f.PeerIdentity, f.Generation, f.Trace
	if f.Failure != nil {
		q.Reason = f.Failure.Reason
	}
}

func (l *accessLog) request(form mesh.LogForm, q *requestLog) {
	switch {
	case l.w == nil || form == mesh.LogOff:
	case form == mesh.LogJSON:
		l.writeJSON(q)
	default:
		l.write(requestLine(q))
	}
}

// requestLine begins like Istio's text format: when, what, status, flags.
func requestLine(q *requestLog) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[%s] %q %d %s source=%s host=%q sent=%d duration=%s id=%q",
		q.Start.UTC().Format("2006-01-02T15:04:05.000Z"), q.Method+" "+q.Path+" "+q.Protocol, q.Code, q.Flags,
		q.Source, q.Host, q.Sent, q.Duration.Round(time.Microsecond), q.RequestID)
	if q.Route != "" {
		fmt.Fprintf(&b, " route=%s cluster=%s", q.Route, q.Cluster)
	}
	if q.Upstream.IsValid() {
		fmt.Fprintf(&b, " upstream=%s %s generation=%d", q.Upstream, q.Security, q.Generation)
	}
	if q.PeerIdentity != "" {
		fmt.Fprintf(&b, " peer=%s", q.PeerIdentity)
	}
	if q.Trace != "" {
		fmt.Fprintf(&b, " trace=%s", q.Trace)
	}
	if q.Reason != "" {
		fmt.Fprintf(&b, " reason=%s", q.Reason)
	}
	if q.Why != "" {
		fmt.Fprintf(&b, " why=%q", q.Why)
	}
	b.WriteByte('\n')
	return b.String()
}
