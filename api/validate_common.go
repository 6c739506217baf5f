package api

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	networkingapi "istio.io/api/networking/v1alpha3"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateHost checks a host name that may be "*" or start with "*.".
func validateHost(p *field.Path, host string) field.ErrorList {
	if host == "" {
		return field.ErrorList{field.Required(p, "write the name of a service, as in boards or boards.shop.svc.cluster.local; a wildcard is *.shop.svc.cluster.local")}
	}
	if host == "*" {
		return nil
	}
	rest := strings.TrimPrefix(host, "*.")
	if strings.Contains(rest, "*") {
		return field.ErrorList{field.Invalid(p, host, `a wildcard stands for whole labels at the front; write "*" alone, or "*." and the rest of the name`)}
	}
	return validateDNSName(p, host, rest)
}

// validateFQDN checks a host name without wildcards.
func validateFQDN(p *field.Path, host string) field.ErrorList {
	if host == "" {
		return field.ErrorList{field.Required(p, "write a host name")}
	}
	return validateDNSName(p, host, host)
}

// validateDNSName checks the labels of name; shown is what the user wrote.
func validateDNSName(p *field.Path, shown, name string) field.ErrorList {
	if len(shown) > 255 {
		return field.ErrorList{field.TooLong(p, shown, 255)}
	}
	labels := strings.Split(strings.TrimSuffix(name, "."), ".")
	for _, l := range labels {
		if len(validation.IsDNS1123Label(strings.ToLower(l))) > 0 {
			return field.ErrorList{field.Invalid(p, shown, fmt.Sprintf("domain name %q invalid (label %q invalid); labels are letters, digits and dashes between dots", shown, l))}
		}
	}
	if last := labels[len(labels)-1]; strings.Trim(last, "0123456789") == "" {
		return field.ErrorList{field.Invalid(p, shown, fmt.Sprintf("domain name %q invalid (top level domain %q cannot be all-numeric); write a name, not an address", shown, last))}
	}
	return nil
}

func isAddress(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

func validatePortNumber(p *field.Path, n uint32) field.ErrorList {
	if n < 1 || n > 65535 {
		return field.ErrorList{field.Invalid(p, n, fmt.Sprintf("port number %d must be in the range 1..65535", n))}
	}
	return nil
}

func validatePortName(p *field.Path, name string) field.ErrorList {
	if len(validation.IsDNS1123Label(name)) > 0 {
		return field.ErrorList{field.Invalid(p, name, fmt.Sprintf("invalid port name: %s; write lower case letters, digits and dashes, as in http-api", name))}
	}
	return nil
}

// protocols that Istio knows, in any case.
func protocols() []string {
	return []string{"GRPC", "GRPC-WEB", "HTTP", "HTTP2", "HTTPS", "HTTP_PROXY", "HBONE", "MONGO", "MYSQL", "REDIS", "TCP", "TLS", "UDP"}
}

func isProtocol(s string) bool { return slices.Contains(protocols(), strings.ToUpper(s)) }

// carriesHost: whether connections of the protocol name the host they are for.
func carriesHost(protocol string) bool {
	return isHTTPProtocol(protocol) || isTLSProtocol(protocol)
}

func isHTTPProtocol(s string) bool {
	return slices.Contains([]string{"GRPC", "GRPC-WEB", "HTTP", "HTTP2", "HTTP_PROXY"}, strings.ToUpper(s))
}

func isTLSProtocol(s string) bool {
	return slices.Contains([]string{"HTTPS", "TLS"}, strings.ToUpper(s))
}

// validateExportTo checks the namespaces that see an object: names, "." for its
// own, "*" for all, and "~" for nobody where that makes sense.
func validateExportTo(p *field.Path, namespace string, exportTo []string, nobody bool) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, e := range exportTo {
		at, key := p.Index(i), e
		if e == "." {
			key = namespace
		}
		switch {
		case seen[key] && key != e:
			errs = append(errs, field.Invalid(at, e, fmt.Sprintf("duplicate entries in exportTo: . and current namespace %s; keep one", namespace)))
		case seen[key]:
			errs = append(errs, field.Invalid(at, e, fmt.Sprintf("duplicate entries in exportTo for entry %s; keep one", e)))
		case e == "~" && nobody, e == "*", e == ".":
		case len(validation.IsDNS1123Label(e)) > 0:
			errs = append(errs, field.Invalid(at, e, `write the name of a namespace, "." for its own or "*" for all`))
		}
		seen[key] = true
	}
	switch {
	case seen["*"] && len(exportTo) > 1:
		errs = append(errs, field.Invalid(p, strings.Join(exportTo, ","), "cannot have both public (*) and non-public exportTo values for a resource; keep * or the namespaces"))
	case seen["~"] && nobody && len(exportTo) > 1:
		errs = append(errs, field.Invalid(p, strings.Join(exportTo, ","), "cannot export service entry to no one (~) and someone; keep ~ or the namespaces"))
	}
	return errs
}

// validateLabels checks labels as Kubernetes does.
func validateLabels(p *field.Path, labels map[string]string) field.ErrorList {
	var errs field.ErrorList
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		for _, wrong := range validation.IsQualifiedName(k) {
			errs = append(errs, field.Invalid(p, k, wrong))
		}
		for _, wrong := range validation.IsValidLabelValue(labels[k]) {
			errs = append(errs, field.Invalid(p.Key(k), labels[k], wrong))
		}
	}
	return errs
}

func validateDuration(p *field.Path, d *durationpb.Duration) field.ErrorList {
	switch {
	case d == nil:
		return nil
	case d.AsDuration() < time.Millisecond:
		return field.ErrorList{field.Invalid(p, d.AsDuration().String(), "duration must be greater than 1ms")}
	case d.AsDuration()%time.Millisecond != 0:
		return field.ErrorList{field.Invalid(p, d.AsDuration().String(), "only durations to ms precision are supported")}
	}
	return nil
}

// validateShare checks a percentage that may have a fraction.
func validateShare(p *field.Path, s *networkingapi.Percent) field.ErrorList {
	if v := s.GetValue(); v < 0 || v > 100 || v > 0 && v < 0.0001 {
		return field.ErrorList{field.Invalid(p.Child("value"), v, fmt.Sprintf("percentage %v is neither 0.0, nor in range [0.0001, 100.0]", v))}
	}
	return nil
}

func validatePercent(p *field.Path, n int32) field.ErrorList {
	if n < 0 || n > 100 {
		return field.ErrorList{field.Invalid(p, n, fmt.Sprintf("percentage %d is not in range 0..100", n))}
	}
	return nil
}

// notNegative checks counts, in pairs of a field's name and its value.
func notNegative(p *field.Path, counts map[string]int32) field.ErrorList {
	var errs field.ErrorList
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		if counts[name] < 0 {
			errs = append(errs, field.Invalid(p.Child(name), counts[name], "must be non-negative"))
		}
	}
	return errs
}
