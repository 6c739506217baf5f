package xds_test

import (
	"net/netip"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"hasp/mesh"
	"hasp/xds"
)

const (
	appID    = "spiffe://cluster.local/ns/shop/sa/app-ui"
	boardsID = "spiffe://cluster.local/ns/shop/sa/boards"
	envoyID  = "sidecar~10.77.0.9~boards-1.shop~shop.svc.cluster.local"
)

var began = time.Date(2026, 11, 29, 12, 0, 0, 5000, time.UTC)

func socket(s string) *corev3.Address {
	a := netip.MustParseAddrPort(s)
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: a.Addr().String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(a.Port())},
	}}}
}

func certificate(uri string) *accesslogv3.TLSProperties_CertificateProperties {
	return &accesslogv3.TLSProperties_CertificateProperties{SubjectAltName: []*accesslogv3.TLSProperties_CertificateProperties_SubjectAltName{
		{San: &accesslogv3.TLSProperties_CertificateProperties_SubjectAltName_Uri{Uri: uri}},
	}}
}

// envoyTCP is what the access logger of a stock Envoy sends of TCP connections:
// one let in by mutual TLS, one that RBAC refused, one that the upstream did not
// prove itself in.
func envoyTCP() *alsv3.StreamAccessLogsMessage {
	let := &accesslogv3.TCPAccessLogEntry{
		CommonProperties: &accesslogv3.AccessLogCommon{
			DownstreamRemoteAddress: socket("10.77.0.3:40000"), DownstreamDirectRemoteAddress: socket("10.77.0.3:40000"), DownstreamLocalAddress: socket("10.77.0.9:8080"),
			UpstreamRemoteAddress: socket("10.77.0.9:8080"), UpstreamLocalAddress: socket("127.0.0.6:41000"), UpstreamCluster: "inbound|8080||",
			TlsProperties: &accesslogv3.TLSProperties{
				TlsVersion: accesslogv3.TLSProperties_TLSv1_3, TlsCipherSuite: wrapperspb.UInt32(0x1302), TlsSniHostname: "outbound_.8080_._.boards.shop.svc.cluster.local",
				LocalCertificateProperties: certificate(boardsID), PeerCertificateProperties: certificate(appID),
			},
			StartTime: timestamppb.New(began), Duration: durationpb.New(3 * time.Second),
		},
		ConnectionProperties: &accesslogv3.ConnectionProperties{ReceivedBytes: 100, SentBytes: 2000},
	}
	refused := &accesslogv3.TCPAccessLogEntry{
		CommonProperties: &accesslogv3.AccessLogCommon{
			DownstreamRemoteAddress: socket("[fd77::3]:40000"), DownstreamLocalAddress: socket("[fd77::9]:8080"), UpstreamCluster: "inbound|8080||",
			StartTime: timestamppb.New(began), ConnectionTerminationDetails: "rbac_access_denied_matched_policy[none]",
		},
	}
	failed := &accesslogv3.TCPAccessLogEntry{
		CommonProperties: &accesslogv3.AccessLogCommon{
			DownstreamRemoteAddress: socket("10.77.0.9:50000"), DownstreamLocalAddress: socket("10.96.0.7:27017"), UpstreamRemoteAddress: socket("10.77.0.7:27017"),
			UpstreamLocalAddress: socket("10.77.0.9:50001"),
			UpstreamCluster:      "outbound|27017||mongo.shop.svc.cluster.local", StartTime: timestamppb.New(began), AccessLogType: accesslogv3.AccessLogType_TcpPeriodic, StreamId: "7",
			ResponseFlags:                  &accesslogv3.ResponseFlags{UpstreamConnectionFailure: true},
			UpstreamTransportFailureReason: "TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:TLS_error_end",
		},
	}
	return &alsv3.StreamAccessLogsMessage{
		Identifier: &alsv3.StreamAccessLogsMessage_Identifier{Node: &corev3.Node{Id: envoyID}, LogName: "tcp_envoy_accesslog"},
		LogEntries: &alsv3.StreamAccessLogsMessage_TcpLogs{TcpLogs: &alsv3.StreamAccessLogsMessage_TCPAccessLogEntries{LogEntry: []*accesslogv3.TCPAccessLogEntry{let, refused, failed}}},
	}
}

// envoyHTTP is a request, and one in plaintext that was refused, in a later
// message of the stream.
func envoyHTTP() *alsv3.StreamAccessLogsMessage {
	entry := func(code uint32, details string, tls *accesslogv3.TLSProperties) *accesslogv3.HTTPAccessLogEntry {
		return &accesslogv3.HTTPAccessLogEntry{
			ProtocolVersion: accesslogv3.HTTPAccessLogEntry_HTTP11,
			CommonProperties: &accesslogv3.AccessLogCommon{
				DownstreamRemoteAddress: socket("203.0.113.7:1"), DownstreamDirectRemoteAddress: socket("10.77.0.3:40000"), DownstreamLocalAddress: socket("10.77.0.9:8080"),
				UpstreamCluster: "inbound|8080||", StartTime: timestamppb.New(began), Duration: durationpb.New(time.Millisecond), TlsProperties: tls, StreamId: "b2c1",
			},
			Request:  &accesslogv3.HTTPRequestProperties{RequestMethod: corev3.RequestMethod_GET, Path: "/boards?token=secret", RequestHeadersBytes: 200},
			Response: &accesslogv3.HTTPResponseProperties{ResponseCode: wrapperspb.UInt32(code), ResponseCodeDetails: details, ResponseHeadersBytes: 100, ResponseBodyBytes: 11},
		}
	}
	return &alsv3.StreamAccessLogsMessage{LogEntries: &alsv3.StreamAccessLogsMessage_HttpLogs{HttpLogs: &alsv3.StreamAccessLogsMessage_HTTPAccessLogEntries{LogEntry: []*accesslogv3.HTTPAccessLogEntry{
		entry(503, "upstream_reset_before_response_started", &accesslogv3.TLSProperties{TlsVersion: accesslogv3.TLSProperties_TLSv1_2, PeerCertificateProperties: certificate(appID)}),
		entry(403, "rbac_access_denied_matched_policy[none]", nil),
	}}}}
}

func TestStockEnvoy(t *testing.T) {
	ap := netip.MustParseAddrPort
	inbound := mesh.Connection{
		Direction: mesh.InboundDir, Source: ap("10.77.0.3:40000"), Destination: ap("10.77.0.9:8080"), Cluster: "inbound|8080||",
		Trace: mesh.TraceOf(nil, ap("10.77.0.3:40000"), ap("10.77.0.9:8080")), Start: began,
	}
	let := inbound
	let.Upstream, let.Local = ap("10.77.0.9:8080"), ap("127.0.0.6:41000")
	let.Protocol, let.Security, let.TLS, let.Cipher, let.LocalIdentity, let.PeerIdentity = mesh.TCP, mesh.MutualTLS, "1.3", "TLS_AES_256_GCM_SHA384", boardsID, appID
	let.Allowed, let.Received, let.Sent, let.LastSeen, let.End = true, 100, 2000, began.Add(3*time.Second), began.Add(3*time.Second)
	refused := inbound
	refused.Source, refused.Destination, refused.Trace = ap("[fd77::3]:40000"), ap("[fd77::9]:8080"), mesh.TraceOf(nil, ap("[fd77::3]:40000"), ap("[fd77::9]:8080"))
	refused.Protocol, refused.Security, refused.Why, refused.LastSeen, refused.End = mesh.TCP, mesh.Plaintext, "rbac_access_denied_matched_policy[none]", began, began
	failed := mesh.Connection{
		Direction: mesh.OutboundDir, Source: ap("10.77.0.9:50000"), Destination: ap("10.96.0.7:27017"), Upstream: ap("10.77.0.7:27017"), Local: ap("10.77.0.9:50001"),
		Trace: mesh.TraceOf(nil, ap("10.77.0.9:50001"), ap("10.77.0.7:27017")), Cluster: "outbound|27017||mongo.shop.svc.cluster.local", Service: "mongo.shop.svc.cluster.local",
		Protocol: mesh.TCP, Security: mesh.Unknown, Why: "Envoy's access log does not say what it spoke upstream", Allowed: true, Start: began, LastSeen: began,
		Failure: &mesh.Failure{Stage: "handshake", Reason: "other", Error: "TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:TLS_error_end", At: began},
	}
	asked := inbound
	asked.Protocol, asked.Security, asked.TLS, asked.PeerIdentity, asked.Allowed = mesh.HTTP, mesh.MutualTLS, "1.2", appID, true
	asked.Requests, asked.Errors, asked.Received, asked.Sent, asked.Why = 1, 1, 200, 111, "GET answered 503: upstream_reset_before_response_started"
	asked.LastSeen, asked.End = began.Add(time.Millisecond), began.Add(time.Millisecond)
	denied := asked
	denied.Security, denied.TLS, denied.PeerIdentity, denied.Allowed, denied.Errors, denied.Why = mesh.Plaintext, "", "", false, 0, "GET answered 403: rbac_access_denied_matched_policy[none]"
	for _, c := range []struct {
		name string
		m    *alsv3.StreamAccessLogsMessage
		want mesh.Report
	}{
		{"TCP", envoyTCP(), mesh.Report{Node: envoyID, Connections: []mesh.Connection{let, refused, failed}}},
		{"HTTP", envoyHTTP(), mesh.Report{Connections: []mesh.Connection{asked, denied}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := xds.DecodeReport(wire(t, c.m))
			if err != nil {
				t.Fatal(err)
			}
			ids := map[uint64]bool{}
			for i := range got.Connections {
				ids[got.Connections[i].ID] = true
				got.Connections[i].ID = 0
			}
			if d := cmp.Diff(&c.want, got, sameAddrs); d != "" {
				t.Error(d)
			}
			if want := map[string]int{"TCP": 3, "HTTP": 1}[c.name]; len(ids) != want { // the requests are of one stream
				t.Errorf("%d IDs", len(ids))
			}
		})
	}
}

// Another log sink reads our connections without knowing us.
func TestReportInEnvoysWords(t *testing.T) {
	ap := netip.MustParseAddrPort
	c := mesh.Connection{
		Trace: "0123456789abcdef", Direction: mesh.InboundDir, Source: ap("10.77.0.3:40000"), Destination: ap("10.77.0.9:8080"), Upstream: ap("127.0.0.1:8080"),
		Local: ap("127.0.0.1:41000"), Cluster: "inbound|8080||", Security: mesh.MutualTLS, TLS: "1.3", Cipher: "TLS_AES_256_GCM_SHA384", LocalIdentity: boardsID, PeerIdentity: appID,
		Sent: 7, Received: 5, Start: began, LastSeen: began.Add(time.Second), End: began.Add(2 * time.Second), Why: "not in the policy",
		Failure: &mesh.Failure{Stage: "policy", SNI: "boards"},
	}
	m, err := xds.EncodeReport(&mesh.Report{Node: "shop/boards-1", Connections: []mesh.Connection{c}})
	if err != nil {
		t.Fatal(err)
	}
	if id := m[0].GetIdentifier(); id.GetNode().GetId() != "shop/boards-1" || id.GetLogName() != "hasp" {
		t.Errorf("identifier %v", id)
	}
	got := m[0].GetTcpLogs().GetLogEntry()[0]
	got.CommonProperties.FilterStateObjects = nil
	want := &accesslogv3.TCPAccessLogEntry{
		CommonProperties: &accesslogv3.AccessLogCommon{
			DownstreamRemoteAddress: socket("10.77.0.3:40000"), DownstreamDirectRemoteAddress: socket("10.77.0.3:40000"), DownstreamLocalAddress: socket("10.77.0.9:8080"),
			UpstreamRemoteAddress: socket("127.0.0.1:8080"), UpstreamLocalAddress: socket("127.0.0.1:41000"), UpstreamCluster: "inbound|8080||",
			TlsProperties: &accesslogv3.TLSProperties{
				TlsVersion: accesslogv3.TLSProperties_TLSv1_3, TlsCipherSuite: wrapperspb.UInt32(0x1302), TlsSniHostname: "boards",
				LocalCertificateProperties: certificate(boardsID), PeerCertificateProperties: certificate(appID),
			},
			StartTime: timestamppb.New(began), Duration: durationpb.New(2 * time.Second), TimeToLastDownstreamTxByte: durationpb.New(time.Second),
			StreamId: "0123456789abcdef", DownstreamWireBytesSent: 7, DownstreamWireBytesReceived: 5, AccessLogType: accesslogv3.AccessLogType_TcpConnectionEnd,
			ConnectionTerminationDetails: "not in the policy",
			ResponseFlags:                &accesslogv3.ResponseFlags{UnauthorizedDetails: &accesslogv3.ResponseFlags_Unauthorized{Reason: accesslogv3.ResponseFlags_Unauthorized_EXTERNAL_SERVICE}},
		},
		ConnectionProperties: &accesslogv3.ConnectionProperties{SentBytes: 7, ReceivedBytes: 5},
	}
	if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
		t.Error(d)
	}
}
