package api

import (
	"slices"
	"strings"

	networkingapi "istio.io/api/networking/v1alpha3"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func (w *warner) destinationRule(spec *field.Path, s *networkingapi.DestinationRule) {
	w.trafficPolicy(spec.Child("trafficPolicy"), s.TrafficPolicy)
	for i, sub := range s.Subsets {
		w.trafficPolicy(spec.Child("subsets").Index(i).Child("trafficPolicy"), sub.GetTrafficPolicy())
	}
}

func (w *warner) trafficPolicy(p *field.Path, t *networkingapi.TrafficPolicy) {
	w.clientTLS(p.Child("tls"), t.GetTls())
	// Not loadBalancer: what is spread otherwise still arrives, and the old rules
	// of the lab have it.
	w.notApplied(p, []part{
		{"connectionPool", t.GetConnectionPool() != nil},
		{"outlierDetection", t.GetOutlierDetection() != nil},
		{"retryBudget", t.GetRetryBudget() != nil},
		{"tunnel", t.GetTunnel() != nil},
		{"proxyProtocol", t.GetProxyProtocol() != nil},
	})
	for i, s := range t.GetPortLevelSettings() {
		at := p.Child("portLevelSettings").Index(i)
		w.clientTLS(at.Child("tls"), s.GetTls())
		if t.Tls != nil && s.GetTls() == nil {
			w.add(at, "replaces the whole policy for port %d: the tls above it does not hold there; repeat it if it should", s.GetPort().GetNumber())
		}
	}
}

// part is a field of an object that hasp keeps and does nothing with.
type part struct {
	name    string
	written bool
}

func (w *warner) notApplied(p *field.Path, parts []part) {
	for _, f := range parts {
		if f.written {
			w.add(p.Child(f.name), "hasp does not apply it yet")
		}
	}
}

func (w *warner) clientTLS(p *field.Path, t *networkingapi.ClientTLSSettings) {
	if t.GetCaCrl() != "" {
		w.add(p.Child("caCrl"), "hasp does not read revocation lists yet; a revoked certificate is taken")
	}
	switch t.GetMode() {
	case networkingapi.ClientTLSSettings_ISTIO_MUTUAL:
		if t.ClientCertificate != "" || t.PrivateKey != "" || t.CaCertificates != "" || t.CredentialName != "" {
			w.add(p, "ISTIO_MUTUAL uses the mesh's own certificates; those named here are ignored")
		}
	case networkingapi.ClientTLSSettings_SIMPLE, networkingapi.ClientTLSSettings_MUTUAL:
		switch {
		case t.CredentialName != "":
			w.add(p.Child("credentialName"), "hasp reads certificates of clients from files only yet; name them")
		case t.GetInsecureSkipVerify().GetValue():
			w.add(p.Child("insecureSkipVerify"), "the server is not verified: anybody on the way can answer")
		case t.CaCertificates == "":
			w.add(p.Child("caCertificates"), "not set: the server is verified by the system's own authorities")
		}
	}
}

func (w *warner) gateway(spec *field.Path, s *networkingapi.Gateway) {
	for i, server := range s.Servers {
		at := spec.Child("servers").Index(i)
		protocol := server.GetPort().GetProtocol()
		switch strings.ToUpper(protocol) {
		case "HTTP", "HTTP2", "GRPC", "HTTPS":
		default:
			w.add(at.Child("port", "protocol"), "hasp's gateway serves HTTP and HTTPS; it will not listen for %s", protocol)
		}
		if v := server.GetTls().GetMinProtocolVersion(); v > networkingapi.ServerTLSSettings_TLSV1_2 {
			w.add(at.Child("tls", "minProtocolVersion"), "hasp does not apply it yet; the gateway takes TLS 1.2 and newer")
		}
		if server.GetTls().GetHttpsRedirect() && !isHTTPProtocol(protocol) {
			w.add(at.Child("tls", "httpsRedirect"), "tls.httpsRedirect should only be used with http servers")
		}
	}
}

// virtualService says which parts of a VirtualService are kept and not applied.
func (w *warner) virtualService(spec *field.Path, s *networkingapi.VirtualService) {
	if atGateways := slices.DeleteFunc(slices.Clone(s.Gateways), func(g string) bool { return g == meshGateway }); len(atGateways) == 0 {
		w.add(spec, "hasp applies VirtualServices at gateways only yet; this one names none")
		return
	}
	for i, r := range s.Http {
		at := spec.Child("http").Index(i)
		w.notApplied(at, []part{
			{"redirect", r.GetRedirect() != nil},
			{"directResponse", r.GetDirectResponse() != nil},
			{"delegate", r.GetDelegate() != nil},
			{"fault", r.GetFault() != nil},
			{"retries", r.GetRetries() != nil},
			{"timeout", r.GetTimeout() != nil},
			{"mirror", r.GetMirror() != nil},
			{"mirrors", len(r.GetMirrors()) > 0},
			{"corsPolicy", r.GetCorsPolicy() != nil},
			{"headers", r.GetHeaders() != nil},
		})
		if r.GetRewrite().GetAuthority() != "" {
			w.add(at.Child("rewrite", "authority"), "hasp does not apply it yet")
		}
		for j, d := range r.Route {
			if d.GetHeaders() != nil {
				w.add(at.Child("route").Index(j).Child("headers"), "hasp does not apply it yet")
			}
		}
	}
	if len(s.Tcp) > 0 {
		w.add(spec.Child("tcp"), "hasp does not apply it yet")
	}
	if len(s.Tls) > 0 {
		w.add(spec.Child("tls"), "hasp does not apply it yet")
	}
}
