package xds

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"hash/fnv"
	"net/netip"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"hasp/mesh"
)

// rbacDenied is how Envoy's RBAC filters begin their reason.
const rbacDenied = "rbac_access_denied"

// envoyConnection is what a stock Envoy's entry says, as far as it can: a TCP
// entry is a connection, an HTTP entry one request.
func envoyConnection(e haspEntry) mesh.Connection {
	common := e.GetCommonProperties()
	c := mesh.Connection{
		Direction:   envoyDirection(common),
		Source:      addrPortOf(cmp.Or(common.GetDownstreamDirectRemoteAddress(), common.GetDownstreamRemoteAddress())),
		Destination: addrPortOf(common.GetDownstreamLocalAddress()),
		Upstream:    addrPortOf(common.GetUpstreamRemoteAddress()),
		Local:       addrPortOf(common.GetUpstreamLocalAddress()),
		Cluster:     clipText(common.GetUpstreamCluster()),
		Allowed:     common.GetResponseFlags().GetUnauthorizedDetails() == nil,
		Start:       timeOf(common.GetStartTime()),
		Sent:        common.GetDownstreamWireBytesSent(),
		Received:    common.GetDownstreamWireBytesReceived(),
	}
	if parts := strings.Split(c.Cluster, "|"); len(parts) == 4 {
		c.Service = parts[3]
	}
	c.LastSeen = later(c.Start, cmp.Or(common.GetDuration(), common.GetTimeToLastDownstreamTxByte()))
	if !intermediate(common) {
		c.End = c.LastSeen
	}
	c.Why = clipText(common.GetConnectionTerminationDetails())
	envoyTLS(&c, common.GetTlsProperties())
	c.Failure = envoyFailure(&c, common)
	switch e := e.(type) {
	case *accesslogv3.TCPAccessLogEntry:
		c.Protocol = mesh.TCP
		c.Sent = cmp.Or(e.GetConnectionProperties().GetSentBytes(), c.Sent)
		c.Received = cmp.Or(e.GetConnectionProperties().GetReceivedBytes(), c.Received)
	case *accesslogv3.HTTPAccessLogEntry:
		envoyRequest(&c, e)
	}
	if strings.HasPrefix(c.Why, rbacDenied) {
		c.Allowed = false
	}
	client, server := c.Source, c.Destination
	if c.Direction == mesh.OutboundDir {
		client, server = c.Local, c.Upstream
	}
	c.Trace = mesh.TraceOf(nil, client, server)
	c.ID = envoyID(&c, common.GetStreamId())
	return c
}

// envoyRequest adds what a request says. The path is nobody's business.
func envoyRequest(c *mesh.Connection, e *accesslogv3.HTTPAccessLogEntry) {
	switch e.GetProtocolVersion() {
	case accesslogv3.HTTPAccessLogEntry_HTTP2, accesslogv3.HTTPAccessLogEntry_HTTP3:
		c.Protocol = mesh.HTTP2
	default:
		c.Protocol = mesh.HTTP
	}
	code := e.GetResponse().GetResponseCode().GetValue()
	c.Requests = 1
	if code == 0 || code >= 500 {
		c.Errors = 1
	}
	details := clipText(e.GetResponse().GetResponseCodeDetails())
	if strings.HasPrefix(details, rbacDenied) {
		c.Allowed = false
	}
	c.Why = fmt.Sprintf("%s answered %d", e.GetRequest().GetRequestMethod(), code)
	if details != "" {
		c.Why = clipText(c.Why + ": " + details)
	}
	c.Sent = cmp.Or(c.Sent, e.GetResponse().GetResponseHeadersBytes()+e.GetResponse().GetResponseBodyBytes())
	c.Received = cmp.Or(c.Received, e.GetRequest().GetRequestHeadersBytes()+e.GetRequest().GetRequestBodyBytes())
}

// envoyDirection goes by the names of clusters, which are Istio's.
func envoyDirection(common *accesslogv3.AccessLogCommon) mesh.Direction {
	cluster := common.GetUpstreamCluster()
	switch {
	case strings.HasPrefix(cluster, inboundPrefix), strings.HasPrefix(cluster, inboundAnyName):
		return mesh.InboundDir
	case cluster == "" && common.GetTlsProperties().GetPeerCertificateProperties() != nil:
		return mesh.InboundDir // refused before it had a cluster
	}
	return mesh.OutboundDir
}

// envoyTLS takes what Envoy says of its downstream; of TLS to its upstream it
// says nothing.
func envoyTLS(c *mesh.Connection, p *accesslogv3.TLSProperties) {
	if p != nil {
		c.TLS = versionsOfTLS[p.GetTlsVersion()]
		if suite := p.GetTlsCipherSuite(); suite != nil && suite.GetValue() <= 0xffff {
			c.Cipher = tls.CipherSuiteName(uint16(suite.GetValue()))
		}
		c.LocalIdentity = identityIn(p.GetLocalCertificateProperties())
		c.PeerIdentity = identityIn(p.GetPeerCertificateProperties())
	}
	switch {
	case c.Direction == mesh.OutboundDir:
		c.Security = mesh.Unknown
		if c.Why == "" {
			c.Why = "Envoy's access log does not say what it spoke upstream"
		}
	case c.TLS == "":
		c.Security = mesh.Plaintext
	case c.PeerIdentity != "":
		c.Security = mesh.MutualTLS
	default:
		c.Security = mesh.SimpleTLS
	}
}

func envoyFailure(c *mesh.Connection, common *accesslogv3.AccessLogCommon) *mesh.Failure {
	f := &mesh.Failure{Reason: "other", At: c.LastSeen, SNI: clipText(common.GetTlsProperties().GetTlsSniHostname())}
	switch up, down := common.GetUpstreamTransportFailureReason(), common.GetDownstreamTransportFailureReason(); {
	case c.Direction == mesh.OutboundDir && up != "":
		f.Stage, f.Error = "handshake", clipText(up)
	case c.Direction == mesh.InboundDir && down != "":
		f.Stage, f.Error = "handshake", clipText(down)
	case common.GetResponseFlags().GetUpstreamConnectionFailure():
		f.Stage, f.Error = "dial", "upstream connection failure"
	default:
		return nil
	}
	return f
}

// envoyID is the same for all entries of a stream, if Envoy gives it an ID.
func envoyID(c *mesh.Connection, stream string) uint64 {
	h := fnv.New64a()
	if stream == "" {
		stream = fmt.Sprint(c.Source, c.Destination, c.Start.UnixNano())
	}
	h.Write([]byte(stream))
	return h.Sum64()
}

// intermediate entries are of connections that live on.
func intermediate(common *accesslogv3.AccessLogCommon) bool {
	switch common.GetAccessLogType() {
	case accesslogv3.AccessLogType_NotSet, accesslogv3.AccessLogType_TcpConnectionEnd, accesslogv3.AccessLogType_DownstreamEnd,
		accesslogv3.AccessLogType_UpstreamEnd, accesslogv3.AccessLogType_UdpSessionEnd:
		return false
	}
	return true
}

func identityIn(p *accesslogv3.TLSProperties_CertificateProperties) string {
	for _, san := range p.GetSubjectAltName() {
		if uri := san.GetUri(); strings.HasPrefix(uri, "spiffe://") {
			return clipText(uri)
		}
	}
	return ""
}

func addrPortOf(a *corev3.Address) netip.AddrPort {
	s := a.GetSocketAddress()
	ip, err := netip.ParseAddr(s.GetAddress())
	if err != nil || s.GetPortValue() > 0xffff {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ip.Unmap().WithZone(""), uint16(s.GetPortValue()))
}

func timeOf(t *timestamppb.Timestamp) time.Time {
	if t == nil || !t.IsValid() {
		return time.Time{}
	}
	return t.AsTime()
}

// later is t, or the time after it if that is in range.
func later(t time.Time, d *durationpb.Duration) time.Time {
	if d == nil || !d.IsValid() || d.AsDuration() < 0 {
		return t
	}
	if at := t.Add(d.AsDuration()); at.Year() <= 9999 {
		return at
	}
	return t
}
