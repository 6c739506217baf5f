package xds

import (
	"crypto/tls"
	"net/netip"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"hasp/mesh"
)

// versionsOfTLS as Envoy counts them.
var versionsOfTLS = map[accesslogv3.TLSProperties_TLSVersion]string{
	accesslogv3.TLSProperties_TLSv1:   "1.0",
	accesslogv3.TLSProperties_TLSv1_1: "1.1",
	accesslogv3.TLSProperties_TLSv1_2: "1.2",
	accesslogv3.TLSProperties_TLSv1_3: "1.3",
}

// suites are the numbers of cipher suites by name.
var suites = func() map[string]uint32 {
	out := map[string]uint32{}
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		out[s.Name] = uint32(s.ID)
	}
	return out
}()

// edgeEntry is a line of the ledger. It is a sum and no connection, so of
// Envoy's fields it has the times alone: who adds up bytes must not count them
// twice.
func edgeEntry(e *mesh.Edge) (*accesslogv3.TCPAccessLogEntry, error) {
	ours, err := state(edgeKey, e)
	if err != nil {
		return nil, err
	}
	return &accesslogv3.TCPAccessLogEntry{CommonProperties: &accesslogv3.AccessLogCommon{
		AccessLogType: accesslogv3.AccessLogType_TcpPeriodic,
		StartTime:     timestamp(e.First), Duration: between(e.First, e.Last),
		StreamId:           clipText(e.LastTrace),
		FilterStateObjects: ours,
	}}, nil
}

// connectionEntry is a connection in Envoy's words. Its downstream is who opened
// it. TLS is what was spoken with the peer at the other end of the network, on
// whichever side of the proxy that is.
func connectionEntry(c *mesh.Connection) (*accesslogv3.TCPAccessLogEntry, error) {
	ours, err := state(connectionKey, c)
	if err != nil {
		return nil, err
	}
	common := &accesslogv3.AccessLogCommon{
		DownstreamRemoteAddress:       address(c.Source),
		DownstreamDirectRemoteAddress: address(c.Source),
		DownstreamLocalAddress:        address(c.Destination),
		UpstreamRemoteAddress:         address(c.Upstream),
		UpstreamLocalAddress:          address(c.Local),
		UpstreamCluster:               clipText(c.Cluster),
		TlsProperties:                 tlsProperties(c),
		StartTime:                     timestamp(c.Start),
		TimeToLastDownstreamTxByte:    between(c.Start, c.LastSeen),
		Duration:                      between(c.Start, lastOf(c)),
		StreamId:                      clipText(c.Trace),
		DownstreamWireBytesSent:       c.Sent,
		DownstreamWireBytesReceived:   c.Received,
		AccessLogType:                 accesslogv3.AccessLogType_TcpPeriodic,
		ResponseFlags:                 responseFlags(c),
		FilterStateObjects:            ours,
	}
	if !c.End.IsZero() {
		common.AccessLogType = accesslogv3.AccessLogType_TcpConnectionEnd
		common.ConnectionTerminationDetails = clipText(c.Why)
	}
	if f := c.Failure; f != nil && f.Stage != "policy" {
		if c.Direction == mesh.OutboundDir {
			common.UpstreamTransportFailureReason = clipText(f.Error)
		} else {
			common.DownstreamTransportFailureReason = clipText(f.Error)
		}
	}
	return &accesslogv3.TCPAccessLogEntry{
		CommonProperties:     common,
		ConnectionProperties: &accesslogv3.ConnectionProperties{ReceivedBytes: c.Received, SentBytes: c.Sent},
	}, nil
}

func responseFlags(c *mesh.Connection) *accesslogv3.ResponseFlags {
	var out accesslogv3.ResponseFlags
	switch {
	case c.Failure != nil && c.Failure.Stage != "policy" && c.Direction == mesh.OutboundDir:
		out.UpstreamConnectionFailure = true
	case c.Failure != nil && c.Failure.Stage != "policy":
		out.DownstreamProtocolError = true
	case !c.Allowed && !c.End.IsZero():
		out.UnauthorizedDetails = &accesslogv3.ResponseFlags_Unauthorized{Reason: accesslogv3.ResponseFlags_Unauthorized_EXTERNAL_SERVICE}
	default:
		return nil
	}
	return &out
}

func tlsProperties(c *mesh.Connection) *accesslogv3.TLSProperties {
	if c.TLS == "" {
		return nil
	}
	out := &accesslogv3.TLSProperties{
		LocalCertificateProperties: bearing(c.LocalIdentity),
		PeerCertificateProperties:  bearing(c.PeerIdentity),
	}
	for v, word := range versionsOfTLS {
		if word == c.TLS {
			out.TlsVersion = v
		}
	}
	if id, known := suites[c.Cipher]; known {
		out.TlsCipherSuite = wrapperspb.UInt32(id)
	}
	if c.Failure != nil {
		out.TlsSniHostname = clipText(c.Failure.SNI)
	}
	return out
}

func bearing(identity string) *accesslogv3.TLSProperties_CertificateProperties {
	if identity == "" {
		return nil
	}
	return &accesslogv3.TLSProperties_CertificateProperties{
		SubjectAltName: []*accesslogv3.TLSProperties_CertificateProperties_SubjectAltName{
			{San: &accesslogv3.TLSProperties_CertificateProperties_SubjectAltName_Uri{Uri: clipText(identity)}},
		},
	}
}

// lastOf is until when something is known of a connection.
func lastOf(c *mesh.Connection) time.Time {
	if !c.End.IsZero() {
		return c.End
	}
	return c.LastSeen
}

func address(a netip.AddrPort) *corev3.Address {
	if !a.IsValid() {
		return nil
	}
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: clipText(a.Addr().String()), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(a.Port())},
	}}}
}

func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func between(from, to time.Time) *durationpb.Duration {
	if from.IsZero() || to.Before(from) {
		return nil
	}
	return durationpb.New(to.Sub(from))
}
