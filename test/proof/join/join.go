// Command join holds what an eavesdropper saw beside what the mesh says of
// itself: every connection that the capture has must be in the mesh's table, with
// the right peer, encryption, version and amount, and the other way round. It
// knows nothing of the mesh but the JSON of its command.
//
//	join <case.json
package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"hasp/test/wire"
)

// Row is a line of "hasp connections -o json", as far as a witness can check it.
type Row struct {
	Trace    string `json:"trace"`
	Seen     string `json:"seen"`
	Security string `json:"security"`
	Allowed  bool   `json:"allowed"`
	Source   struct {
		Workload string `json:"workload"`
		Address  string `json:"address"`
	} `json:"source"`
	Destination struct {
		Workload string `json:"workload"`
	} `json:"destination"`
	Disagreement  string     `json:"disagreement"`
	Handshake     *Handshake `json:"handshake"`
	Sent          int64      `json:"sent"`
	Received      int64      `json:"received"`
	Start         time.Time  `json:"start"`
	End           time.Time  `json:"end"`
	Why           string     `json:"why"`
	AtSource      *End       `json:"atSource"`
	AtDestination *End       `json:"atDestination"`
}

// Handshake is what was agreed on.
type Handshake struct {
	TLS   string `json:"tls"`
	Group string `json:"group"`
	// Reused is how many connections the mutual TLS connection had carried before.
	Reused int `json:"reused"`
}

// End is what one proxy has of it.
type End struct {
	ID          uint64         `json:"id"`
	Node        string         `json:"node"`
	Source      netip.AddrPort `json:"source"`
	Destination netip.AddrPort `json:"destination"`
	Allowed     bool           `json:"allowed"`
	Local       netip.AddrPort `json:"local"`
	Upstream    netip.AddrPort `json:"upstream"`
	Security    string         `json:"security"`
}

// wire is the pair of addresses that the connection has between the pods.
func (r *Row) wire() (client, server netip.AddrPort) {
	switch {
	case r.AtSource != nil && r.AtSource.Upstream.IsValid():
		return r.AtSource.Local, r.AtSource.Upstream
	case r.AtDestination != nil:
		return r.AtDestination.Source, r.AtDestination.Destination
	}
	return
}

// Case is all there is to judge.
type Case struct {
	Capture wire.Report `json:"capture"`
	Rows    []Row       `json:"rows"`
	// Pods by address, NAMESPACE/NAME, and which of their ports count.
	Pods  map[netip.Addr]string `json:"pods"`
	Ports []uint16              `json:"ports"`
}

// Result is the figure.
type Result struct {
	Captured int // connections between pods
	Joined   int // found in the table
	Carried  int // connections of applications that had no handshake of their own
	ByKind   map[string]int
	// Remapped are those of Joined that the server's kernel gave another client
	// port, which only its own proxy sees: two connections of one port to two ports
	// of the server would be one once they are redirected. They are matched by
	// addresses, time and exact bytes.
	Remapped      int
	Disagreements []string
}

const (
	// slack is how far the clocks of the capture and of a row may be apart: a row
	// is opened when the proxy accepts.
	slack = 2 * time.Second
	// handshakeBytes bounds what TLS 1.3 needs besides the payload: two flights
	// with certificates and a key exchange of ML-KEM.
	handshakeBytes = 12 << 10
)

// Join judges a case.
func Join(c *Case) Result {
	res := Result{ByKind: map[string]int{}}
	c.Rows, res.Carried = fold(c.Rows)
	type pair struct{ client, server netip.AddrPort }
	rows := map[pair][]*Row{}
	for i := range c.Rows {
		client, server := c.Rows[i].wire()
		if client.IsValid() && server.IsValid() {
			p := pair{client, server}
			rows[p] = append(rows[p], &c.Rows[i])
		}
	}
	used := map[*Row]bool{}
	onWire := map[pair]bool{}
	for _, w := range c.Capture.Connections {
		onWire[pair{w.Client, w.Server}] = true
	}
	for i := range c.Capture.Connections {
		w := &c.Capture.Connections[i]
		if c.Pods[w.Client.Addr()] == "" || c.Pods[w.Server.Addr()] == "" || !slices.Contains(c.Ports, w.Server.Port()) {
			continue
		}
		if w.FromClient.Bytes == 0 && w.FromServer.Bytes == 0 {
			continue // nothing was said that could be judged
		}
		res.Captured++
		r := match(rows[pair{w.Client, w.Server}], w, used)
		if r == nil { // see Result.Remapped
			for p, some := range rows {
				if p.server == w.Server && p.client.Addr() == w.Client.Addr() && r == nil && !onWire[p] {
					if r = match(some, w, used); r != nil && r.Received == w.FromClient.Bytes && r.Sent == w.FromServer.Bytes {
						res.Remapped++
					} else {
						r = nil
					}
				}
			}
		}
		name := fmt.Sprintf("%s -> %s %s", c.Pods[w.Client.Addr()], c.Pods[w.Server.Addr()], w.Server)
		if r == nil {
			res.Disagreements = append(res.Disagreements, name+": the wire has it, the table does not")
			continue
		}
		used[r] = true
		res.Joined++
		what := kind(r)
		res.ByKind[what]++
		for _, d := range compare(c, w, r) {
			res.Disagreements = append(res.Disagreements, fmt.Sprintf("%s (%s, %s): %s", name, r.Trace, what, d))
		}
	}
	for i := range c.Rows {
		r := &c.Rows[i]
		client, server := r.wire()
		if used[r] || c.Pods[client.Addr()] == "" || c.Pods[server.Addr()] == "" || client.Addr() == server.Addr() ||
			!slices.Contains(c.Ports, server.Port()) || r.Sent == 0 && r.Received == 0 {
			continue
		}
		res.Disagreements = append(res.Disagreements, fmt.Sprintf("%s -> %s (%s): the table has it, the wire does not", client, server, r.Trace))
	}
	slices.Sort(res.Disagreements)
	return res
}

// fold makes one row of those that one mutual TLS connection carried, one after
// the other: the wire has the sum.
func fold(rows []Row) (out []Row, carried int) {
	rows = slices.SortedStableFunc(slices.Values(rows), func(a, b Row) int { return a.Start.Compare(b.Start) })
	last := map[[2]netip.AddrPort]int{}
	for _, r := range rows {
		client, server := r.wire()
		key := [2]netip.AddrPort{client, server}
		if at, ok := last[key]; ok && r.Handshake != nil && r.Handshake.Reused > 0 {
			first := &out[at]
			first.Sent += r.Sent
			first.Received += r.Received
			first.End = r.End
			if first.Disagreement == "" {
				first.Disagreement = r.Disagreement
			}
			carried++
			continue
		}
		last[key] = len(out)
		out = append(out, r)
	}
	return out, carried
}

// match is the row of a connection among those that have its addresses.
func match(rows []*Row, w *wire.Connection, used map[*Row]bool) *Row {
	for _, r := range rows {
		if !used[r] && r.Start.Sub(w.Start).Abs() < slack {
			return r
		}
	}
	return nil
}

// letIn is the server's word, where it has one: a client may give up on a
// connection that the server had nothing against.
func (r *Row) letIn() bool {
	if r.AtDestination != nil {
		return r.AtDestination.Allowed
	}
	return r.Allowed
}

func kind(r *Row) string {
	if !r.letIn() {
		return r.Security + " refused"
	}
	return r.Security
}

// compare a connection on the wire and its row.
func compare(c *Case, w *wire.Connection, r *Row) (out []string) {
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if want := c.Pods[w.Client.Addr()]; r.Source.Workload != want {
		say("the client is %s, the table says %q", want, r.Source.Workload)
	}
	if want := c.Pods[w.Server.Addr()]; r.Destination.Workload != want {
		say("the server is %s, the table says %q", want, r.Destination.Workload)
	}
	if r.Disagreement != "" {
		say("the two ends disagree: %s", r.Disagreement)
	}
	mesh := slices.ContainsFunc(w.ALPN, func(p string) bool { return strings.HasPrefix(p, "istio") })
	readable := len(w.FromClient.Markers)+len(w.FromServer.Markers) > 0
	switch {
	case !r.letIn():
		if len(w.FromServer.Markers) > 0 || w.FromServer.Bytes > handshakeBytes {
			say("refused, and the server's %d bytes passed", w.FromServer.Bytes)
		}
		return out
	case r.Security == "mutual_tls":
		if w.TLS == "" || !mesh {
			say("mutual TLS, and the wire has TLS %q, ALPN %q", w.TLS, w.ALPN)
		}
		if readable {
			say("mutual TLS, and the payload could be read")
		}
		if r.Handshake == nil || r.Handshake.TLS != w.TLS {
			say("the wire has TLS %q, the table %+v", w.TLS, r.Handshake)
		}
	case r.Security == "opaque":
		// A workload that speaks no TLS answers a ClientHello with something else.
		if w.TLS == "" && len(w.ALPN) == 0 {
			say("the application's own TLS, and the wire has none")
		}
	case r.Security == "none":
		if w.TLS != "" {
			say("plaintext, and the wire has TLS %s", w.TLS)
		}
	default:
		say("let in as %q", r.Security)
	}
	for _, d := range []struct {
		what       string
		wire, told int64
	}{{"to the client", w.FromServer.Bytes, r.Sent}, {"from the client", w.FromClient.Bytes, r.Received}} {
		most := d.told
		if r.Security == "mutual_tls" {
			most += d.told/20 + handshakeBytes // records, handshake
		}
		if d.wire < d.told || d.wire > most {
			say("%d bytes %s on the wire, %d in the table", d.wire, d.what, d.told)
		}
	}
	return out
}
