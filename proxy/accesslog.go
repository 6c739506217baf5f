package proxy

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"hasp/mesh"
)

// accessLog writes one line a connection. The JSON form is a mesh.Connection;
// the text form says the same for a reader.
type accessLog struct {
	mu sync.Mutex
	w  io.Writer // nil writes none
}

func newAccessLog(w io.Writer) *accessLog { return &accessLog{w: w} }

// logForm is that of the mesh-wide settings, or the one the proxy was started
// with. It is asked for at each line.
func (p *Proxy) logForm() mesh.LogForm {
	form := p.meshwide().AccessLog
	switch {
	case form != mesh.LogAsStarted:
		return form
	case p.cfg.AccessLogJSON:
		return mesh.LogJSON
	}
	return mesh.LogText
}

func (l *accessLog) connection(form mesh.LogForm, f *mesh.Connection) {
	switch {
	case l.w == nil || form == mesh.LogOff:
	case form == mesh.LogJSON:
		l.writeJSON(f)
	default:
		l.write(textLine(f))
	}
}

func (l *accessLog) writeJSON(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		return // not possible for our own plain structs
	}
	l.write(string(b) + "\n")
}

func (l *accessLog) write(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = io.WriteString(l.w, line) // there is no second log to complain to
}

// destination is where a connection was going; a gateway's go to the endpoint
// it chose.
func destination(f *mesh.Connection) string {
	switch {
	case f.Destination.IsValid():
		return f.Destination.String()
	case f.Upstream.IsValid():
		return f.Upstream.String()
	}
	return "-"
}

// textLine reads as: when, which way, from where to where, what was spoken, the
// verdict and what decided, then figures as key=value.
func textLine(f *mesh.Connection) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[%s] %s %s -> %s", f.Start.UTC().Format("2006-01-02T15:04:05.000Z"), f.Direction, f.Source, destination(f))
	word := func(key, value string) {
		if value == "" {
			return
		}
		if strings.ContainsAny(value, " \"\\\n\r\t=") {
			value = fmt.Sprintf("%q", value)
		}
		fmt.Fprintf(&b, " %s=%s", key, value)
	}
	verdict := "allowed"
	if !f.Allowed {
		verdict = "refused"
	}
	fmt.Fprintf(&b, " %s %s", f.Security, verdict)
	word("mode", f.Mode)
	if f.Rule.Name != "" {
		word("rule", f.Rule.String())
	}
	word("generation", fmt.Sprint(f.Generation))
	word("peer", f.PeerIdentity)
	word("workload", f.PeerWorkload)
	word("service", f.Service)
	word("cluster", f.Cluster)
	if f.Upstream.IsValid() {
		word("upstream", f.Upstream.String())
	}
	if f.TLS != "" {
		word("tls", f.TLS+"/"+f.Group)
	}
	fmt.Fprintf(&b, " sent=%d received=%d", f.Sent, f.Received)
	if f.Requests > 0 {
		fmt.Fprintf(&b, " requests=%d", f.Requests)
	}
	word("duration", f.End.Sub(f.Start).Round(time.Microsecond).String())
	word("trace", f.Trace)
	if f.Failure != nil {
		word("reason", f.Failure.Reason)
	}
	word("why", f.Why)
	b.WriteByte('\n')
	return b.String()
}
