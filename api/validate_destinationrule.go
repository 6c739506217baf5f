package api

import (
	"fmt"

	networkingapi "istio.io/api/networking/v1alpha3"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateDestinationRule(spec *field.Path, namespace string, s *networkingapi.DestinationRule) field.ErrorList {
	errs := validateHost(spec.Child("host"), s.Host)
	errs = append(errs, validateTrafficPolicy(spec.Child("trafficPolicy"), s.TrafficPolicy)...)
	names := map[string]bool{}
	for i, sub := range s.Subsets {
		at := spec.Child("subsets").Index(i)
		errs = append(errs, validateSubsetName(at.Child("name"), sub.GetName())...)
		if sub.GetName() != "" && names[sub.GetName()] {
			errs = append(errs, field.Invalid(at.Child("name"), sub.GetName(), fmt.Sprintf("duplicate subset names: %s; rename one", sub.GetName())))
		}
		names[sub.GetName()] = true
		errs = append(errs, validateLabels(at.Child("labels"), sub.GetLabels())...)
		errs = append(errs, validateTrafficPolicy(at.Child("trafficPolicy"), sub.GetTrafficPolicy())...)
	}
	errs = append(errs, validateExportTo(spec.Child("exportTo"), namespace, s.ExportTo, false)...)
	if s.WorkloadSelector != nil {
		errs = append(errs, validateSelector(spec.Child("workloadSelector", "matchLabels"), s.WorkloadSelector)...)
		errs = append(errs, validateSelectedExport(spec.Child("exportTo"), namespace, s.ExportTo)...)
	}
	return errs
}

// validateSelectedExport: a rule for some workloads of its namespace has no
// business in another one.
func validateSelectedExport(p *field.Path, namespace string, exportTo []string) field.ErrorList {
	for i, e := range exportTo {
		if e != "." && e != namespace {
			return field.ErrorList{field.Forbidden(p.Index(i), `destination rule with workload selector cannot have exportTo beyond current namespace; write "." or remove the selector`)}
		}
	}
	return nil
}

func validateSubsetName(p *field.Path, name string) field.ErrorList {
	switch {
	case name == "":
		return field.ErrorList{field.Required(p, "subset name cannot be empty; VirtualServices refer to it, as in v1")}
	case len(validation.IsDNS1123Label(name)) > 0:
		return field.ErrorList{field.Invalid(p, name, fmt.Sprintf("subset name is invalid: %s; write lower case letters, digits and dashes, as in v1", name))}
	}
	return nil
}

func validateTrafficPolicy(p *field.Path, t *networkingapi.TrafficPolicy) field.ErrorList {
	if t == nil {
		return nil
	}
	if t.OutlierDetection == nil && t.ConnectionPool == nil && t.LoadBalancer == nil && t.Tls == nil &&
		t.PortLevelSettings == nil && t.Tunnel == nil && t.ProxyProtocol == nil && t.RetryBudget == nil {
		return field.ErrorList{field.Required(p, "traffic policy must have at least one field, as in tls: {mode: ISTIO_MUTUAL}; or remove it")}
	}
	var errs field.ErrorList
	if t.Tunnel != nil && t.ProxyProtocol != nil {
		errs = append(errs, field.Forbidden(p, "tunnel and proxyProtocol must not be set together; keep one"))
	}
	errs = append(errs, validateSettings(p, t)...)
	for i, s := range t.PortLevelSettings {
		errs = append(errs, validatePortSettings(p.Child("portLevelSettings").Index(i), s)...)
	}
	return errs
}

// settings are what a traffic policy and an entry of its portLevelSettings share.
type settings interface {
	GetOutlierDetection() *networkingapi.OutlierDetection
	GetConnectionPool() *networkingapi.ConnectionPoolSettings
	GetLoadBalancer() *networkingapi.LoadBalancerSettings
	GetTls() *networkingapi.ClientTLSSettings
}

func validateSettings(p *field.Path, s settings) field.ErrorList {
	errs := validateClientTLS(p.Child("tls"), s.GetTls())
	errs = append(errs, validateConnectionPool(p.Child("connectionPool"), s.GetConnectionPool())...)
	errs = append(errs, validateOutlierDetection(p.Child("outlierDetection"), s.GetOutlierDetection())...)
	return append(errs, validateLoadBalancer(p.Child("loadBalancer"), s.GetLoadBalancer())...)
}

// validatePortSettings checks an entry of portLevelSettings, which replaces the
// whole traffic policy for its port.
func validatePortSettings(p *field.Path, s *networkingapi.TrafficPolicy_PortTrafficPolicy) field.ErrorList {
	var errs field.ErrorList
	if s.GetPort() == nil {
		errs = append(errs, field.Required(p.Child("port"), "portTrafficPolicy must have valid port; write a port of the service, as in port: {number: 8080}"))
	} else {
		errs = append(errs, validatePortNumber(p.Child("port", "number"), s.GetPort().GetNumber())...)
	}
	if s.GetOutlierDetection() == nil && s.GetConnectionPool() == nil && s.GetLoadBalancer() == nil && s.GetTls() == nil {
		return append(errs, field.Required(p, "port traffic policy must have at least one field, as in tls: {mode: DISABLE}; it replaces the whole policy for its port"))
	}
	return append(errs, validateSettings(p, s)...)
}

// validateClientTLS checks what a client speaks to a destination.
func validateClientTLS(p *field.Path, s *networkingapi.ClientTLSSettings) field.ErrorList {
	var errs field.ErrorList
	own := s.GetMode() == networkingapi.ClientTLSSettings_SIMPLE || s.GetMode() == networkingapi.ClientTLSSettings_MUTUAL
	if own && s.GetInsecureSkipVerify().GetValue() && (s.CaCertificates != "" || len(s.SubjectAltNames) > 0) {
		errs = append(errs, field.Forbidden(p.Child("insecureSkipVerify"), "cannot specify CaCertificates or SubjectAltNames when InsecureSkipVerify is set true; remove insecureSkipVerify to verify the server"))
	}
	if own && s.GetCredentialName() != "" {
		if s.ClientCertificate != "" || s.PrivateKey != "" || s.CaCertificates != "" || s.CaCrl != "" {
			errs = append(errs, field.Forbidden(p.Child("credentialName"), "cannot specify client certificates or CA certificate or CA CRL If credentialName is set; keep the files or the secret"))
		}
		return errs
	}
	if s.GetMode() == networkingapi.ClientTLSSettings_MUTUAL {
		if s.ClientCertificate == "" {
			errs = append(errs, field.Required(p.Child("clientCertificate"), "client certificate required for mutual tls; name a file, or use mode ISTIO_MUTUAL for the mesh's own certificates"))
		}
		if s.PrivateKey == "" {
			errs = append(errs, field.Required(p.Child("privateKey"), "private key required for mutual tls; name a file, or use mode ISTIO_MUTUAL for the mesh's own certificates"))
		}
	}
	return errs
}
