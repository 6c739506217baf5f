package xds

import (
	"fmt"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// SDS secrets that a proxy gets from its own agent and not from the control
// plane: its SVID, the roots, and files (Istio's names).
const (
	ownCert        = "default"
	meshRoots      = "ROOTCA"
	fileRootPrefix = "file-root:"
	fileCertPrefix = "file-cert:" // then CERTIFICATE~KEY
	caSuffix       = "-cacert"    // of a gateway's secret: what signs its clients

	agentCluster = "sds-grpc" // in the bootstrap of Istio's proxies
	tlsSocket    = "envoy.transport_sockets.tls"
	rawSocket    = "envoy.transport_sockets.raw_buffer"
)

// alpnIstio is what proxies of the mesh say to each other in the handshake, by
// which PERMISSIVE tells them from an application's own TLS.
const alpnIstio = "istio"

// tlsShape is what our TLS contexts differ in, to both sides.
type tlsShape struct {
	cert     string   // SDS secret; empty presents none
	roots    string   // SDS secret; empty verifies nothing
	sans     []string // one of which the peer must present, if any are given
	noVerify bool     // take any certificate
	alpn     []string
}

func (s tlsShape) context(minTLS string) *tlsv3.CommonTlsContext {
	out := &tlsv3.CommonTlsContext{TlsParams: tlsParams(minTLS), AlpnProtocols: s.alpn}
	if s.cert != "" {
		out.TlsCertificateSdsSecretConfigs = []*tlsv3.SdsSecretConfig{sdsSecret(s.cert)}
	}
	if s.noVerify {
		out.ValidationContextType = &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
			TrustChainVerification: tlsv3.CertificateValidationContext_ACCEPT_UNTRUSTED,
		}}
		return out
	}
	if s.roots == "" {
		return out
	}
	// match_subject_alt_names is deprecated, but it is what Istio sends and the
	// only one that gRPC reads.
	checks := new(tlsv3.CertificateValidationContext)
	for _, san := range s.sans {
		checks.MatchSubjectAltNames = append(checks.MatchSubjectAltNames, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: san}})
	}
	out.ValidationContextType = &tlsv3.CommonTlsContext_CombinedValidationContext{CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
		DefaultValidationContext: checks, ValidationContextSdsSecretConfig: sdsSecret(s.roots),
	}}
	return out
}

// tlsParams carries the minimum for Envoy; our proxy reads it from hasp.proxy.
func tlsParams(minTLS string) *tlsv3.TlsParameters {
	switch minTLS {
	case "":
		return nil
	case "1.2":
		return &tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2}
	}
	return &tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_3}
}

func sdsSecret(name string) *tlsv3.SdsSecretConfig {
	source := adsSource()
	if !fromControlPlane(name) {
		source = agentSource()
	}
	return &tlsv3.SdsSecretConfig{Name: name, SdsConfig: source}
}

// fromControlPlane: the secrets of gateways, which Istio names after their kind
// of store, kubernetes://NAME.
func fromControlPlane(name string) bool {
	switch {
	case name == ownCert, name == meshRoots, strings.HasPrefix(name, fileRootPrefix), strings.HasPrefix(name, fileCertPrefix):
		return false
	}
	return true
}

func adsSource() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		ResourceApiVersion:    corev3.ApiVersion_V3,
	}
}

func agentSource() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_ApiConfigSource{ApiConfigSource: &corev3.ApiConfigSource{
			ApiType: corev3.ApiConfigSource_GRPC, TransportApiVersion: corev3.ApiVersion_V3, SetNodeOnFirstMessageOnly: true,
			GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: agentCluster}}}},
		}},
		InitialFetchTimeout: durationpb.New(0),
		ResourceApiVersion:  corev3.ApiVersion_V3,
	}
}

func tlsTransport(m message) (*corev3.TransportSocket, error) {
	body, err := pack(m)
	if err != nil {
		return nil, err
	}
	return &corev3.TransportSocket{Name: tlsSocket, ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: body}}, nil
}

// downstream is the server's side.
func downstream(s tlsShape, minTLS string, requireClient bool) (*corev3.TransportSocket, error) {
	m := &tlsv3.DownstreamTlsContext{CommonTlsContext: s.context(minTLS)}
	if requireClient {
		m.RequireClientCertificate = wrapperspb.Bool(true)
	}
	return tlsTransport(m)
}

// readDownstream is the reverse of downstream.
func readDownstream(ts *corev3.TransportSocket) (s tlsShape, requireClient bool, err error) {
	m := new(tlsv3.DownstreamTlsContext)
	if err := readTransport(ts, m); err != nil {
		return s, false, err
	}
	if err := only(m, "common_tls_context", "require_client_certificate"); err != nil {
		return s, false, err
	}
	s, err = readContext(m.GetCommonTlsContext())
	return s, m.GetRequireClientCertificate().GetValue(), err
}

func readTransport(ts *corev3.TransportSocket, into message) error {
	if err := only(ts, "name", "typed_config"); err != nil {
		return err
	}
	return unpack(ts.GetTypedConfig(), into)
}

func readContext(m *tlsv3.CommonTlsContext) (tlsShape, error) {
	s := tlsShape{alpn: m.GetAlpnProtocols()}
	if err := only(m, "tls_params", "alpn_protocols", "tls_certificate_sds_secret_configs", "validation_context", "combined_validation_context"); err != nil {
		return s, fmt.Errorf("common_tls_context: %w", err)
	}
	switch certs := m.GetTlsCertificateSdsSecretConfigs(); len(certs) {
	case 0:
	case 1:
		s.cert = certs[0].GetName()
	default:
		return s, fmt.Errorf("common_tls_context: %d tls_certificate_sds_secret_configs are not supported, one is", len(certs))
	}
	if v := m.GetValidationContext(); v != nil {
		s.noVerify = v.GetTrustChainVerification() == tlsv3.CertificateValidationContext_ACCEPT_UNTRUSTED
		if err := only(v, "trust_chain_verification"); err != nil || !s.noVerify {
			return s, fmt.Errorf("common_tls_context: validation_context is not supported but to accept any certificate")
		}
	}
	if v := m.GetCombinedValidationContext(); v != nil {
		if err := only(v, "default_validation_context", "validation_context_sds_secret_config"); err != nil {
			return s, fmt.Errorf("combined_validation_context: %w", err)
		}
		s.roots = v.GetValidationContextSdsSecretConfig().GetName()
		checks := v.GetDefaultValidationContext()
		if err := only(checks, "match_subject_alt_names"); err != nil {
			return s, fmt.Errorf("default_validation_context: %w", err)
		}
		for i, san := range checks.GetMatchSubjectAltNames() {
			if err := only(san, "exact"); err != nil {
				return s, fmt.Errorf("match_subject_alt_names[%d]: %w", i, err)
			}
			s.sans = append(s.sans, san.GetExact())
		}
	}
	return s, nil
}
