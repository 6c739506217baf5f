package xds_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"hasp/mesh"
	"hasp/xds"
)

var sameAddrs = cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})

func (g gen) time() time.Time {
	if g.IntN(6) == 0 {
		return time.Time{}
	}
	return time.Unix(g.Int64N(4e9), g.Int64N(1e9)).UTC()
}

func (g gen) addrPort() netip.AddrPort {
	if g.IntN(4) == 0 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(g.addr(), g.port())
}

func (g gen) count() uint64 { return pick(g, 0, 1, g.Uint64()) }

func (g gen) direction() mesh.Direction { return pick(g, mesh.InboundDir, mesh.OutboundDir) }

func (g gen) security() mesh.Security {
	return pick(g, mesh.Plaintext, mesh.MutualTLS, mesh.SimpleTLS, mesh.PassedTLS, mesh.Probed, mesh.Unknown, "later")
}

func (g gen) connection() mesh.Connection {
	c := mesh.Connection{
		ID: g.count(), Trace: pick(g, "", mesh.TraceOf(nil, g.addrPort(), g.addrPort())), Direction: g.direction(),
		Source: g.addrPort(), Destination: g.addrPort(), Upstream: g.addrPort(), Local: g.addrPort(),
		Service: g.word(), Cluster: pick(g, "", "outbound|8080||"+g.word()), Protocol: g.protocol(),
		LocalIdentity: g.identity(), PeerIdentity: g.identity(), PeerWorkload: g.workload(),
		Security: g.security(), Why: pick(g, "", "the client has no sidecar \u2014 \"none\"\n"),
		TLS: pick(g, "", "1.0", "1.2", "1.3"), Group: pick(g, "", "X25519MLKEM768"), Cipher: pick(g, "", "TLS_AES_128_GCM_SHA256"), ALPN: pick(g, "", "istio"), Resumed: g.yes(),
		Allowed: g.yes(), Rule: g.origin(), Mode: pick(g, "", "STRICT"), Generation: g.count(),
		Sent: g.count(), Received: g.count(), Requests: g.count(), Errors: g.count(),
		Start: g.time(), LastSeen: g.time(), End: g.time(),
	}
	if g.yes() {
		c.Failure = &mesh.Failure{
			Stage: pick(g, "dial", "handshake", "policy"), Reason: "wrong_identity", Error: g.word(), ByPeer: g.yes(), Expected: some(g, 3, g.word),
			Presented: g.certificate(), Own: g.certificate(), TrustDomain: "cluster.local", SNI: g.word(), Offered: some(g, 3, g.word), At: g.time(),
		}
	}
	return c
}

func (g gen) certificate() *mesh.Certificate {
	if g.yes() {
		return nil
	}
	return &mesh.Certificate{Identity: g.identity(), Issuer: g.word(), Serial: g.word(), NotBefore: g.time(), NotAfter: g.time()}
}

func (g gen) edge() mesh.Edge {
	e := mesh.Edge{
		EdgeKey: mesh.EdgeKey{
			Node: g.workload(), Direction: g.direction(), Peer: g.workload(), PeerIdentity: g.identity(), Service: g.word(), Port: g.port(), Security: g.security(), Allowed: g.yes(),
		},
		Protocol: g.protocol(), Why: g.word(), Mode: pick(g, "", "PERMISSIVE"), Rule: g.origin(), Generation: g.count(), First: g.time(), Last: g.time(),
		Connections: g.count(), Open: g.count(), Sent: g.count(), Received: g.count(), Requests: g.count(), Errors: g.count(), LastTrace: pick(g, "", "0123456789abcdef"),
	}
	if g.yes() {
		e.PeerNet = netip.PrefixFrom(g.addr(), g.IntN(33)).Masked()
	}
	if g.yes() {
		e.Latency = make([]uint64, len(mesh.LatencyBounds)+1)
		e.Latency[g.IntN(len(e.Latency))] = g.count()
	}
	if g.yes() {
		e.Handshake = &mesh.Handshake{At: g.time(), TLS: "1.3", Group: g.word(), Cipher: g.word(), ALPN: g.word(), Resumed: g.yes(), LocalIdentity: g.identity(), PeerIdentity: g.identity()}
	}
	return e
}

func (g gen) report() *mesh.Report {
	return &mesh.Report{
		Node: g.workload(), Identity: g.identity(), Start: g.time(), At: g.time(), Generation: g.count(), Whole: g.yes(), Gone: g.yes(),
		Edges: some(g, 5, g.edge), Connections: some(g, 5, g.connection), Dropped: g.count(),
	}
}

func wire(t testing.TB, m *alsv3.StreamAccessLogsMessage) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// over sends a report and puts together what arrives.
func over(t testing.TB, r *mesh.Report) (got *mesh.Report, messages int) {
	t.Helper()
	sent, err := xds.EncodeReport(r)
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range sent {
		part, err := xds.DecodeReport(wire(t, m))
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			got = part
			continue
		}
		if part.Whole || part.Node != got.Node || part.Dropped != got.Dropped {
			t.Errorf("message %d: %+v", i, part)
		}
		got.Edges, got.Connections = append(got.Edges, part.Edges...), append(got.Connections, part.Connections...)
	}
	return got, len(sent)
}

func TestDecodeOfEncodedReportIsTheSame(t *testing.T) {
	for range 300 {
		seed := rand.Uint64()
		r := gen{rand.New(rand.NewPCG(seed, 0))}.report()
		got, n := over(t, r)
		if d := cmp.Diff(r, got, sameAddrs); d != "" || n != 1 {
			t.Fatalf("seed %d, %d messages: %s", seed, n, d)
		}
	}
}

// A large report is several messages, each within the limits.
func TestReportInParts(t *testing.T) {
	g := gen{rand.New(rand.NewPCG(1, 1))}
	many := &mesh.Report{Node: "shop/a", Whole: true, At: time.Unix(1, 0).UTC()}
	for range xds.MaxReportEntries/2 + 1 {
		many.Connections = append(many.Connections, g.connection())
		many.Edges = append(many.Edges, g.edge())
	}
	large := &mesh.Report{Node: "shop/a", Whole: true}
	for range 200 {
		large.Connections = append(large.Connections, mesh.Connection{Direction: mesh.InboundDir, Failure: &mesh.Failure{Expected: slicesOf(strings.Repeat("\x01", 1<<10), 32)}})
	}
	for _, r := range []*mesh.Report{many, large} {
		got, n := over(t, r)
		if n < 2 {
			t.Errorf("%d messages", n)
		}
		if d := cmp.Diff(r, got, sameAddrs); d != "" {
			t.Errorf("%.2000s", d)
		}
	}
}

func slicesOf(s string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = s
	}
	return out
}

// What a stranger made the proxy see may be of any length and any bytes.
func TestReportIsCut(t *testing.T) {
	r := &mesh.Report{Node: "shop/a", Connections: []mesh.Connection{{Direction: mesh.InboundDir, TLS: "1.3", Failure: &mesh.Failure{
		SNI: strings.Repeat("ü", 1000), Error: "\xff" + strings.Repeat("e", 5000), Offered: slicesOf("h2", 1000),
	}}}}
	got, _ := over(t, r)
	f := got.Connections[0].Failure
	if f.SNI != strings.Repeat("ü", 512) || len(f.Error) > 1024 || !strings.HasSuffix(f.Error, "eee") || len(f.Offered) != 32 {
		t.Errorf("%+v", f)
	}
	if len(r.Connections[0].Failure.Offered) != 1000 {
		t.Error("what was given was changed")
	}
}

func TestReportRefused(t *testing.T) {
	with := func(change func(*mesh.Report)) []byte {
		r := &mesh.Report{Node: "shop/a", Connections: []mesh.Connection{{Direction: mesh.InboundDir}}}
		change(r)
		m, err := xds.EncodeReport(r)
		if err != nil {
			t.Fatal(err)
		}
		return wire(t, m[0])
	}
	fine := with(func(*mesh.Report) {})
	swapped := func(old, new string) []byte {
		out := strings.ReplaceAll(string(fine), old, new)
		if out == string(fine) || len(old) != len(new) {
			t.Fatalf("%q is not there", old)
		}
		return []byte(out)
	}
	field := func(n protowire.Number, b []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), b)
	}
	for _, c := range []struct {
		name string
		wire []byte
		want string
	}{
		{"nothing", nil, ""},
		{"ours", fine, ""},
		{"not protobuf", []byte("\xff\xff\xff"), "xds: report: unexpected EOF"},
		{"cut off", fine[:len(fine)-1], "xds: report: unexpected EOF"},
		{"too large", make([]byte, xds.MaxReportBytes+1), "xds: a message of a report has 4194305 bytes, the limit is 4194304"},
		{"too many entries", field(3, []byte(strings.Repeat("\x0a\x00", xds.MaxReportEntries+1))), "xds: report: it has more than 2000 entries"},
		{"too many of both kinds", append(field(3, []byte(strings.Repeat("\x0a\x00", 1001))), field(2, []byte(strings.Repeat("\x0a\x00", 1000)))...), "xds: report: it has more than 2000 entries"},
		{"a large entry", field(3, field(1, make([]byte, 1<<20))), "xds: report: entry 0 has 1048576 bytes, the limit is 524288"},
		{"a large identifier", field(1, make([]byte, 1<<20)), "xds: report: the identifier has 1048576 bytes, the limit is 524288"},
		{"a direction", with(func(r *mesh.Report) { r.Connections[0].Direction = "up" }), `xds: report: entry 0: hasp.connection: direction "up" is not known`},
		{"of an edge", with(func(r *mesh.Report) { r.Edges = make([]mesh.Edge, 1) }), `xds: report: entry 0: hasp.edge: direction "" is not known`},
		{"no JSON", swapped(`"direction"`, `direction""`), "xds: report: entry 0: hasp.connection: invalid character 'd' looking for beginning of object key string"},
		{"no address", swapped(`"source":""`, `"source":80`), "xds: report: entry 0: hasp.connection: json: cannot unmarshal number into Go struct field Connection.source of type netip.AddrPort"},
		{"another type", swapped("BytesValue", "UInt32Valu"), `xds: report: entry 0: hasp.connection: proto: mismatched message type`},
		{"lists in the head", swapped(`"generation":0}`, `"edges":[{} ] }`), "xds: report: metadata hasp.report: json: cannot unmarshal array into Go struct field reportHead.edges of type struct {}"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := xds.DecodeReport(c.wire)
			got := strings.ReplaceAll(fmt.Sprint(err), "\u00a0", " ") // package proto's way to say that its texts change
			if c.want == "" && err != nil || !strings.HasPrefix(got, c.want) {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// Whatever a proxy sends is refused, or is a report that can be passed on.
func FuzzDecodeReport(f *testing.F) {
	for seed := range uint64(6) {
		m, err := xds.EncodeReport(gen{rand.New(rand.NewPCG(seed, 0))}.report())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire(f, m[0]))
	}
	for _, m := range []*alsv3.StreamAccessLogsMessage{envoyTCP(), envoyHTTP()} {
		f.Add(wire(f, m))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := xds.DecodeReport(b)
		if err != nil {
			return
		}
		got, _ := over(t, r)
		if d := cmp.Diff(r, got, sameAddrs); d != "" {
			t.Error(d)
		}
	})
}
