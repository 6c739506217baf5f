package api

import (
	"fmt"
	"strings"

	networkingapi "istio.io/api/networking/v1alpha3"
	networking "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateGateway(g *networking.Gateway) field.ErrorList {
	var errs field.ErrorList
	spec := field.NewPath("spec")
	if g.Name != "" && len(validation.IsDNS1123Label(g.Name)) > 0 {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), g.Name, fmt.Sprintf("invalid gateway name: %q; VirtualServices refer to it, so no dots", g.Name)))
	}
	if len(g.Spec.Servers) == 0 {
		errs = append(errs, field.Required(spec.Child("servers"), "gateway must have at least one server; write its port and hosts"))
	}
	names := map[string]bool{}
	for i, s := range g.Spec.Servers {
		at := spec.Child("servers").Index(i)
		errs = append(errs, validateServer(at, s)...)
		if name := s.GetPort().GetName(); name != "" {
			if names[name] {
				errs = append(errs, field.Invalid(at.Child("port", "name"), name, fmt.Sprintf("port names in servers must be unique: duplicate name %s; rename one", name)))
			}
			names[name] = true
		}
	}
	return errs
}

func validateServer(p *field.Path, s *networkingapi.Server) field.ErrorList {
	var errs field.ErrorList
	if len(s.GetHosts()) == 0 {
		errs = append(errs, field.Required(p.Child("hosts"), `server config must contain at least one host; "*" serves all`))
	}
	for i, h := range s.GetHosts() {
		errs = append(errs, validateServerHost(p.Child("hosts").Index(i), h)...)
	}
	if b := s.GetBind(); b != "" && !isAddress(b) && !isUnix(b) {
		errs = append(errs, field.Invalid(p.Child("bind"), b, "must be an IP address"))
	}
	wrong := validateServerPort(p.Child("port"), s.GetPort(), isUnix(s.GetBind()))
	errs = append(errs, wrong...)
	errs = append(errs, validateServerTLS(p.Child("tls"), s.GetTls())...)
	if len(wrong) > 0 {
		return errs
	}
	return append(errs, validateServerProtocol(p, s)...)
}

// validateServerProtocol: TLS settings and a protocol with TLS go together.
func validateServerProtocol(p *field.Path, s *networkingapi.Server) field.ErrorList {
	protocol, tls := s.Port.Protocol, s.Tls
	switch {
	case isTLSProtocol(protocol) && tls == nil:
		return field.ErrorList{field.Required(p.Child("tls"), "server must have TLS settings for HTTPS/TLS protocols; write mode: SIMPLE and a credentialName")}
	case isTLSProtocol(protocol) || tls == nil:
		return nil
	case !isHTTPProtocol(protocol):
		return field.ErrorList{field.Forbidden(p.Child("tls"), "server cannot have TLS settings for non HTTPS/TLS ports; set port.protocol to HTTPS or TLS, or remove tls")}
	case tls.Mode != networkingapi.ServerTLSSettings_PASSTHROUGH && tls.Mode != networkingapi.ServerTLSSettings_AUTO_PASSTHROUGH || tls.CaCertificates != "" || tls.PrivateKey != "" || tls.ServerCertificate != "":
		return field.ErrorList{field.Forbidden(p.Child("tls"), "server cannot have TLS settings for plain text HTTP ports; only httpsRedirect is allowed, or set port.protocol to HTTPS")}
	}
	return nil
}

// validateServerHost checks HOST or NAMESPACE/HOST.
func validateServerHost(p *field.Path, h string) field.ErrorList {
	namespace, host, ok := strings.Cut(h, "/")
	if !ok {
		return validateHost(p, h)
	}
	if namespace != "*" && namespace != "." && len(validation.IsDNS1123Label(namespace)) > 0 {
		return field.ErrorList{field.Invalid(p, h, fmt.Sprintf("namespace %q must be a name, * or . for the gateway's own", namespace))}
	}
	return validateHost(p, host)
}

func validateServerPort(p *field.Path, port *networkingapi.Port, unix bool) field.ErrorList {
	if port == nil {
		return field.ErrorList{field.Required(p, "port is required, as in port: {number: 80, name: http, protocol: HTTP}")}
	}
	var errs field.ErrorList
	if !isProtocol(port.Protocol) {
		errs = append(errs, field.NotSupported(p.Child("protocol"), port.Protocol, protocols()))
	}
	if port.Number > 0 || !unix {
		errs = append(errs, validatePortNumber(p.Child("number"), port.Number)...)
	}
	if port.Name == "" {
		errs = append(errs, field.Required(p.Child("name"), "port name must be set, as in http"))
	}
	if port.TargetPort > 0 { //nolint:staticcheck // deprecated, and refused for that
		errs = append(errs, field.Forbidden(p.Child("targetPort"), "targetPort has no impact on Gateways; remove it"))
	}
	return errs
}

func validateServerTLS(p *field.Path, t *networkingapi.ServerTLSSettings) field.ErrorList {
	if t == nil {
		return nil
	}
	var errs field.ErrorList
	switch t.Mode {
	case networkingapi.ServerTLSSettings_ISTIO_MUTUAL:
		for _, f := range []struct{ name, value string }{
			{"serverCertificate", t.ServerCertificate}, {"privateKey", t.PrivateKey},
			{"caCertificates", t.CaCertificates}, {"credentialName", t.CredentialName},
		} {
			if f.value != "" {
				errs = append(errs, field.Forbidden(p.Child(f.name), "ISTIO_MUTUAL TLS uses the gateway's own mesh certificate; remove it"))
			}
		}
	case networkingapi.ServerTLSSettings_SIMPLE, networkingapi.ServerTLSSettings_MUTUAL, networkingapi.ServerTLSSettings_OPTIONAL_MUTUAL:
		if t.CredentialName == "" && len(t.CredentialNames) == 0 && len(t.TlsCertificates) == 0 {
			errs = append(errs, validateServerFiles(p, t)...)
		}
	}
	return errs
}

// validateServerFiles: without a secret, the certificate has to come from files.
func validateServerFiles(p *field.Path, t *networkingapi.ServerTLSSettings) field.ErrorList {
	var errs field.ErrorList
	mode := "MUTUAL"
	if t.Mode == networkingapi.ServerTLSSettings_SIMPLE {
		mode = "SIMPLE"
	}
	if t.ServerCertificate == "" {
		errs = append(errs, field.Required(p.Child("serverCertificate"), mode+" TLS requires a server certificate; write credentialName and the name of a TLS Secret, or a file"))
	}
	if t.PrivateKey == "" {
		errs = append(errs, field.Required(p.Child("privateKey"), mode+" TLS requires a private key; write credentialName and the name of a TLS Secret, or a file"))
	}
	if mode == "MUTUAL" && t.CaCertificates == "" && t.CaCertCredentialName == "" {
		errs = append(errs, field.Required(p.Child("caCertificates"), "MUTUAL TLS requires a client CA bundle; write credentialName and the name of a Secret with ca.crt, or a file"))
	}
	return errs
}
