package wire

import (
	"cmp"
	"net/netip"
	"regexp"
	"slices"
	"time"
)

// MarkerPrefix begins every marker, the text that tests send through the mesh
// and look for on the wire.
const MarkerPrefix = "HASP-MARK-"

var marker = regexp.MustCompile(MarkerPrefix + `[a-z0-9-]+`)

// markers in data, each once, sorted.
func markers(data []byte) []string {
	var out []string
	for _, m := range marker.FindAll(data, -1) {
		out = append(out, string(m))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Tap follows TCP connections from their first packet. The zero value is ready.
type Tap struct {
	// Limit of connections that are followed; 0 is 10000.
	Limit int

	conns     map[pair]*conn
	done      []*conn // whose ports were used again
	packets   int64
	untracked int64
}

// pair is a connection's client and server.
type pair struct{ client, server netip.AddrPort }

type conn struct {
	pair
	start          time.Time
	client, server stream
}

// Frame takes one Ethernet frame that was seen at a time. It keeps nothing of b.
func (t *Tap) Frame(at time.Time, b []byte) {
	s, ok := parseFrame(b)
	if !ok {
		return
	}
	t.packets++
	if s.syn && !s.ack {
		t.begin(at, s)
		return
	}
	c, forward := t.find(s)
	if c == nil {
		t.untracked++
		return
	}
	dir := &c.server
	if forward {
		dir = &c.client
	}
	seq := s.seq
	if s.syn {
		dir.syn(seq)
		seq++
	}
	dir.add(seq, s.payload)
	dir.reset = dir.reset || s.rst
}

func (t *Tap) begin(at time.Time, s segment) {
	p := pair{s.from, s.to}
	if old := t.conns[p]; old != nil {
		if old.client.base == s.seq+1 {
			return // seen twice: coming in and going out, or sent again
		}
		t.done = append(t.done, old)
		delete(t.conns, p)
	}
	if len(t.conns)+len(t.done) >= cmp.Or(t.Limit, 10000) {
		t.untracked++
		return
	}
	if t.conns == nil {
		t.conns = map[pair]*conn{}
	}
	c := &conn{pair: p, start: at}
	c.client.syn(s.seq)
	t.conns[p] = c
}

// find the connection of a segment, and whether it goes from client to server.
func (t *Tap) find(s segment) (c *conn, forward bool) {
	if c := t.conns[pair{s.from, s.to}]; c != nil {
		return c, true
	}
	return t.conns[pair{s.to, s.from}], false
}

// Report is what was seen so far; dropped is what the capture lost.
func (t *Tap) Report(dropped int64) Report {
	r := Report{Packets: t.packets, Dropped: dropped, Untracked: t.untracked, Connections: []Connection{}}
	all := slices.Clone(t.done)
	for _, c := range t.conns {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *conn) int {
		return cmp.Or(a.start.Compare(b.start), a.pair.client.Compare(b.pair.client))
	})
	for _, c := range all {
		r.Connections = append(r.Connections, c.connection())
	}
	return r
}

func (c *conn) connection() Connection {
	out := Connection{
		Start: c.start, Client: c.pair.client, Server: c.pair.server,
		FromClient: c.client.direction(), FromServer: c.server.direction(),
	}
	client, server := afterStartTLS(c.client.data, c.server.data)
	out.ALPN = clientALPN(client)
	out.TLS = serverVersion(server)
	return out
}
