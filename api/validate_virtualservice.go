package api

import (
	"fmt"
	"slices"
	"strings"

	networkingapi "istio.io/api/networking/v1alpha3"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// meshGateway is the name under which a VirtualService binds to sidecars.
const meshGateway = "mesh"

func validateVirtualService(spec *field.Path, namespace string, s *networkingapi.VirtualService) field.ErrorList {
	errs := validateRouteHosts(spec.Child("hosts"), s)
	errs = append(errs, validateGatewayNames(spec.Child("gateways"), s.Gateways)...)
	if len(s.Http) == 0 && len(s.Tcp) == 0 && len(s.Tls) == 0 {
		errs = append(errs, field.Required(spec.Child("http"), "http, tcp or tls must be provided in virtual service"))
	}
	for i, r := range s.Http {
		errs = append(errs, validateHTTPRoute(spec.Child("http").Index(i), r)...)
	}
	for i, r := range s.Tls {
		errs = append(errs, validateTLSRoute(spec.Child("tls").Index(i), r)...)
	}
	for i, r := range s.Tcp {
		errs = append(errs, validateTCPRoute(spec.Child("tcp").Index(i), r)...)
	}
	return append(errs, validateExportTo(spec.Child("exportTo"), namespace, s.ExportTo, false)...)
}

func validateRouteHosts(p *field.Path, s *networkingapi.VirtualService) field.ErrorList {
	if len(s.Hosts) == 0 {
		return field.ErrorList{field.Required(p, "virtual service must have at least one host; hasp does not support delegates yet")}
	}
	var errs field.ErrorList
	inMesh := len(s.Gateways) == 0 || slices.Contains(s.Gateways, meshGateway)
	for i, h := range s.Hosts {
		at := p.Index(i)
		switch {
		case isAddress(h):
		case h == "*" && inMesh:
			errs = append(errs, field.Invalid(at, h, "wildcard host * is not allowed for virtual services bound to the mesh gateway; name hosts, or bind it to gateways only"))
		default:
			errs = append(errs, validateHost(at, h)...)
		}
	}
	if len(errs) > 0 {
		return errs
	}
	for i, a := range s.Hosts {
		for j, b := range s.Hosts[i+1:] {
			if overlap(a, b) {
				errs = append(errs, field.Invalid(p.Index(i+1+j), b, fmt.Sprintf("duplicate hosts in virtual service: %s & %s; keep one", a, b)))
			}
		}
	}
	return errs
}

// overlap: whether some host matches both patterns.
func overlap(a, b string) bool {
	suffixA, wildA := strings.CutPrefix(a, "*")
	suffixB, wildB := strings.CutPrefix(b, "*")
	switch {
	case wildA && wildB:
		return strings.HasSuffix(suffixA, suffixB) || strings.HasSuffix(suffixB, suffixA)
	case wildA:
		return strings.HasSuffix(b, suffixA)
	case wildB:
		return strings.HasSuffix(a, suffixB)
	}
	return a == b
}

// validateGatewayNames checks NAME, NAMESPACE/NAME, "mesh" or, as Istio once
// had it, NAME.NAMESPACE.svc.cluster.local.
func validateGatewayNames(p *field.Path, names []string) field.ErrorList {
	var errs field.ErrorList
	for i, n := range names {
		namespace, name, ok := strings.Cut(n, "/")
		if !ok {
			errs = append(errs, validateFQDN(p.Index(i), n)...)
			continue
		}
		if len(validation.IsDNS1123Label(namespace)) > 0 || len(validation.IsDNS1123Label(name)) > 0 {
			errs = append(errs, field.Invalid(p.Index(i), n, "must be GATEWAY or NAMESPACE/GATEWAY"))
		}
	}
	return errs
}

func validateDestination(p *field.Path, d *networkingapi.Destination) field.ErrorList {
	if d == nil {
		return field.ErrorList{field.Required(p, "destination is required, as in destination: {host: boards}")}
	}
	var errs field.ErrorList
	if d.Host == "*" {
		errs = append(errs, field.Invalid(p.Child("host"), d.Host, "invalid destination host *; name one service"))
	} else {
		errs = append(errs, validateHost(p.Child("host"), d.Host)...)
	}
	if d.Subset != "" {
		errs = append(errs, validateSubsetName(p.Child("subset"), d.Subset)...)
	}
	if d.Port != nil {
		errs = append(errs, validatePortNumber(p.Child("port", "number"), d.Port.Number)...)
	}
	return errs
}

// weighted is a destination of a route and its share.
type weighted interface {
	GetDestination() *networkingapi.Destination
	GetWeight() int32
}

func validateDestinations[W weighted](p *field.Path, routes []W) field.ErrorList {
	var errs field.ErrorList
	var total int64
	for i, r := range routes {
		at := p.Index(i)
		errs = append(errs, validateDestination(at.Child("destination"), r.GetDestination())...)
		if r.GetWeight() < 0 {
			errs = append(errs, field.Invalid(at.Child("weight"), r.GetWeight(), fmt.Sprintf("weight %d < 0", r.GetWeight())))
		}
		total += int64(r.GetWeight())
	}
	if len(routes) > 1 && total == 0 {
		errs = append(errs, field.Invalid(p, total, "total destination weight = 0; give each destination its share in weight"))
	}
	return errs
}

func validateTLSRoute(p *field.Path, r *networkingapi.TLSRoute) field.ErrorList {
	var errs field.ErrorList
	if len(r.GetMatch()) == 0 {
		errs = append(errs, field.Required(p.Child("match"), "TLS route must have at least one match condition, as in sniHosts: [example.com]"))
	}
	for i, m := range r.GetMatch() {
		at := p.Child("match").Index(i)
		if len(m.GetSniHosts()) == 0 {
			errs = append(errs, field.Required(at.Child("sniHosts"), "TLS match must have at least one SNI host"))
		}
		for j, h := range m.GetSniHosts() {
			errs = append(errs, validateHost(at.Child("sniHosts").Index(j), h)...)
		}
	}
	if len(r.GetRoute()) == 0 {
		errs = append(errs, field.Required(p.Child("route"), "TLS route is required"))
	}
	return append(errs, validateDestinations(p.Child("route"), r.GetRoute())...)
}

func validateTCPRoute(p *field.Path, r *networkingapi.TCPRoute) field.ErrorList {
	var errs field.ErrorList
	if len(r.GetRoute()) == 0 {
		errs = append(errs, field.Required(p.Child("route"), "TCP route is required"))
	}
	return append(errs, validateDestinations(p.Child("route"), r.GetRoute())...)
}
